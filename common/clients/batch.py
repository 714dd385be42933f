"""Send many calls to one sibling service at once and return what it answered.

Every request of a batch is sent before the first response is read, so the waits overlap
without a thread a call. Here are retries, the deadline over all, and what counts as a
response.
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
_RETRIED_STATUSES = (408, 425, 429, 502, 503, 504)
_REDIRECTS = (307, 308)
_OK, _NOT_A_SUCCESS, _ERROR, _SERVER_ERROR = 200, 300, 400, 500


T = TypeVar("T")

log = logs.get("clients")


class Call(Struct, frozen=True):
    """One request, which may be repeated; `path` follows the base URL's.

    There is no POST: it could not be tried again.
    """

    method: Literal["GET", "PUT", "DELETE"]
    path: str
    body: bytes | None = None


class UpstreamResponse(Struct, frozen=True):
    """A sibling's whole response to a call."""

    call: Call
    status: int
    body: bytes
    location: str | None = None

    def is_refusal(self, *statuses: int) -> bool:
        """Return whether the service itself refused with one of `statuses`.

        It does so as JSON, with a `detail`. A front end's page is not its word.
        """
        return self.status in statuses and _holds(self.body, _Refusal)

    def is_success(self, *statuses: int) -> bool:
        """Return whether the service did what was asked, with one of `statuses`."""
        is_its_own = not self.body or _holds(self.body, object)
        return self.status in statuses and is_its_own


class _Refusal(Struct):
    detail: str | list[object] | dict[str, object]


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
        """Make all calls side by side; return what became of each, in order.

        Each is tried three times at most: again only after a failure of the connection
        and a status that may pass. Nothing waits past `deadline` (monotonic seconds).
        """
        began = time.perf_counter()
        headers = _headers(user_id)
        base = self._pool.path
        tries = [_Try(call, base + call.path, self._late()) for call in calls]
        pending = tries
        for attempt in range(1 + RETRIES):
            if attempt and not all(each.is_stale for each in pending):
                pause = random.uniform(0.5, 1.5) * 0.05 * 2**attempt  # noqa: S311 jitter
                time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
            for start in range(0, len(pending), MAX_IN_FLIGHT):
                wave = pending[start : start + MAX_IN_FLIGHT]
                self._exchange(wave, headers, deadline)
                if moved := [each for each in wave if self._is_moved(each)]:
                    self._exchange(moved, headers, deadline)
            pending = [each for each in pending if each.is_worth_retrying()]
            if not pending or time.monotonic() >= deadline:
                break
        if context := logs.current():
            context.upstream.append(time.perf_counter() - began)
        return [self._judged(each.result) for each in tries]

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()

    def invalid(self, response: UpstreamResponse, why: object) -> UpstreamBrokenError:
        """Log why a response makes no sense; return the error for it."""
        self._log(response.call, response.status, f"invalid response: {why}")
        return self._broken()

    def _broken(self) -> UpstreamBrokenError:
        said = f"Invalid response from the {self.name} service."
        return UpstreamBrokenError(said, extra={"service": self.name})

    def _unavailable(self) -> UpstreamUnavailableError:
        said = f"The {self.name} service is unavailable."
        return UpstreamUnavailableError(said, extra={"service": self.name})

    def _late(self) -> UpstreamTimeoutError:
        said = f"The {self.name} service did not answer in time."
        return UpstreamTimeoutError(said, extra={"service": self.name})

    def _judged(
        self, result: UpstreamResponse | ServiceError
    ) -> UpstreamResponse | ServiceError:
        if isinstance(result, UpstreamResponse) and (
            result.status >= _SERVER_ERROR or result.status in _RETRIED_STATUSES
        ):
            return self._unavailable()
        return result

    def _exchange(
        self,
        wave: Sequence["_Try"],
        headers: Mapping[str, str],
        deadline: float,
    ) -> None:
        """Send every request of the wave, then read every response into its try."""
        lets_us_in = True
        for each in wave:
            if time.monotonic() >= deadline or not lets_us_in:
                each.result = self._unavailable() if not lets_us_in else self._late()
                continue
            try:
                self._send(each, headers, deadline)
            except OSError as error:
                # The others need not wait as long for a connection as this one did.
                is_late = isinstance(error, TimeoutError)
                lets_us_in = each.connection is not None or not is_late
                self._fail(each, error, deadline)
        for each in wave:
            if each.connection is None:
                continue
            try:
                each.result = UpstreamResponse(each.call, *each.connection.read())
                failpoints.reach(f"call {self.name} after")
            except (OSError, HTTPException) as error:
                self._fail(each, error, deadline)
                continue
            if each.result.status >= _NOT_A_SUCCESS:
                self._log(each.call, each.result.status)
            self._pool.put_back(each.connection)
            each.end()

    def _send(self, each: "_Try", headers: Mapping[str, str], deadline: float) -> None:
        """Send one request; raise OSError."""
        own = {}
        if each.call.body is not None:
            own["Content-Type"] = "application/json"
        if tracing.is_on() and (span := self._span(each)):
            each.span = span
            own["traceparent"] = span.traceparent
        idle = None if each.is_stale else self._pool.take()
        each.is_stale = idle is not None  # until the response is there
        each.connection = idle or self._pool.connect(deadline)
        failpoints.reach(f"call {self.name} before")
        sent = {**headers, **own}
        each.connection.send(
            each.call.method, each.path, sent, each.call.body, deadline
        )

    def _fail(self, each: "_Try", error: Exception, deadline: float) -> None:
        if each.connection is not None:
            each.connection.close()
        if each.is_stale:  # whoever has forgotten it has forgotten the others, too
            self._pool.close()
        if not isinstance(error, (OSError, IncompleteRead)):
            each.result = self._broken()
        elif isinstance(error, TimeoutError) and time.monotonic() >= deadline:
            each.result = self._late()
        else:
            each.result = self._unavailable()
        self._log(each.call, None, type(error).__name__)
        each.end()

    def _log(self, call: Call, status: int | None, why: str | None = None) -> None:
        fields = {
            "sibling": self.name,
            "method": call.method,
            "path": call.path,
            "status": status,
        }
        told = (self.name, call.method, call.path, why or status)
        log.warning("%s service: %s %s: %s", *told, extra={"fields": fields})

    def _is_moved(self, each: "_Try") -> bool:
        """Return whether to ask once more, at the path that a redirect here names."""
        result = each.result
        if each.is_moved or not isinstance(result, UpstreamResponse):
            return False
        if each.call.method != "GET" or result.status not in _REDIRECTS:
            return False
        path = self._pool.own_path(result.location or "")
        each.path, each.is_moved = path or each.path, path is not None
        return each.is_moved

    def _span(self, each: "_Try") -> "Span | None":
        told: dict[str, str | int] = {
            "http.request.method": each.call.method,
            "server.address": self._pool.host,
            "server.port": self._pool.port,
            "url.path": each.path,
            "peer.service": self.name,
        }
        name = f"{each.call.method} {self.name}"
        return tracing.start(name, tracing.Kind.CLIENT, told)


