"""Authenticate the console's operators, and check the tokens of its forms.

A token is signed with a random value that only the browser's cookie holds, so instances
need no shared secret.
"""

import functools
import hashlib
import math
import re
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from flask import Request
from itsdangerous import BadData, SignatureExpired, URLSafeTimedSerializer
from msgspec import Struct, json

from common.config.settings import Console
from common.errors import ForbiddenError, UnauthenticatedError
from common.json import encode
from common.telemetry import logs
from common.web.identity import Headers
from common.web.loopback import is_local

log = logs.get("console")


class Operator(Struct, frozen=True):
    """Who uses the console; a viewer may not act."""

    email: str
    may_act: bool

    @property
    def id(self) -> UUID:
        """The id that stands for the address in an order's history."""
        return operator_id(self.email)

    def acting(self) -> "Operator":
        """Return the operator; raise ForbiddenError for a viewer."""
        if not self.may_act:
            raise ForbiddenError(f"{self.email} may only view.")
        return self


def operator_id(email: str) -> UUID:
    """Return the id for an operator's address, always the same one."""
    return uuid5(NAMESPACE_URL, f"mailto:{email}")


def identify(request: Request, console: Console) -> Operator:
    """Return the operator or viewer who sent a request.

    Raise UnauthenticatedError if the caller's address is unknown, ForbiddenError if it
    is neither an operator's nor a viewer's, or if the unsigned header that names it
    does not come from this machine.
    """
    if console.identity == "iap":
        keys = keys_at(console.iap_keys_url)
        email = _from_assertion(request.headers, console.iap_audience, keys)
    elif not is_local(request):
        raise ForbiddenError(
            "With OPS_IDENTITY=header the console serves this machine only, at"
            " localhost, 127.0.0.1 or [::1], and through no proxy."
        )
    else:
        email = (request.headers.get("X-Ops-Operator") or "").strip().lower()
        if not re.fullmatch(r"[^\s@]+@[^\s@]+", email) or not email.isprintable():
            raise UnauthenticatedError("X-Ops-Operator must be an e-mail address.")
    if email in console.viewers:
        return Operator(email, may_act=False)
    if console.operators is not None and email not in console.operators:
        raise ForbiddenError(f"{email} is neither an operator nor a viewer here.")
    return Operator(email, may_act=True)


# Identity-aware access

ISSUER = "https://cloud.google.com/iap"
LEEWAY_SECONDS = 30
KEYS_SECONDS = 3600.0
# An unknown key id causes a fetch, but invented ones must not cause one each.
REFRESH_SECONDS = 30.0
FETCH_SECONDS = 5.0


class Keys:
    """Public keys by id, fetched from `url` and kept. Safe to share between threads.

    Known keys are renewed in the background, so a slow key server delays only callers
    whose key is not known yet.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._fetching = threading.Lock()
        self._keys: Mapping[str, str] = {}
        self._tried_at = self._renew_at = -math.inf

    def having(self, key_id: str) -> Mapping[str, str]:
        """Return all known keys in PEM; fetch them first if `key_id` is unknown."""
        if key_id not in self._keys:
            with self._fetching:
                is_recent = time.monotonic() - self._tried_at < REFRESH_SECONDS
                if key_id not in self._keys and not is_recent:
                    self._fetch()
        elif time.monotonic() > self._renew_at and self._fetching.acquire(
            blocking=False
        ):
            threading.Thread(target=self._renew, daemon=True).start()
        return self._keys

    def _renew(self) -> None:
        try:
            self._fetch()
        finally:
            self._fetching.release()

    def _fetch(self) -> None:
        """Replace the keys; if that fails, the known ones stay valid."""
        import requests  # noqa: PLC0415 only where identity-aware access is used

        try:
            response = requests.get(self._url, timeout=FETCH_SECONDS)
            response.raise_for_status()
            self._keys = json.decode(response.content, type=dict[str, str])
            self._renew_at = time.monotonic() + KEYS_SECONDS
        except (requests.RequestException, ValueError) as error:
            log.warning("No keys in PEM by id at %s: %s", self._url, error)
            self._renew_at = time.monotonic() + REFRESH_SECONDS
        self._tried_at = time.monotonic()


keys_at = functools.cache(Keys)  # one for each address


def _from_assertion(headers: Headers, audience: str, keys: Keys) -> str:
    from google.auth import jwt  # noqa: PLC0415 as `requests` above
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415 as well

    assertion = headers.get("X-Goog-IAP-JWT-Assertion")
    if not assertion:
        raise UnauthenticatedError("The header X-Goog-IAP-JWT-Assertion is missing.")
    try:
        header = jwt.decode_header(assertion)
        # Without an id, every key would be tried.
        key_id = header.get("kid")
        if header.get("alg") != "ES256" or not key_id or not isinstance(key_id, str):
            raise UnauthenticatedError("The assertion is not valid.")
        claims: Mapping[str, Any] = jwt.decode(
            assertion,
            certs=keys.having(key_id),
            audience=audience,
            clock_skew_in_seconds=LEEWAY_SECONDS,
        )
    except (GoogleAuthError, ValueError) as error:
        raise UnauthenticatedError("The assertion is not valid.") from error
    if claims.get("iss") != ISSUER:
        raise UnauthenticatedError("The assertion is not valid.")
    email = claims.get("email")
    if not isinstance(email, str) or "@" not in email:
        raise UnauthenticatedError("The assertion names no address.")
    # An external identity's address has its provider in front.
    return email.rpartition(":")[2].strip().lower()


# Forms

FORM_SECONDS = 1800


def new_cookie() -> str:
    """Return a new secret for a browser, with which its forms' tokens are signed."""
    return secrets.token_urlsafe(32)


def is_cookie(value: str | None) -> bool:
    """Return whether a cookie is one that `new_cookie` could have made."""
    return value is not None and bool(re.fullmatch(r"[A-Za-z0-9_-]{43}", value))


class Form(Struct, frozen=True):
    """What a token permits: one action with these values, by this operator."""

    email: str
    action: str
    values: Mapping[str, str]


def sign(form: Form, cookie: str) -> str:
    """Return a token with which this form can be sent, once, within half an hour."""
    return _signer(form, cookie).dumps(uuid4().hex)


def check(token: str, form: Form, cookie: str | None) -> UUID | None:
    """Return the form's id from its token, None if it is too old.

    Raise ForbiddenError if it is not valid.
    """
    invalid = ForbiddenError("This form is not valid for you: open it again.")
    if cookie is None or not is_cookie(cookie):
        raise invalid
    try:
        return UUID(_signer(form, cookie).loads(token, max_age=FORM_SECONDS))
    except SignatureExpired:
        return None
    except BadData as error:
        raise invalid from error


def _signer(form: Form, cookie: str) -> URLSafeTimedSerializer:
    """Return a signer for this form alone, with the browser's secret."""
    return URLSafeTimedSerializer(
        cookie,
        salt=encode([form.email, form.action, sorted(form.values.items())]),
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )


def check_origin(headers: Headers, host: str) -> None:
    """Raise ForbiddenError unless a form was sent from a page of this host.

    Every browser sends the origin; a request without one is refused.
    """
    origin = headers.get("Origin")
    site = headers.get("Sec-Fetch-Site")
    own = (f"https://{host}", f"http://{host}")
    if origin not in own or site not in (None, "same-origin"):
        raise ForbiddenError("The form was sent from another site.")
