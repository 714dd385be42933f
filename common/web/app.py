"""The Flask app of a function: what all its routes share.

The functions framework has its own Flask app, which passes every request to one target.
The target passes it on to the app that is made here, by `respond`.
"""

import io
import time
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any, cast

import flask
from flask import Flask, Request, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.routing import BaseConverter, MapAdapter

from common.domain.model import MAX_ID
from common.errors import InvalidRequestError, ServiceError
from common.telemetry import logs
from common.web.observation import Observation
from common.web.problems import defect, http_problem, problem
from common.web.replies import json_response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from flask.typing import ResponseReturnValue

MAX_BODY_BYTES = 1024 * 1024
# Of every response that says nothing else: it is about its caller, or an error.
CACHE_CONTROL = "private, no-cache"

log = logs.get("http")


def create_app(
    name: str,
    checks: Mapping[str, Callable[[str], None]] | None = None,
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
    kept_body_bytes: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Flask:
    """Return an app with health routes, problem documents, log lines and request ids.

    `checks` of "ready" and "start" get `name`, and raise ServiceError while the
    function cannot serve, or should get no requests yet. `headers` are added to every
    response. With `kept_body_bytes`, a longer body is truncated, and `body_size`
    returns its size.

    Routes match with and without a trailing slash and never
    redirect, because a redirect would lose the gateway's prefix. Write rules without
    the slash, or werkzeug returns 404 instead of 405 for paths without it.
    """
    app = Flask(name, static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    app.url_map.converters["id"] = _IdConverter
    # One byte more, because werkzeug silently cuts a chunked body off at this length.
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes + 1
    app.config["ORDERS_KEPT_BYTES"] = kept_body_bytes
    app.config["ORDERS_HEADERS"] = headers or {}
    app.config["ORDERS_URLS"] = app.url_map.bind("localhost")  # no rule has a host
    app.register_error_handler(ServiceError, problem)
    app.register_error_handler(HTTPException, http_problem)
    app.register_error_handler(Exception, _unexpected)
    app.add_url_rule("/health/live", "live", _live)
    for check in ("ready", "start"):
        checked = partial(_checked, name, (checks or {}).get(check))
        app.add_url_rule(f"/health/{check}", check, checked)
    if flask.has_app_context():
        # The framework loads a function within the context of its own app, which does
        # not pass on every path: not /robots.txt, and none with a line break.
        flask.current_app.register_error_handler(
            HTTPException, lambda _: respond(app, request)
        )
    return app


def respond(app: Flask, incoming: Request) -> Response:
    """Return the app's response to a request of the functions framework.

    What every request needs is done here instead of in Flask's hooks, where each step
    would look it up in context variables.
    """
    environ = incoming.environ
    with logs.request_context(
        environ.get("HTTP_X_REQUEST_ID"),
        environ.get("HTTP_TRACEPARENT"),
        environ.get("HTTP_TRACESTATE"),
        app.name,
    ) as context:
        observation = Observation(context, incoming.method)
        with app.app_context():
            response = _dispatch(app, incoming)
        headers = response.headers
        headers["X-Request-ID"] = context.request_id
        headers.setdefault("Cache-Control", CACHE_CONTROL)
        if response.status_code == HTTPStatus.NO_CONTENT:
            del headers["Content-Type"]  # Flask sets one on every response
        headers.update(app.config["ORDERS_HEADERS"])
        rule = incoming.url_rule
        observation.end(rule.rule if rule else None, response.status_code)
    return response


def _dispatch(app: Flask, incoming: Request) -> Response:
    """Do what Flask's `full_dispatch_request` does, except for its signals.

    The framework has already made the request and its context; making them again would
    cost as much as the views do.
    """
    urls: MapAdapter = app.config["ORDERS_URLS"]
    incoming.url_rule = None  # the framework's own rule, which matches every path
    unread = incoming.environ["wsgi.input"]
    is_read = False
    try:
        if incoming.environ.keys() & _BODY_HEADERS:
            max_bytes = app.config["MAX_CONTENT_LENGTH"] - 1
            _read_body(incoming, max_bytes, app.config["ORDERS_KEPT_BYTES"])
        is_read = True
        matched = urls.match(incoming.path, incoming.method, return_rule=True)
        incoming.url_rule, incoming.view_args = matched[0], dict(matched[1])
        if incoming.method == "OPTIONS":  # Flask would list the framework's methods
            allowed = ", ".join(urls.allowed_methods(incoming.path))
            returned: ResponseReturnValue = Response(headers={"Allow": allowed})
        else:
            returned = app.dispatch_request()
    except Exception as error:  # noqa: BLE001 the app's handlers distinguish them
        returned = app.handle_user_exception(error)
    response = app.process_response(app.make_response(returned))
    return response if is_read else _closing(response, unread)


def _unexpected(error: Exception) -> Response:
    log.error("unhandled exception", exc_info=error)
    return defect()


class _IdConverter(BaseConverter):
    """An id in a path: up to 19 ASCII digits.

    werkzeug's own converter accepts any number of digits, of any script.
    """

    regex = r"[0-9]{1,19}"

    def to_python(self, value: str) -> int:
        """Return the id, or 0, which no order has, if it does not fit 64 bits.

        A ValidationError would make the route not match, which can end as a 405.
        """
        number = int(value)
        return number if number <= MAX_ID else 0


def _live() -> Response:
    return json_response({"status": "ok"})


def _checked(name: str, check: Callable[[str], None] | None) -> Response:
    try:
        if check is not None:
            check(name)
    except ServiceError as error:
        return problem(error, {"down": ["database"]})
    return json_response({"status": "ok"})


# How long a client may keep a thread waiting for the next bytes of a body.
SILENCE_SECONDS = 10.0
_BODY_SIZE = "orders.body_size"  # in the environ
_BODY_HEADERS = {"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"}


def body_size(request: Request) -> int:
    """Return the size of the request's body in bytes, before it was truncated."""
    return int(request.environ.get(_BODY_SIZE, 0))


def _read_body(request: Request, max_bytes: int, kept_bytes: int | None) -> None:
    """Read the whole body, needed or not, because the next request comes after it.

    Raise InvalidRequestError or RequestEntityTooLarge; then the connection is closed.
    """
    environ = request.environ
    _set_timeout(environ, SILENCE_SECONDS)
    start = b""
    try:
        if (request.content_length or 0) > max_bytes:
            raise RequestEntityTooLarge  # noqa: TRY301 as get_data does
        if kept_bytes is None:
            size = len(request.get_data())
        else:
            start, size = _read_start(request.stream, kept_bytes)
    except RequestEntityTooLarge:
        raise _too_large(max_bytes) from None
    except Exception as error:  # servers raise errors of their own
        raise InvalidRequestError("The body is malformed or incomplete.") from error
    finally:
        # Otherwise the framework reads the rest of it, however large.
        request.stream = io.BytesIO(start)
    if size > max_bytes:
        raise _too_large(max_bytes)
    if size < (request.content_length or 0):
        raise InvalidRequestError("The body is incomplete.")
    environ[_BODY_SIZE] = size
    _set_timeout(environ, None)


def _read_start(stream: IO[bytes], kept_bytes: int) -> tuple[bytes, int]:
    """Read all of `stream` in chunks; return its first bytes, and its size."""
    start, size = b"", 0
    while chunk := stream.read(_CHUNK_BYTES):
        start += chunk[: kept_bytes - len(start)]
        size += len(chunk)
    return start, size


def _too_large(max_bytes: int) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"The body is larger than {max_bytes} bytes.")


def _set_timeout(environ: "WSGIEnvironment", seconds: float | None) -> None:
    """Limit gunicorn's reads from the client, which have no timeout by themselves."""
    connection = environ.get("gunicorn.socket")
    if connection is not None:
        connection.settimeout(seconds)


# How much of a body over the limit is read and discarded, and for how long. Cloud Run
# accepts no larger one.
MAX_DISCARDED_BYTES = 32 * 1024 * 1024
DISCARD_SECONDS = 5.0
_CHUNK_BYTES = 64 * 1024


class _ClosingResponse(Response):
    """A response after which the connection is closed."""

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Any:  # noqa: ANN401 as in werkzeug
        """Have gunicorn close it, which ignores an app's `Connection` header."""
        server: Any = getattr(start_response, "__self__", None)
        if hasattr(server, "force_close"):
            server.force_close()
        return super().__call__(environ, start_response)


def _closing(response: Response, unread: IO[bytes]) -> Response:
    """Return a response after which the connection is closed.

    Once it is sent, some of the unread body is read, because a client that sends all of
    it first would lose the response if the connection were closed at once.
    """
    closing = cast("Response", _ClosingResponse.force_type(response))
    closing.headers["Connection"] = "close"
    closing.call_on_close(partial(_discard, unread, request.environ))
    return closing


def _discard(unread: IO[bytes], environ: "WSGIEnvironment") -> None:
    deadline = time.monotonic() + DISCARD_SECONDS
    left = MAX_DISCARDED_BYTES
    while left > 0 and (seconds := deadline - time.monotonic()) > 0:
        _set_timeout(environ, seconds)
        try:
            chunk = unread.read(_CHUNK_BYTES)
        except Exception:  # noqa: BLE001 servers raise errors of their own
            return
        if not chunk:
            return
        left -= len(chunk)
