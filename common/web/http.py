"""Requests in and replies out: what the views of all functions share."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

import flask
from flask import Response, request

from common.config.settings import Settings
from common.errors import (
    InvalidRequestError,
    PreconditionFailedError,
    ServiceError,
)
from common.json import decode, encode
from common.telemetry import logs
from common.web.identity import Caller, identify
from common.web.problems import PROBLEM_JSON, problem

if TYPE_CHECKING:  # a function without a database loads no driver either
    from common.store.idempotency import Answer, Claim
    from common.store.reads import Document

MAX_KEY_LENGTH = 255
JSON = "application/json"

T = TypeVar("T")


# Requests


def caller(settings: Settings, *, accepts_internal: bool = False) -> Caller:
    """Return who calls, and name them in the request's log lines.

    Raise what `identity.identify` does.
    """
    found = identify(request.headers, settings, accepts_internal=accepts_internal)
    logs.set_user_id(found.user_id)
    return found


def body(shape: type[T]) -> T:
    """Return the JSON body as `shape`; 400 or 415 for all else."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        flask.abort(415, "Content-Encoding must be identity.")
    media_type = request.mimetype
    if media_type != JSON and not media_type.endswith("+json"):
        flask.abort(415, f"Content-Type must be {JSON}.")
    return decode(request.get_data(), shape)


def claims(user_id: UUID) -> "list[Claim]":
    """Answer the claim of the Idempotency-Key header, none where there is no header."""
    from common.store.idempotency import by_header  # noqa: PLC0415 see above

    key = request.headers.get("Idempotency-Key")
    if key is None:
        return []
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not re.fullmatch(r"[ -~]+", key):
        rule = f"1 to {MAX_KEY_LENGTH} printable ASCII characters"
        raise InvalidRequestError.of("Idempotency-Key", rule)
    path = request.path.rstrip("/")
    return [by_header(user_id, key, path, request.get_data())]


_TAG = r'(?:W/)?"[\x21\x23-\x7e]*"'
_TAG_LIST = re.compile(rf"\s*(?:\*|{_TAG}(?:\s*,\s*{_TAG})*)\s*")


def _tags(header: str) -> list[str] | None:
    value = request.headers.get(header)
    if value is None:
        return None
    if not _TAG_LIST.fullmatch(value):
        raise InvalidRequestError.of(header, 'must be * or a list of "entity tags"')
    return re.findall(rf"\*|{_TAG}", value) if value.strip() != "*" else ["*"]


def check_if_match(version: int) -> None:
    """Raise PreconditionFailedError where If-Match names another version."""
    tags = _tags("If-Match")
    if tags is not None and tags != ["*"] and etag(version) not in tags:
        raise PreconditionFailedError


# Replies


def etag(version: int | str) -> str:
    """Answer the strong entity tag of a version."""
    return f'"{version}"'


def json_response(
    value: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer `value` as JSON; text is taken to be JSON already."""
    text = value if isinstance(value, str) else encode(value)
    return Response(text, status, headers, content_type=JSON)


def document(found: "Document") -> Response:
    """Answer a read with its ETag, 304 where the caller has that version."""
    headers = {"ETag": etag(found.version), "Cache-Control": "private, no-cache"}
    known = {tag.removeprefix("W/") for tag in _tags("If-None-Match") or ()}
    if not known.isdisjoint(("*", headers["ETag"])):
        return Response(status=304, headers=headers)
    return json_response(found.body, headers=headers)


def answer(given: "Answer") -> Response:
    """Answer a POST, marked as replayed where it is."""
    replayed = {"Idempotency-Replayed": "true"} if given.is_replayed else {}
    response = json_response(given.body, given.status, given.headers | replayed)
    if given.status >= HTTPStatus.BAD_REQUEST:
        response.content_type = PROBLEM_JSON
    return response


def refusal(error: ServiceError) -> "Answer":
    """Return the problem that tells of `error` as an answer that can be kept."""
    from common.store.idempotency import Answer  # noqa: PLC0415 see above

    response = problem(error)
    return Answer(response.status_code, {}, response.get_data(as_text=True))


_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def public_path(path: str, settings: Settings) -> str:
    """Answer `path` as the caller must ask for it: below the gateway's prefix."""
    prefix = request.headers.get("X-Forwarded-Prefix", "").rstrip("/")
    if not _PREFIX.fullmatch(prefix):
        prefix = settings.public_path_prefix
    return prefix + path
