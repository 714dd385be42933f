"""Identify the caller: the user from the gateway's headers, the shop from a claim.

X-Shop-ID is never read, because a client can send it, and the gateway passes it on if
the token has no shop.
"""

import base64
import re
from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID

import msgspec
from msgspec import Struct

from common.config.settings import Settings
from common.domain.model import parse_uuid
from common.errors import ForbiddenError, UnauthenticatedError

# How far the gateway's clock may be from ours.
CLOCK_LEEWAY_SECONDS = 10


class Headers(Protocol):
    """Request headers, by names in any case."""

    def get(self, key: str, /) -> str | None:
        """Return a header's value."""
        ...


class Caller(Struct, frozen=True):
    """The user, and the shop that a verified claim names.

    `has_token` is False for the shop service's internal call, without a user's token.
    """

    user_id: UUID
    shop_id: UUID | None = None
    has_token: bool = False


def identify(
    headers: Headers, settings: Settings, *, accepts_internal: bool = False
) -> Caller:
    """Return the caller; raise UnauthenticatedError.

    With `accepts_internal` a call of the shop service, which has a user but no token,
    is accepted. Otherwise a token is required if a secret to verify it is set. No call
    is internal if the API gateway identifies callers: the shop service bypasses it.
    """
    if settings.identity_source == "apigateway":
        return _from_api_gateway(headers)
    if settings.identity_source != "header":
        raise UnauthenticatedError("IDENTITY_SOURCE is not set.")
    user_id = _user_id(headers)
    authorization = headers.get("Authorization")
    if authorization is None:
        if settings.jwt_secret is not None and not accepts_internal:
            raise UnauthenticatedError("The Authorization header is missing.")
        return Caller(user_id)
    if settings.jwt_secret is None:
        return Caller(user_id, has_token=True)
    claims = _verify(authorization, settings.jwt_secret)
    if _uuid(claims.get("sub")) != user_id:
        raise UnauthenticatedError("The token belongs to another user.")
    return Caller(user_id, _uuid(claims.get("shop_uuid")), has_token=True)


def check_shop(caller: Caller, shop_id: UUID | None, settings: Settings) -> None:
    """Raise unless the caller may change the status of this shop's items.

    A token must carry the item's shop as a verified claim. A caller without a token is
    the shop service, which has checked ownership itself, unless a claim is required.
    """
    if caller.has_token:
        if caller.shop_id is None or caller.shop_id != shop_id:
            raise ForbiddenError("The item belongs to another shop.")
    elif settings.status_requires_shop_claim:
        raise UnauthenticatedError("A token with the claim shop_uuid is required.")


def _user_id(headers: Headers) -> UUID:
    user_id = parse_uuid((headers.get("X-User-ID") or "").strip())
    if user_id is None:
        raise UnauthenticatedError
    return user_id


def _uuid(value: object) -> UUID | None:
    return parse_uuid(value) if isinstance(value, str) else None


def _verify(authorization: str, secret: str) -> Mapping[str, Any]:
    import jwt  # noqa: PLC0415 only if a secret is set

    scheme, _, token = authorization.partition(" ")
    try:
        if scheme.lower() != "bearer":
            raise jwt.InvalidTokenError
        # The gateway has judged the other claims.
        judged_by_gateway = ("sub", "iss", "aud", "iat", "jti")
        options: Any = {f"verify_{claim}": False for claim in judged_by_gateway}
        options["require"] = ["sub", "exp"]
        claims: dict[str, Any] = jwt.decode(
            token.strip(),
            secret,
            algorithms=["HS256"],
            options=options,
            leeway=CLOCK_LEEWAY_SECONDS,
        )
        # The library reads times from text and from `true`, too.
        times = [claims[name] for name in ("exp", "nbf") if name in claims]
        if any(type(time) not in (int, float) for time in times):
            raise jwt.InvalidTokenError
    except jwt.PyJWTError as error:
        raise UnauthenticatedError("The token is not valid.") from error
    return claims


def _from_api_gateway(headers: Headers) -> Caller:
    encoded = headers.get("X-Apigateway-Api-Userinfo")
    if encoded is None:
        raise UnauthenticatedError("The gateway's claims are missing.")
    try:
        claims = _decode(encoded)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise UnauthenticatedError("The gateway's claims are malformed.") from error
    user_id = _uuid(claims.get("sub"))
    if user_id is None:
        raise UnauthenticatedError("The gateway's claims name no user.")
    return Caller(user_id, _uuid(claims.get("shop_uuid")), has_token=True)


_BASE64URL = re.compile(r"[A-Za-z0-9_-]+={0,2}")


def _decode(encoded: str) -> dict[str, Any]:
    """Return the claims; Google sends them without padding."""
    if not _BASE64URL.fullmatch(encoded):
        raise ValueError("characters that Python's decoder would skip")
    unpadded = encoded.rstrip("=")
    padding = "=" * (-len(unpadded) % 4)
    content = base64.urlsafe_b64decode(unpadded + padding)
    return msgspec.json.decode(content, type=dict[str, Any])
