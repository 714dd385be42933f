"""The language of a Pub/Sub subscription's filter, as far as it is documented.

Lives here: from the text of a filter to a yes or no about attributes. Not here: who
asks (`pubsub_backlog.py`). Surprise: AND and OR stand side by side only with
parentheses around one of them, and a key with a dot or a slash needs quotes.
"""

import json
import re
from collections.abc import Callable, Mapping

Filter = Callable[[Mapping[str, str]], bool]

LONGEST = 256  # bytes
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[A-Za-z_][A-Za-z0-9_-]*|!=|[-().,:=])')
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class BadFilterError(ValueError):
    """The text is no filter."""


def parsed(text: str) -> Filter:
    """Answer what tells whether attributes match; raises BadFilterError."""
    if len(text.encode()) > LONGEST:
        raise BadFilterError(f"a filter has at most {LONGEST} bytes")
    if not text.strip():
        return lambda _: True
    reader = _Reader(text)
    found = reader.expression()
    reader.end()
    return found


class _Reader:
    """Reads one filter, from left to right."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        place, text = 0, text.rstrip()
        while place < len(text):
            token = _TOKEN.match(text, place)
            if token is None:
                raise BadFilterError(f"cannot read {text[place:]!r}")
            self._tokens.append(token[1])
            place = token.end()
        self._tokens.reverse()  # the next one is the last

    def expression(self) -> Filter:
        """Read terms joined by either AND or OR."""
        terms = [self._term()]
        word = self._peek()
        if word not in ("AND", "OR"):
            return terms[0]
        while self._peek() == word:
            self._next()
            terms.append(self._term())
        if self._peek() in ("AND", "OR"):
            raise BadFilterError("AND and OR need parentheses between them")
        every = all if word == "AND" else any
        return lambda attributes: every(term(attributes) for term in terms)

    def end(self) -> None:
        """Raise BadFilterError when there is more."""
        if self._tokens:
            raise BadFilterError(f"{self._peek()!r} is one too many")

    def _term(self) -> Filter:
        token = self._next()
        if token in ("NOT", "-"):
            term = self._term()
            return lambda attributes: not term(attributes)
        if token == "(":
            inner = self.expression()
            self._expect(")")
            return inner
        if token == "hasPrefix":
            self._expect("(", "attributes", ".")
            key = self._key()
            self._expect(",")
            start = self._text()
            self._expect(")")
            return lambda attributes: attributes.get(key, "").startswith(start)
        if token == "attributes":
            return self._comparison()
        raise BadFilterError(f"{token!r} starts no term")

    def _comparison(self) -> Filter:
        sign = self._next()
        key = self._key()
        if sign == ":":
            return lambda attributes: key in attributes
        if sign != ".":
            raise BadFilterError(f"{sign!r} after attributes")
        comparison = self._next()
        value = self._text()
        if comparison == "=":
            return lambda attributes: attributes.get(key) == value
        if comparison == "!=":
            return lambda attributes: attributes.get(key) != value
        raise BadFilterError(f"{comparison!r} compares nothing")

    def _key(self) -> str:
        token = self._next()
        return token if _NAME.fullmatch(token) else _unquoted(token)

    def _text(self) -> str:
        return _unquoted(self._next())

    def _peek(self) -> str:
        return self._tokens[-1] if self._tokens else ""

    def _next(self) -> str:
        if not self._tokens:
            raise BadFilterError("it ends too early")
        return self._tokens.pop()

    def _expect(self, *tokens: str) -> None:
        for token in tokens:
            if (found := self._next()) != token:
                raise BadFilterError(f"{found!r} where {token!r} is due")


def _unquoted(token: str) -> str:
    if not token.startswith('"'):
        raise BadFilterError(f"{token!r} needs quotes")
    try:
        return str(json.loads(token))
    except ValueError:
        raise BadFilterError(f"cannot read {token!r}") from None
