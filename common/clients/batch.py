"""Send many calls to one sibling service at once, and return the responses.

Every request of a batch is sent before the first response is read, so the waits overlap
without a thread per call. All calls share one deadline.
"""

import random
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPException, IncompleteRead
from typing import TYPE_CHECKING, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct

from common import failpoints
from common.clients.connections import Connection, Pool
from common.errors import (
    ServiceError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from common.telemetry import logs, tracing

if TYPE_CHECKING:
    from common.telemetry.otel import Span

MAX_IN_FLIGHT = 128
RETRIES = 2
MAX_DETAIL_CHARACTERS = 300
_RETRIED_STATUSES = (408, 425, 429, 502, 503, 504)
_REDIRECTS = (307, 308)
_OK, _REDIRECTION, _CLIENT_ERROR, _SERVER_ERROR = 200, 300, 400, 500

_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

T = TypeVar("T")

log = logs.get("clients")


class Call(Struct, frozen=True):
    """One request, which may be repeated; `path` is appended to the base URL.

    There is no POST, because a POST must not be repeated.
    """

    method: Literal["GET", "PUT", "DELETE"]
    path: str
    body: bytes | None = None
    # The product service's read cache may return another row unless it is bypassed
    # (no-store). With no-cache it reads the row anew, too, and stores it.
    cache_control: Literal["no-store", "no-cache"] = "no-store"


class UpstreamResponse(Struct, frozen=True):
    """A sibling's complete response to a call."""

    call: Call
    status: int
    body: bytes
    location: str | None = None

    def is_refusal(self, *statuses: int) -> bool:
        """Return whether the service itself refused with one of `statuses`.

        It does so with JSON that has a `detail`. A page of a front end is no refusal.
        """
        return self.status in statuses and self.detail() is not None

    def detail(self) -> str | None:
        """Return the service's own words on a refusal, cut to fit a log line."""
        try:
            refusal = _decode(self.body, _Refusal)
        except _UNDECODABLE:
            return None
        words = refusal.detail
        text = words if isinstance(words, str) else self.body.decode()
        return text[:MAX_DETAIL_CHARACTERS]

    def is_success(self, *statuses: int) -> bool:
        """Return whether the service itself succeeded with one of `statuses`."""
        is_from_service = not self.body or _is_json(self.body)
        return self.status in statuses and is_from_service


class Upstream:
    """One sibling service: its name for messages, and connections to it.

    Safe to share between threads; belongs to one process.
    """

    def __init__(self, name: str, base_url: str) -> None:
        self.name = name
        self._pool = Pool(base_url)

    def send(
        self, calls: Sequence[Call], user_id: UUID, deadline: float
    ) -> list[UpstreamResponse | ServiceError]:
        """Make all calls concurrently; return a response or an error each, in order.

        Each is tried three times at most, and again only if the connection failed or
        the status is temporary. Nothing waits past `deadline` (monotonic seconds).
        """
        started = time.perf_counter()
        headers = _headers(user_id)
        base = self._pool.path
        states = [
            _CallState(call, base + call.path, self._timed_out()) for call in calls
        ]
        pending = states
        for attempt in range(1 + RETRIES):
            if attempt and not all(state.is_stale for state in pending):
                delay = random.uniform(0.5, 1.5) * 0.05 * 2**attempt  # noqa: S311 jitter
                time.sleep(max(0.0, min(delay, deadline - time.monotonic())))
            for start in range(0, len(pending), MAX_IN_FLIGHT):
                batch = pending[start : start + MAX_IN_FLIGHT]
                self._exchange(batch, headers, deadline)
                redirected = [state for state in batch if self._is_redirected(state)]
                if redirected:
                    self._exchange(redirected, headers, deadline)
            pending = [state for state in pending if state.is_worth_retrying()]
            if not pending or time.monotonic() >= deadline:
                break
        if context := logs.current():
            context.upstream.append(time.perf_counter() - started)
        return [self._final(state.result) for state in states]

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()

    def log_failure(self, call: Call, error: ServiceError) -> None:
        """Log that a call has no response, which may be because it was never sent."""
        self._log(call, why=error.detail)

    def invalid(self, response: UpstreamResponse, why: object) -> UpstreamBrokenError:
        """Log why a response is invalid; return the error for it."""
        self._log(response.call, response, f"invalid response: {why}")
        return self._invalid()

    def _invalid(self) -> UpstreamBrokenError:
        detail = f"Invalid response from the {self.name} service."
        return UpstreamBrokenError(detail, extra={"service": self.name})

    def _unavailable(self) -> UpstreamUnavailableError:
        detail = f"The {self.name} service is unavailable."
        return UpstreamUnavailableError(detail, extra={"service": self.name})

    def _timed_out(self) -> UpstreamTimeoutError:
        detail = f"The {self.name} service did not answer in time."
        return UpstreamTimeoutError(detail, extra={"service": self.name})

    def _final(
        self, result: UpstreamResponse | ServiceError
    ) -> UpstreamResponse | ServiceError:
        """Return an error in place of a response whose status is temporary."""
        if isinstance(result, UpstreamResponse) and (
            result.status >= _SERVER_ERROR or result.status in _RETRIED_STATUSES
        ):
            return self._unavailable()
        return result

    def _exchange(
        self,
        batch: Sequence["_CallState"],
        headers: Mapping[str, str],
        deadline: float,
    ) -> None:
        """Send every request of the batch, then read every response."""
        can_connect = True
        for state in batch:
            if time.monotonic() >= deadline or not can_connect:
                state.result = self._timed_out() if can_connect else self._unavailable()
                continue
            try:
                self._send(state, headers, deadline)
            except OSError as error:
                # The others would wait as long for a connection as this one did.
                is_timeout = isinstance(error, TimeoutError)
                can_connect = state.connection is not None or not is_timeout
                self._fail(state, error, deadline)
        for state in batch:
            if state.connection is None:
                continue
            try:
                state.result = UpstreamResponse(state.call, *state.connection.read())
                failpoints.reach(f"call {self.name} after")
            except (OSError, HTTPException) as error:
                self._fail(state, error, deadline)
                continue
            if state.result.status >= _REDIRECTION:
                self._log(state.call, state.result)
            self._pool.release(state.connection)
            state.end()

    def _send(
        self, state: "_CallState", headers: Mapping[str, str], deadline: float
    ) -> None:
        """Send one request; raise OSError."""
        own_headers: dict[str, str] = {"Cache-Control": state.call.cache_control}
        if state.call.body is not None:
            own_headers["Content-Type"] = "application/json"
        if tracing.is_on() and (span := self._span(state)):
            state.span = span
            own_headers["traceparent"] = span.traceparent
        idle = None if state.is_stale else self._pool.acquire()
        state.is_stale = idle is not None  # assumed until there is a response
        state.connection = idle or self._pool.connect(deadline)
        failpoints.reach(f"call {self.name} before")
        all_headers = {**headers, **own_headers}
        state.connection.send(
            state.call.method, state.path, all_headers, state.call.body, deadline
        )

    def _fail(self, state: "_CallState", error: Exception, deadline: float) -> None:
        if state.connection is not None:
            state.connection.close()
        if state.is_stale:  # the other idle connections are probably gone, too
            self._pool.close()
        if not isinstance(error, (OSError, IncompleteRead)):
            state.result = self._invalid()
        elif isinstance(error, TimeoutError) and time.monotonic() >= deadline:
            state.result = self._timed_out()
        else:
            state.result = self._unavailable()
        self._log(state.call, why=type(error).__name__)
        state.end()

    def _log(
        self, call: Call, response: UpstreamResponse | None = None, why: str = ""
    ) -> None:
        fields = {
            "sibling": self.name,
            "method": call.method,
            "path": call.path,
            "status": response and response.status,
        }
        words = why or str(response and response.status)
        if response and (detail := response.detail()):
            fields["detail"] = detail
            words = f"{words}: {detail}"  # not every format shows the fields
        log.warning(
            "%s service: %s %s: %s",
            self.name,
            call.method,
            call.path,
            words,
            extra={"fields": fields},
        )

    def _is_redirected(self, state: "_CallState") -> bool:
        """Return whether to send the call again, to where a redirect here leads."""
        result = state.result
        if state.is_redirected or not isinstance(result, UpstreamResponse):
            return False
        if state.call.method != "GET" or result.status not in _REDIRECTS:
            return False
        path = self._pool.own_path(result.location or "")
        state.path, state.is_redirected = path or state.path, path is not None
        return state.is_redirected

    def _span(self, state: "_CallState") -> "Span | None":
        attributes: dict[str, str | int] = {
            "http.request.method": state.call.method,
            "server.address": self._pool.host,
            "server.port": self._pool.port,
            "url.path": state.path,
            "peer.service": self.name,
        }
        name = f"{state.call.method} {self.name}"
        return tracing.start(name, tracing.Kind.CLIENT, attributes)


def require(result: UpstreamResponse | ServiceError) -> UpstreamResponse:
    """Return the response, or raise the error."""
    if isinstance(result, ServiceError):
        raise result
    return result


def parse(upstream: Upstream, response: UpstreamResponse, shape: type[T]) -> T:
    """Return the body of a 200 as `shape`; raise UpstreamBrokenError otherwise."""
    if response.status != _OK:
        raise upstream.invalid(response, response.status)
    try:
        return _decode(response.body, shape)
    except _UNDECODABLE as error:
        raise upstream.invalid(response, error) from error


class _CallState(Struct):
    """A call, and the result of its latest attempt."""

    call: Call
    path: str
    result: UpstreamResponse | ServiceError
    connection: Connection | None = None
    span: "Span | None" = None
    is_stale: bool = False  # its connection was a reused one, and failed
    is_redirected: bool = False

    def is_worth_retrying(self) -> bool:
        if isinstance(self.result, UpstreamResponse):
            return self.result.status in _RETRIED_STATUSES
        return isinstance(self.result, UpstreamUnavailableError)

    def end(self) -> None:
        """Drop the connection, and end the span."""
        span, self.span, self.connection = self.span, None, None
        if isinstance(self.result, UpstreamResponse):
            self.is_stale = False
        if span is None:
            return
        if isinstance(self.result, ServiceError):
            span.end(error=type(self.result).__name__)
            return
        status = self.result.status
        error = str(status) if status >= _CLIENT_ERROR else None
        span.end(error=error, attributes={"http.response.status_code": status})


class _Refusal(Struct):
    detail: str | list[object] | dict[str, object]


def _decode(body: bytes, shape: type[T]) -> T:
    """Return JSON, as text: msgspec does not check bytes of fields that it ignores."""
    return msgspec.json.decode(body.decode(), type=shape)


def _is_json(body: bytes) -> bool:
    try:
        _decode(body, object)
    except _UNDECODABLE:
        return False
    return True


def _headers(user_id: UUID) -> dict[str, str]:
    headers = {"X-User-ID": str(user_id), "Accept": "application/json"}
    if context := logs.current():
        headers["X-Request-ID"] = context.request_id
        if not tracing.is_on():
            headers["traceparent"] = context.traceparent
        if context.tracestate:
            headers["tracestate"] = context.tracestate
    return headers
