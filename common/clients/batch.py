"""Send many calls to one sibling service at once, and return the responses.

Requests are sent ahead of the responses, as many as the pool has connections, so the
waits overlap without a thread per call. All calls share one deadline.
"""

import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from http.client import HTTPException, IncompleteRead
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from msgspec import Struct

from common import failpoints
from common.clients.calls import UNDECODABLE, Call, UpstreamResponse, decode
from common.clients.connections import Connection, InFlight, Pool
from common.errors import (
    ServiceError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from common.telemetry import logs, tracing

if TYPE_CHECKING:
    from common.telemetry.otel import Span

RETRIES = 2
_RETRIED_STATUSES = (408, 425, 429, 502, 503, 504)
_REDIRECTS = (307, 308)
_OK, _REDIRECTION, _CLIENT_ERROR, _SERVER_ERROR = 200, 300, 400, 500

_DETAILS: dict[type[ServiceError], str] = {
    UpstreamBrokenError: "Invalid response from the {} service.",
    UpstreamUnavailableError: "The {} service is unavailable.",
    UpstreamTimeoutError: "The {} service did not answer in time.",
}

T = TypeVar("T")
E = TypeVar("E", bound=ServiceError)

log = logs.get("clients")


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
        too_late = self._error(UpstreamTimeoutError)
        states = [
            _CallState(call, self._pool.path + call.path, too_late) for call in calls
        ]
        pending = states
        for attempt in range(1 + RETRIES):
            if attempt and not all(state.is_stale for state in pending):
                delay = random.uniform(0.5, 1.5) * 0.05 * 2**attempt  # noqa: S311 jitter
                time.sleep(max(0.0, min(delay, deadline - time.monotonic())))
            self._exchange(pending, headers, deadline)
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
        return self._error(UpstreamBrokenError)

    def _error(self, kind: type[E]) -> E:
        return kind(_DETAILS[kind].format(self.name), extra={"service": self.name})

    def _final(
        self, result: UpstreamResponse | ServiceError
    ) -> UpstreamResponse | ServiceError:
        """Return an error in place of a response whose status is temporary."""
        if isinstance(result, UpstreamResponse) and (
            result.status >= _SERVER_ERROR or result.status in _RETRIED_STATUSES
        ):
            return self._error(UpstreamUnavailableError)
        return result

    def _exchange(
        self,
        states: Sequence["_CallState"],
        headers: Mapping[str, str],
        deadline: float,
    ) -> None:
        """Send every request and read every response.

        The next request is sent as soon as there is a connection for it.
        """
        waiting, sent = deque(states), InFlight[_CallState]()
        try:
            while waiting or sent:
                has_sent = bool(sent)
                if waiting and time.monotonic() >= deadline:
                    _give_up(waiting, self._error(UpstreamTimeoutError))
                elif waiting and self._pool.reserve(None if has_sent else deadline):
                    self._send_next(waiting, sent, headers, deadline)
                elif has_sent:
                    for connection, state in sent.answered():
                        self._receive(state, deadline)
                        sent.remove(connection)
                        if self._is_redirected(state):
                            waiting.append(state)
        finally:  # nothing is left but after an error of our own
            for state in sent.close():
                self._pool.discard(state.connection)

    def _send_next(
        self,
        waiting: deque["_CallState"],
        sent: "InFlight[_CallState]",
        headers: Mapping[str, str],
        deadline: float,
    ) -> None:
        """Send the first request that waits, for which a place is reserved."""
        state = waiting.popleft()
        try:
            connection = self._send(state, headers, deadline)
            sent.add(connection, state)
        except OSError as error:
            if state.connection is None and isinstance(error, TimeoutError):
                # The others would wait as long for a connection.
                _give_up(waiting, self._error(UpstreamUnavailableError))
            self._fail(state, error, deadline)
        except BaseException:
            self._pool.discard(state.connection)
            raise

    def _send(
        self, state: "_CallState", headers: Mapping[str, str], deadline: float
    ) -> Connection:
        """Send one request; return its connection. Raise OSError."""
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
        return state.connection

    def _receive(self, state: "_CallState", deadline: float) -> None:
        """Read one response, or record why there is none."""
        assert state.connection
        try:
            state.result = UpstreamResponse(state.call, *state.connection.read())
        except (OSError, HTTPException) as error:
            self._fail(state, error, deadline)
            return
        failpoints.reach(f"call {self.name} after")
        if state.result.status >= _REDIRECTION:
            self._log(state.call, state.result)
        self._pool.release(state.connection)
        state.end()

    def _fail(self, state: "_CallState", error: Exception, deadline: float) -> None:
        if state.is_stale:  # the other idle connections are probably gone, too
            self._pool.close()
        if not isinstance(error, (OSError, IncompleteRead)):
            state.result = self._error(UpstreamBrokenError)
        elif isinstance(error, TimeoutError) and time.monotonic() >= deadline:
            state.result = self._error(UpstreamTimeoutError)
        else:
            state.result = self._error(UpstreamUnavailableError)
        self._log(state.call, why=type(error).__name__)
        self._pool.discard(state.connection)
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


def _give_up(waiting: deque["_CallState"], error: ServiceError) -> None:
    """Set the result of those that are still waiting to be sent; empty the queue."""
    while waiting:
        waiting.popleft().result = error


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
        return decode(response.body, shape)
    except UNDECODABLE as error:
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


def _headers(user_id: UUID) -> dict[str, str]:
    headers = {"X-User-ID": str(user_id), "Accept": "application/json"}
    if context := logs.current():
        headers["X-Request-ID"] = context.request_id
        if not tracing.is_on():
            headers["traceparent"] = context.traceparent
        if context.tracestate:
            headers["tracestate"] = context.tracestate
    return headers
