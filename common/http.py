"""HTTP for every function: the Flask app, bodies in, replies and problems out.

Lives here: what all routes share, and the one place where an exception becomes a
status. Not here: who calls (`identity.py`) and what is done. Surprise: routes answer
with and without a trailing slash and never redirect, because a redirect would lose the
prefix under which the gateway publishes them.
"""

import re
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any, TypeVar
from uuid import UUID

import flask
from flask import Flask, Request, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from common import idempotency, logs
from common.config import Settings
from common.errors import (
    InvalidRequestError,
    PreconditionFailedError,
    ServiceError,
    UnauthenticatedError,
)
from common.idempotency import Answer, Claim
from common.identity import Caller, identify
from common.reads import Document
from common.schemas import MAX_ID, decode, encode

MAX_BODY_BYTES = 1024 * 1024
MAX_KEY_LENGTH = 255
JSON = "application/json"
PROBLEM_JSON = "application/problem+json"

log = logs.get("http")
T = TypeVar("T")

_TITLES = {
    400: ("invalid-request", "Invalid request"),
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "Method not allowed"),
    413: ("body-too-large", "Body too large"),
    415: ("unsupported-media-type", "Unsupported media type"),
}


class _IdConverter(BaseConverter):
    """An id in a path: digits that fit 64 bits; all else is a 404."""

    regex = r"[0-9]{1,19}"

    def to_python(self, value: str) -> int:
        """Answer the id, 0 (nobody's) for what does not fit."""
        number = int(value)
        return number if number <= MAX_ID else 0


def make_app(
    name: str,
    check_ready: Callable[[], None] | None = None,
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Flask:
    """Answer a function's Flask app, with health, problems and request context.

    `check_ready` raises ServiceError while the function cannot serve.
    """
    app = Flask(name, static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.converters["id"] = _IdConverter
    # Of a chunked body werkzeug hands out so much and says nothing of the rest.
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes + 1
    app.before_request(_enter)
    app.teardown_request(_leave)
    app.after_request(_finish)
    app.register_error_handler(ServiceError, _service_problem)
    app.register_error_handler(HTTPException, _http_problem)
    app.register_error_handler(Exception, _defect)

    @app.get("/health/live")
    def live() -> Response:
        return json_response({"status": "ok"})

    @app.get("/health/ready")
    def ready() -> Response:
        try:
            if check_ready is not None:
                check_ready()
        except ServiceError as error:
            response = problem(error)
            response.set_data(encode(_body(error) | {"down": ["database"]}))
            return response
        return json_response({"status": "ok"})

    return app


def dispatch(app: Flask, incoming: Request) -> Response:
    """Answer a request of the functions framework through the function's own app."""
    response: Response = Response.from_app(app.wsgi_app, incoming.environ)  # type: ignore[assignment]
    if response.status_code == HTTPStatus.NO_CONTENT:
        del response.headers["Content-Type"]  # from_app gives everything one
    return response


def _enter() -> None:
    stack = ExitStack()
    context = logs.request_context(
        request.headers.get("X-Request-ID"), request.headers.get("traceparent")
    )
    stack.enter_context(context)
    flask.g.context = stack
    flask.g.started = time.perf_counter()
    size = request.content_length  # None: chunked, or no body at all
    if size is None:
        size = len(request.get_data())
    if size >= flask.current_app.config["MAX_CONTENT_LENGTH"]:  # also if unread
        flask.abort(413)


def _leave(_error: BaseException | None) -> None:
    if stack := flask.g.pop("context", None):
        stack.close()


def _finish(response: Response) -> Response:
    if context := logs.current():
        response.headers["X-Request-ID"] = context.request_id
    started = flask.g.get("started", time.perf_counter())
    fields = {
        "method": request.method,
        "route": request.url_rule.rule if request.url_rule else None,
        "status": response.status_code,
        "latency_ms": round((time.perf_counter() - started) * 1000, 2),
    }
    log.info("request", extra={"fields": fields})
    return response


# Requests


def caller(settings: Settings, *, accepts_internal: bool = False) -> Caller:
    """Answer who calls; see `identity.identify`."""
    return identify(request.headers, settings, accepts_internal=accepts_internal)


def body(shape: type[T]) -> T:
    """Answer the JSON body as `shape`; 400, 413 or 415 for all else."""
    media_type = request.mimetype
    if media_type != JSON and not media_type.endswith("+json"):
        flask.abort(415, f"Content-Type must be {JSON}.")
    return decode(request.get_data(), shape)


def claims(user_id: UUID) -> list[Claim]:
    """Answer the claim of the Idempotency-Key header, none where there is no header."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return []
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not re.fullmatch(r"[ -~]+", key):
        rule = f"1 to {MAX_KEY_LENGTH} printable ASCII characters"
        raise InvalidRequestError.of("Idempotency-Key", rule)
    path = request.path.rstrip("/")
    return [idempotency.by_header(user_id, key, path, request.get_data())]


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


def etag(version: int) -> str:
    """Answer the strong entity tag of a version."""
    return f'"{version}"'


def json_response(
    value: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer `value` as JSON; text is taken to be JSON already."""
    text = value if isinstance(value, str) else encode(value)
    response = Response(text, status, mimetype=JSON)
    response.headers.update(headers or {})
    return response


def document(found: Document) -> Response:
    """Answer a read with its ETag, 304 where the caller has that version."""
    headers = {"ETag": etag(found.version), "Cache-Control": "private, no-cache"}
    tags = _tags("If-None-Match") or []
    if any(tag in ("*", etag(found.version)) for tag in _weakened(tags)):
        return Response(status=304, headers=headers)
    return json_response(found.body, headers=headers)


def _weakened(tags: list[str]) -> list[str]:
    return [tag.removeprefix("W/") for tag in tags]


def answer(given: Answer) -> Response:
    """Answer a POST, marked as replayed where it is."""
    replayed = {"Idempotency-Replayed": "true"} if given.is_replayed else {}
    return json_response(given.body, given.status, given.headers | replayed)


_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def public_path(path: str, settings: Settings) -> str:
    """Answer `path` as the caller must ask for it: below the gateway's prefix."""
    prefix = request.headers.get("X-Forwarded-Prefix", "").rstrip("/")
    if not _PREFIX.fullmatch(prefix):
        prefix = settings.public_path_prefix
    return prefix + path


# Problems


def problem(error: ServiceError) -> Response:
    """Answer a problem (RFC 9457)."""
    response = Response(encode(_body(error)), error.status, mimetype=PROBLEM_JSON)
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, UnauthenticatedError):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _body(error: ServiceError) -> dict[str, Any]:
    members = _members(error.slug, error.title, error.status, error.detail)
    if error.errors:
        members["errors"] = error.errors
    return members | dict(error.extra)


def _members(slug: str, title: str, status: int, detail: str) -> dict[str, Any]:
    return {
        "type": f"/problems/{slug}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": request.path,
        "error": title,  # older front ends read this one
    }


def _service_problem(error: ServiceError) -> Response:
    return problem(error)


def _http_problem(error: HTTPException) -> Response:
    """Turn what Flask raises itself: unknown routes, methods, media types, sizes."""
    status = error.code or 500
    slug, title = _TITLES.get(status, ("http-error", error.name))
    members = _members(slug, title, status, error.description or title)
    response = Response(encode(members), status, mimetype=PROBLEM_JSON)
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers[name] = value
    return response


def _defect(error: Exception) -> Response:
    """Turn a defect of ours into a 500 that tells the log, and not the caller, all."""
    log.error("unhandled exception", exc_info=error)
    return problem(ServiceError("Something went wrong on our side."))
