"""Who is at the console, and whether a form that comes back is one of ours.

Lives here: identity-aware access's signed header, the roles, tokens of forms. Not here:
what an operator may do (`console_actions.py`). Surprise: a form's token is signed with
a random value that only that browser's cookie holds; instances share no secret.
"""

import base64
import functools
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from msgspec import Struct

from common.console_settings import Console
from common.errors import ForbiddenError, UnauthenticatedError
from common.identity import Headers
from common.schemas import encode, parse_uuid

ISSUER = "https://cloud.google.com/iap"
LEEWAY_SECONDS = 30
KEYS_SECONDS = 3600.0
# An unknown key asks anew, but not at every request of whoever makes keys up.
REFRESH_SECONDS = 30.0
FETCH_SECONDS = 5.0
FORM_SECONDS = 1800


class Operator(Struct, frozen=True):
    """Who is at the console; `id` stands for the address in an order's history."""

    email: str
    may_act: bool

    @property
    def id(self) -> UUID:
        """Answer the same id for the same address, always."""
        return operator_id(self.email)


def operator_id(email: str) -> UUID:
    """Answer the id that stands for an operator's address."""
    return uuid5(NAMESPACE_URL, f"mailto:{email}")


class Keys:
    """Public keys by id, fetched from `url` and kept. Safe to share between threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._keys: dict[str, Any] = {}
        self._fetched_at: float | None = None

    def find(self, key_id: str) -> Any:  # noqa: ANN401 whatever PyJWT takes
        """Answer the key; raises UnauthenticatedError where there is none."""
        with self._lock:
            age = (
                None
                if self._fetched_at is None
                else time.monotonic() - self._fetched_at
            )
            is_due = age is None or age > KEYS_SECONDS
            if not is_due and key_id not in self._keys:
                is_due = age is not None and age > REFRESH_SECONDS
            if is_due:
                self._fetch()
            if key_id not in self._keys:
                raise UnauthenticatedError("The assertion is signed by nobody known.")
            return self._keys[key_id]

    def _fetch(self) -> None:
        """Replace the keys; those there are stay good while no others can be had."""
        import jwt  # noqa: PLC0415 with cryptography, and only where it verifies
        import requests  # noqa: PLC0415 as well

        try:
            reply = requests.get(self._url, timeout=FETCH_SECONDS)
            reply.raise_for_status()
            found = jwt.PyJWKSet.from_dict(reply.json())
        except (requests.RequestException, ValueError, jwt.PyJWTError) as error:
            if not self._keys:
                raise UnauthenticatedError("Keys cannot be had right now.") from error
            # Not at every request: each would wait for whoever does not answer.
            self._fetched_at = time.monotonic() - KEYS_SECONDS + REFRESH_SECONDS
            return
        self._keys = {str(key.key_id): key.key for key in found.keys}
        self._fetched_at = time.monotonic()


@functools.cache
def keys_at(url: str) -> Keys:
    """Answer the keys of an address, the same ones each time."""
    return Keys(url)


def identify(headers: Headers, console: Console) -> Operator:
    """Answer who is at the console.

    Raises UnauthenticatedError where nobody vouches for the caller, ForbiddenError for
    somebody who is neither an operator nor a viewer.
    """
    if console.identity == "iap":
        keys = keys_at(console.iap_keys_url)
        email = _from_assertion(headers, console.iap_audience, keys)
    else:
        email = (headers.get("X-Ops-Operator") or "").strip().lower()
        if not re.fullmatch(r"[^\s@]+@[^\s@]+", email):
            raise UnauthenticatedError("X-Ops-Operator must be an e-mail address.")
    if email in console.viewers:
        return Operator(email, may_act=False)
    if console.operators is not None and email not in console.operators:
        raise ForbiddenError(f"{email} is neither an operator nor a viewer here.")
    return Operator(email, may_act=True)


def _from_assertion(headers: Headers, audience: str, keys: Keys) -> str:
    import jwt  # noqa: PLC0415 with cryptography, and only where it verifies

    assertion = headers.get("X-Goog-IAP-JWT-Assertion")
    if not assertion:
        raise UnauthenticatedError("Identity-aware access vouches for nobody here.")
    try:
        key_id = jwt.get_unverified_header(assertion).get("kid")
        claims = jwt.decode(
            assertion,
            keys.find(str(key_id)),
            algorithms=["ES256"],
            audience=audience,
            issuer=ISSUER,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iat", "aud", "iss", "sub", "email"]},
        )
    except jwt.PyJWTError as error:
        raise UnauthenticatedError("The assertion is not valid.") from error
    email = claims["email"]
    if not isinstance(email, str) or "@" not in email:
        raise UnauthenticatedError("The assertion names no address.")
    # An external identity's comes with its provider before it.
    return email.rpartition(":")[2].strip().lower()


# Forms


def new_cookie() -> str:
    """Answer a browser's secret, with which tokens of its forms are signed."""
    return secrets.token_urlsafe(32)


def is_cookie(value: str | None) -> bool:
    """Tell whether a cookie is one that `new_cookie` could have made."""
    return value is not None and bool(re.fullmatch(r"[A-Za-z0-9_-]{43}", value))


class Form(Struct, frozen=True):
    """What a token is good for: this action with these values, by this operator."""

    email: str
    action: str
    values: Mapping[str, str]


def sign(form: Form, cookie: str, now: float | None = None) -> str:
    """Answer a token that is good for this form, once, and for half an hour."""
    expires_at = int(time.time() if now is None else now) + FORM_SECONDS
    return _token(form, cookie, str(uuid4()), str(expires_at))


def check(token: str, form: Form, cookie: str | None) -> UUID:
    """Answer the id of a token's form; raises ForbiddenError where it is not good."""
    wrong = ForbiddenError("This form is not ours, or not yours: open it again.")
    nonce, _, rest = token.partition(".")
    expires_at = rest.partition(".")[0]
    form_id = parse_uuid(nonce)
    if not is_cookie(cookie) or cookie is None or form_id is None:
        raise wrong
    if not re.fullmatch(r"[0-9]{1,12}", expires_at):
        raise wrong
    expected = _token(form, cookie, nonce, expires_at)
    if not hmac.compare_digest(expected.encode(), token.encode()):
        raise wrong
    if int(expires_at) < time.time():
        raise ForbiddenError("This form is too old: open it again.")
    return form_id


def _token(form: Form, cookie: str, nonce: str, expires_at: str) -> str:
    values = sorted(form.values.items())
    said = encode([form.email, form.action, values, nonce, expires_at])
    digest = hmac.digest(cookie.encode(), said.encode(), hashlib.sha256)
    signature = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return f"{nonce}.{expires_at}.{signature}"


def check_origin(headers: Headers, host: str) -> None:
    """Raise ForbiddenError unless a form was sent from a page of this host.

    Browsers say where a form comes from; what does not is none.
    """
    origin = headers.get("Origin") or ""
    site = headers.get("Sec-Fetch-Site")
    if urlsplit(origin).netloc != host or site not in (None, "same-origin"):
        raise ForbiddenError("The form was sent from another place.")