class _Try(Struct):
    """A call on its way; `result` is what became of it so far."""

    call: Call
    path: str
    result: UpstreamResponse | ServiceError
    connection: Connection | None = None
    span: "Span | None" = None
    is_stale: bool = False  # its connection was an old one, and failed
    is_moved: bool = False

    def is_worth_retrying(self) -> bool:
        if isinstance(self.result, UpstreamResponse):
            return self.result.status in _RETRIED_STATUSES
        return isinstance(self.result, UpstreamUnavailableError)

    def end(self) -> None:
        """Let go of the connection, and end the span."""
        span, self.span, self.connection = self.span, None, None
        if isinstance(self.result, UpstreamResponse):
            self.is_stale = False
        if span is None:
            return
        if isinstance(self.result, ServiceError):
            span.end(error=type(self.result).__name__)
            return
        status = self.result.status
        error = str(status) if status >= _ERROR else None
        span.end(error=error, attributes={"http.response.status_code": status})


def require(result: UpstreamResponse | ServiceError) -> UpstreamResponse:
    """Return the response; raise the error where there is none."""
    if isinstance(result, ServiceError):
        raise result
    return result


def parse(upstream: Upstream, response: UpstreamResponse, shape: type[T]) -> T:
    """Return the body of a 200 as `shape`; raise UpstreamBrokenError for all else."""
    if response.status != _OK:
        raise upstream.invalid(response, response.status)
    try:
        return msgspec.json.decode(response.body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise upstream.invalid(response, error) from error


def _holds(body: bytes, shape: type[object]) -> bool:
    """Return whether a body is JSON of that shape."""
    try:
        msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _headers(user_id: UUID) -> dict[str, str]:
    headers = {
        "X-User-ID": str(user_id),
        "Accept": "application/json",
        # Without it the product service's read cache may answer with another row.
        "Cache-Control": "no-store",
    }
    if context := logs.current():
        headers["X-Request-ID"] = context.request_id
        if not tracing.is_on():
            headers["traceparent"] = context.traceparent
        if context.tracestate:
            headers["tracestate"] = context.tracestate
    return headers
