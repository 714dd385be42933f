"""HTTP for every function: routes, bodies in, replies out.

Lives here: what all routes share. Not here: who calls (`identity.py`), what goes wrong
(`problems.py`), what is done. Surprise: routes answer
with and without a trailing slash and never redirect, because a redirect would lose the
prefix under which the gateway publishes them.
"""

import contextlib
import functools
import io
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import flask
from flask import Request, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter, Map, Rule
from werkzeug.wsgi import get_content_length, get_input_stream

from common import admission, logs
from common.config import Settings
from common.errors import (
    InvalidRequestError,
    PreconditionFailedError,
    RequestTimeoutError,
    ServiceError,
)
from common.identity import Caller, identify
from common.observation import Observation
from common.problems import defect, http_problem, problem
from common.schemas import MAX_ID, decode, encode

if TYPE_CHECKING:  # a function without a database loads no driver either
    from common.idempotency import Answer, Claim
    from common.limits import Limits, Visit
    from common.reads import Document

MAX_KEY_LENGTH = 255
JSON = "application/json"

log = logs.get("http")
T = TypeVar("T")


class _IdConverter(BaseConverter):
    """An id in a path: digits that fit 64 bits; all else is a 404."""

    regex = r"[0-9]{1,19}"

    def to_python(self, value: str) -> int:
        """Answer the id, 0 (nobody's) for what does not fit."""
        number = int(value)
        return number if number <= MAX_ID else 0


View = Callable[..., Response]
_SAYS_BODY = {"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"}
# In a request's environment: whether reading its body went well, whose request it is.
_BODY_TAKEN, _VISIT = "orders.body_taken", "orders.visit"


