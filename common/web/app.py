"""The Flask app of a function: what all of its routes share.

The functions framework has a Flask app of its own that passes every request to one
target; the target hands it to the app made here (`respond`).
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
# How much of a body over the limit is read and thrown away, and for how long. It is as
# much as Cloud Run lets through.
MAX_DISCARDED_BYTES = 32 * 1024 * 1024
DISCARD_SECONDS = 5.0
# How long a client may keep a thread waiting for the next bytes of a body.
SILENCE_SECONDS = 10.0
_PIECE_BYTES = 64 * 1024
_SAYS_BODY = {"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"}

log = logs.get("http")


class _IdConverter(BaseConverter):
    """An id in a path: digits; what does not fit 64 bits is nobody's.

    werkzeug's own converter takes any script's digits, and any number of them.
    """

    regex = r"[0-9]{1,19}"

    def to_python(self, value: str) -> int:
        """Return the id, 0 if it does not fit.

        A ValidationError would make it a path that other methods know: a 405.
        """
        number = int(value)
        return number if number <= MAX_ID else 0


def create_app(
    name: str,
    check_ready: Callable[[], None] | None = None,
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
    headers: Mapping[str, str] | None = None,
) -> Flask:
    """Return an app with health routes, problem documents, log lines and request ids.

    `check_ready` raises ServiceError while the function cannot serve; `headers` go with
    every response. Routes answer with and without a trailing slash and never redirect,
    because a redirect would lose the prefix under which the gateway publishes them.
    Rules are written without one: else werkzeug knows no 405 of the form without.
    """
    app = Flask(name, static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    app.url_map.converters["id"] = _IdConverter
    # One more than fits: werkzeug cuts a chunked body off here without an error.
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes + 1
    app.config["ORDERS_HEADERS"] = headers or {}
    app.config["ORDERS_URLS"] = app.url_map.bind("localhost")  # no rule has a host
    app.register_error_handler(ServiceError, problem)
    app.register_error_handler(HTTPException, http_problem)
    app.register_error_handler(Exception, _unexpected)
    app.add_url_rule("/health/live", "live", _live)
    app.add_url_rule("/health/ready", "ready", partial(_ready, check_ready))
    if flask.has_app_context():
        # The framework loads a function within the context of its own app, which does
        # not pass on every path: not /robots.txt, and none with a line break.
        flask.current_app.register_error_handler(
            HTTPException, lambda _: respond(app, request)
        )
    return app


def respond(app: Flask, incoming: Request) -> Response:
    """Return the app's response to a request of the functions framework.

    What every request needs is done here and not in Flask's hooks, which would find it
    through context variables at each step.
    """
    environ = incoming.environ
    with logs.request_context(
        environ.get("HTTP_X_REQUEST_ID"),
        environ.get("HTTP_TRACEPARENT"),
        environ.get("HTTP_TRACESTATE"),
        app.name,
    ) as context:
        seen = Observation(context, incoming.method)
        with app.app_context():
            response = _dispatch(app, incoming)
        headers = response.headers
        headers["X-Request-ID"] = context.request_id
        if response.status_code == HTTPStatus.NO_CONTENT:
            del headers["Content-Type"]  # every response is born with one
        headers.update(app.config["ORDERS_HEADERS"])
        rule = incoming.url_rule
        seen.end(rule.rule if rule else None, response.status_code)
    return response


def _dispatch(app: Flask, incoming: Request) -> Response:
    """Do what Flask's `full_dispatch_request` does, but for its signals.

    The framework has made the request and its context already: a second one of each
    would cost as much as the views do.
    """
    urls: MapAdapter = app.config["ORDERS_URLS"]
    incoming.url_rule = None  # that of the framework, which knows but one
    unread = incoming.environ["wsgi.input"]
    is_read = False
    try:
        if incoming.environ.keys() & _SAYS_BODY:
            _read_body(incoming, app.config["MAX_CONTENT_LENGTH"] - 1)
        is_read = True
        matched = urls.match(incoming.path, incoming.method, return_rule=True)
        incoming.url_rule, incoming.view_args = matched[0], dict(matched[1])
        if incoming.method == "OPTIONS":  # Flask would tell the framework's methods
            allowed = ", ".join(urls.allowed_methods(incoming.path))
            returned: ResponseReturnValue = Response(headers={"Allow": allowed})
        else:
            returned = app.dispatch_request()
    except Exception as error:  # noqa: BLE001 the app's handlers tell them apart
        returned = app.handle_user_exception(error)
    response = app.process_response(app.make_response(returned))
    return response if is_read else _last(response, unread)


def _unexpected(error: Exception) -> Response:
    log.error("unhandled exception", exc_info=error)
    return defect()


# Bodies


def _read_body(request: Request, max_bytes: int) -> None:
    """Read the whole body, also if nobody wants it: the next request starts behind it.

    Raise InvalidRequestError or RequestEntityTooLarge; the connection ends then.
    """
    environ = request.environ
    _set_timeout(environ, SILENCE_SECONDS)
    try:
        if (request.content_length or 0) > max_bytes:
            raise RequestEntityTooLarge  # noqa: TRY301 as get_data does of one more
        body = request.get_data()
    except RequestEntityTooLarge:
        raise _too_large(max_bytes) from None
    except Exception as error:  # whatever the server says of what came
        raise InvalidRequestError("The body is malformed or incomplete.") from error
    finally:
        # The framework would read what is left of it, however large.
        request.stream = io.BytesIO()
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    if len(body) < (request.content_length or 0):
        raise InvalidRequestError("The body is incomplete.")
    _set_timeout(environ, None)


def _too_large(max_bytes: int) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"The body is larger than {max_bytes} bytes.")


def _set_timeout(environ: "WSGIEnvironment", seconds: float | None) -> None:
    """Have gunicorn's reads fail when the client is silent; by itself it waits on."""
    link = environ.get("gunicorn.socket")
    if link is not None:
        link.settimeout(seconds)


class _LastResponse(Response):
    """A response after which the connection is closed."""

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Any:  # noqa: ANN401 as it is in werkzeug
        """Close it at the server, too: gunicorn takes no `Connection` from an app."""
        server: Any = getattr(start_response, "__self__", None)
        if hasattr(server, "force_close"):
            server.force_close()
        return super().__call__(environ, start_response)


def _last(response: Response, unread: IO[bytes]) -> Response:
    """Return the response as the last one on its connection.

    Once it is sent, some of what still comes is read, because a client that sends
    everything first would lose the response with a connection that is closed on it.
    """
    last = cast("Response", _LastResponse.force_type(response))
    last.headers["Connection"] = "close"
    last.call_on_close(partial(_discard, unread, request.environ))
    return last


def _discard(unread: IO[bytes], environ: "WSGIEnvironment") -> None:
    deadline = time.monotonic() + DISCARD_SECONDS
    left = MAX_DISCARDED_BYTES
    while left > 0 and (seconds := deadline - time.monotonic()) > 0:
        _set_timeout(environ, seconds)
        try:
            piece = unread.read(_PIECE_BYTES)
        except Exception:  # noqa: BLE001 whatever the server says: it is over
            return
        if not piece:
            return
        left -= len(piece)


# Health


def _live() -> Response:
    return json_response({"status": "ok"})


def _ready(check_ready: Callable[[], None] | None) -> Response:
    try:
        if check_ready is not None:
            check_ready()
    except ServiceError as error:
        return problem(error, {"down": ["database"]})
    return json_response({"status": "ok"})
