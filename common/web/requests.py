"""Read a request: its caller, its JSON body, and the public path."""

import re
from typing import TypeVar

import flask
from flask import request

from common.config.settings import Settings
from common.json import decode
from common.telemetry import logs
from common.web.identity import Caller, identify
from common.web.replies import JSON

T = TypeVar("T")


def caller(settings: Settings, *, accepts_internal: bool = False) -> Caller:
    """Return the caller, and add the user to the request's log lines.

    Raise as `identity.identify` does.
    """
    found = identify(request.headers, settings, accepts_internal=accepts_internal)
    logs.set_user_id(found.user_id)
    return found


def body(shape: type[T]) -> T:
    """Return the JSON body as `shape`; abort with 400 or 415 if it is not one."""
    codings = request.headers.get("Content-Encoding", "").lower().split(",")
    if {coding.strip() for coding in codings} - {"", "identity"}:
        flask.abort(415, "Content-Encoding must be identity.")
    media_type = request.mimetype
    if media_type != JSON and not media_type.endswith("+json"):
        flask.abort(415, f"Content-Type must be {JSON}.")
    return decode(request.get_data(), shape)


_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
# So that what a Link leads to is never too long for a server.
MAX_PREFIX_CHARACTERS = 255


def public_path(path: str, settings: Settings) -> str:
    """Return `path` below the prefix under which the gateway publishes it."""
    prefix = request.headers.get("X-Forwarded-Prefix", "").rstrip("/")
    if len(prefix) > MAX_PREFIX_CHARACTERS or not _PREFIX.fullmatch(prefix):
        prefix = settings.public_path_prefix
    return prefix + path