class App:
    """A function's routes, and what all of them share: health, problems, context.

    Not a Flask app: the framework's own is one already, and what a view takes from
    `flask.request` is that one's. A second one inside it would cost as much as a read
    of the database.
    """

    def __init__(
        self,
        name: str,
        check_ready: Callable[[], None] | None = None,
        *,
        limits: "Callable[[], Limits | None] | None" = None,
        max_body_bytes: int = admission.MAX_BODY_BYTES,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`check_ready` raises ServiceError while the function cannot serve.

        `limits` is given where there are users, whose views all ask `caller` first; it
        answers None where nothing is limited. `headers` go with every answer.
        """
        self.name = name
        self.url_map = Map(
            strict_slashes=False,
            merge_slashes=False,
            redirect_defaults=False,
            converters={"id": _IdConverter},
        )
        self._adapter = self.url_map.bind("")
        self._views: dict[str, View] = {}
        self._limits = limits
        self._max_body_bytes = max_body_bytes
        self._headers = headers or {}
        self.get("/health/live")(_live)
        self.get("/health/ready")(functools.partial(_ready, check_ready))

    def route(
        self, method: str, path: str, defaults: Mapping[str, str] | None = None
    ) -> Callable[[View], View]:
        """Have the decorated view answer `path`, with and without its last slash."""

        def add(view: View) -> View:
            endpoint = getattr(view, "__name__", path)
            self._views[endpoint] = view
            methods = (method, "OPTIONS")
            rule = Rule(path, methods=methods, endpoint=endpoint, defaults=defaults)
            self.url_map.add(rule)
            return view

        return add

    get = functools.partialmethod(route, "GET")
    post = functools.partialmethod(route, "POST")
    patch = functools.partialmethod(route, "PATCH")
    delete = functools.partialmethod(route, "DELETE")

    def answer(self, incoming: Request) -> Response:
        """Answer a request of the functions framework; never raises."""
        given = incoming.environ
        with logs.request_context(
            given.get("HTTP_X_REQUEST_ID"),
            given.get("HTTP_TRACEPARENT"),
            given.get("HTTP_TRACESTATE"),
            self.name,
        ) as context:
            seen = Observation(context, incoming.method)
            rule, response = self._respond(incoming)
            headers = response.headers
            headers.add("X-Request-ID", context.request_id)
            if self._headers:
                headers.update(self._headers)
            if response.status_code == HTTPStatus.NO_CONTENT:
                del headers["Content-Type"]  # every answer is born with one
            seen.end(rule.rule if rule else None, response.status_code)
        is_large = len(response.get_data()) > admission.LARGE_ANSWER_BYTES
        if is_large:  # who fetches it slowly keeps a thread
            admission.bound_waits(given)
        visit: Visit | None = given.get(_VISIT)
        if visit is not None:
            headers.update(visit.headers())
            if is_large:
                response.call_on_close(visit.leave)
            else:
                visit.leave()
        if given.keys() & _SAYS_BODY and not self._has_taken_body(given):
            admission.hang_up_soon(given)
            _leave_body(response)
        return response

    def _respond(self, incoming: Request) -> tuple[Rule | None, Response]:
        """Answer the route that was found, if one was, and the response."""
        rule = None
        try:
            path, method = incoming.path, incoming.method
            admission.check_size(incoming.environ)
            if not path.startswith("/health/"):
                admission.check_wait(incoming.environ)
            self._check_body_size(incoming.environ)
            if self._limits is None:
                self._take_body(incoming.environ)
            rule, values = self._adapter.match(path, method, return_rule=True)
            if method == "OPTIONS":
                response = Response()
                response.allow.update(self._adapter.allowed_methods(path))
                return rule, response
            return rule, self._views[rule.endpoint](**values)
        except ServiceError as error:
            return rule, problem(error)
        except HTTPException as error:
            return rule, http_problem(error)
        except Exception:
            log.exception("unhandled exception")
            return rule, defect()

    def caller(self, settings: Settings, *, accepts_internal: bool = False) -> Caller:
        """Answer who calls, and have the request be theirs from now on.

        The body is read after that: who sends it slowly takes up none but their own
        places. Raises what `identity.identify` and `limits.Visit.enter` do.
        """
        found = identify(request.headers, settings, accepts_internal=accepts_internal)
        logs.set_user_id(found.user_id)
        limits = self._limits() if self._limits is not None else None
        if limits is not None:
            visit = request.environ[_VISIT] = limits.visit(found.user_id)
            visit.enter()
        self._take_body(request.environ)
        return found

    def _check_body_size(self, environ: dict[str, Any]) -> None:
        """Refuse a body that says it is too large, also if no view would read it."""
        size = get_content_length(environ)
        if size is not None and size > self._max_body_bytes:
            flask.abort(413, f"The body is larger than {self._max_body_bytes} bytes.")

    def _take_body(
        self, environ: dict[str, Any], seconds: float = admission.STALL_SECONDS
    ) -> None:
        """Read the whole body, also where no view would."""
        if not environ.keys() & _SAYS_BODY:
            return
        environ[_BODY_TAKEN] = False
        admission.bound_waits(environ, seconds)
        most = self._max_body_bytes + 1
        try:
            body = get_input_stream(environ, max_content_length=most).read()
        except Exception as error:  # whatever the server says of what came
            cause = error.__context__ if isinstance(error, HTTPException) else error
            if isinstance(cause, TimeoutError):
                raise RequestTimeoutError from error
            raise InvalidRequestError("The body is malformed.") from error
        if len(body) < (get_content_length(environ) or 0):
            raise InvalidRequestError("The body broke off.")
        if len(body) == most:  # chunked
            flask.abort(413, f"The body is larger than {self._max_body_bytes} bytes.")
        environ["wsgi.input"] = io.BytesIO(body)
        environ[_BODY_TAKEN] = True

    def _has_taken_body(self, environ: dict[str, Any]) -> bool:
        """Tell whether the body is read; reads what no view wanted, if it is there."""
        if _BODY_TAKEN not in environ:
            with contextlib.suppress(ServiceError, HTTPException):
                self._check_body_size(environ)
                self._take_body(environ, seconds=0)
            admission.bound_waits(environ)
        taken: bool = environ.get(_BODY_TAKEN, False)
        return taken


def _leave_body(response: Response) -> None:
    """Have the framework leave the request's body where it is, as it would read it all.

    It does not where a response is streamed.
    """
    body = response.get_data()
    response.response = iter([body])
    response.content_length = len(body)


def _live() -> Response:
    return json_response({"status": "ok"})


def _ready(check_ready: Callable[[], None] | None) -> Response:
    try:
        if check_ready is not None:
            check_ready()
    except ServiceError as error:
        return problem(error, {"down": ["database"]})
    return json_response({"status": "ok"})


# Requests


def body(shape: type[T]) -> T:
    """Answer the JSON body as `shape`; 400, 413 or 415 for all else."""
    media_type = request.mimetype
    if media_type != JSON and not media_type.endswith("+json"):
        flask.abort(415, f"Content-Type must be {JSON}.")
    return decode(request.get_data(), shape)


def claims(user_id: UUID) -> "list[Claim]":
    """Answer the claim of the Idempotency-Key header, none where there is no header."""
    from common.idempotency import by_header  # noqa: PLC0415 see above

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
    tags = _tags("If-None-Match") or []
    if any(tag in ("*", etag(found.version)) for tag in _weakened(tags)):
        return Response(status=304, headers=headers)
    return json_response(found.body, headers=headers)


def _weakened(tags: list[str]) -> list[str]:
    return [tag.removeprefix("W/") for tag in tags]


def answer(given: "Answer") -> Response:
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
