"""Run the examples of a page in order and compare them with the output it shows.

A block without output below it must print nothing.
"""

import contextlib
import io
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_RUN = ("sh", "python")
_SHOWN = ("text", "json", "http")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:Z|\+00:00)")
_ANYTHING = "…"
_END = "the block has ended with status"


class DifferenceError(AssertionError):
    """A block printed something else than its page shows."""


def examples(page: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield each block that is run: language, code, and its output's kind and text."""
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    for index, (language, code) in enumerate(found):
        if language in _RUN:
            kind, shown = found[index + 1] if index + 1 < len(found) else ("", "")
            yield language, code, *((kind, shown) if kind in _SHOWN else ("", ""))
        else:
            assert language in _SHOWN, f"{page.name}: a block of {language!r}"


class Shells:
    """A bash and a Python, in which one block finds what those before it have left."""

    def __init__(self, replaced: Mapping[str, str], environ: Mapping[str, str]) -> None:
        self._replaced = replaced
        self._bash = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(environ),
        )
        self._names: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bash.kill()
        self._bash.communicate()

    def run(self, language: str, code: str) -> str:
        """Return what the block printed, with this machine's words put back."""
        for on_the_page, here in self._replaced.items():
            code = code.replace(on_the_page, here)
        output = self._sh(code) if language == "sh" else self._python(code)
        for on_the_page, here in self._replaced.items():
            output = output.replace(here, on_the_page)
        return output

    def _sh(self, code: str) -> str:
        assert self._bash.stdin
        assert self._bash.stdout
        self._bash.stdin.write(f'{code}\nprintf "\\n{_END} %d\\n" $?\n')
        self._bash.stdin.flush()
        printed = ""
        for line in self._bash.stdout:
            if line.startswith(_END):
                assert line.split()[-1] == "0", f"{code}\nfailed:\n{printed}"
                return printed
            printed += line
        raise AssertionError(f"{code}\nhas ended the shell:\n{printed}")

    def _python(self, code: str) -> str:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(code, "<page>", "exec"), self._names)
        return output.getvalue()


def check(page: Path, shells: Shells) -> int:
    """Run every block of the page; return how many. Raise DifferenceError."""
    count = 0
    for language, code, kind, shown in examples(page):
        printed = shells.run(language, code)
        if not matches(kind, shown, printed):
            raise DifferenceError(
                f"{page.name}:\n{code}\nshows:\n{shown}\nand is:\n{printed}"
            )
        count += 1
    return count


def matches(kind: str, shown: str, printed: str) -> bool:
    """Return whether what was printed is what is shown.

    `…` stands for anything, and a time for any time. JSON may be laid out in another
    way; of an answer's headers those that are shown must be there, and may be more.
    """
    if kind == "json":
        return _is_json(shown, printed)
    if kind == "http":
        return _is_answer(shown, printed)
    return _is_text(shown.strip(), printed.strip())


def _is_text(shown: str, printed: str) -> bool:
    pattern = _TIME.sub(_ANYTHING, re.sub(r" +$", "", shown, flags=re.MULTILINE))
    found = re.sub(r" +$", "", printed, flags=re.MULTILINE)
    pieces = [re.escape(piece) for piece in pattern.split(_ANYTHING)]
    return re.fullmatch("[^\n]*".join(pieces), found) is not None


def _is_json(shown: str, printed: str) -> bool:
    try:
        return _is_same(json.loads(shown), json.loads(printed))
    except ValueError:
        return False


def _is_same(shown: object, found: object) -> bool:
    if isinstance(shown, dict) and isinstance(found, dict):
        return shown.keys() == found.keys() and all(
            _is_same(value, found[name]) for name, value in shown.items()
        )
    if isinstance(shown, list) and isinstance(found, list):
        return len(shown) == len(found) and all(map(_is_same, shown, found))
    if isinstance(shown, str) and isinstance(found, str):
        return _is_text(shown, found)
    return type(shown) is type(found) and shown == found


def _is_answer(shown: str, printed: str) -> bool:
    wanted, _, body = shown.partition("\n\n")
    got, _, content = printed.replace("\r\n", "\n").lstrip("\n").partition("\n\n")
    first, *headers = wanted.strip().splitlines()
    status, *found = got.strip().splitlines()
    return (
        _is_text(first, status)
        and all(any(_is_text(each, line) for line in found) for each in headers)
        and (_is_json(body, content) if body.strip() else not content.strip())
    )
