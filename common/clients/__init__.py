"""Calls to sibling services: many at once, over kept-alive connections, one deadline.

Lives here: links, retries, and what a broken answer means. Not here: HTTP (`wire.py`),
what is asked (`shopcart.py`, `product.py`). Surprise: no threads. Every request of a
batch is sent before the first answer is read, so the waits overlap at a fraction of the
cost of a thread a call.
"""

import random
import threading
import time
from collections.abc import Sequence
from typing import TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct

from common import failpoints, logs, tracing
from common.errors import (
    ServiceError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from common.tracing import Span
from common.wire import Address, Answer, Link, MalformedAnswerError, head
from common.wire import request as render

CONNECT_TIMEOUT_SECONDS = 1.0
MAX_IN_FLIGHT = 128
RETRIES = 2
_RETRIED_STATUSES = (502, 503, 504)
_IDEMPOTENT = ("GET", "PUT", "DELETE")

T = TypeVar("T")

log = logs.get("clients")


class Call(Struct, frozen=True):
    """One request to a sibling. `path` is added to the base URL's path."""

    method: str
    path: str
    body: bytes | None = None


class Upstream:
    """One sibling service: its name for messages, its address, its idle connections.

    Safe to share between threads; belongs to one process.
    """

    def __init__(self, name: str, base_url: str) -> None:
        self.name = name
        self._address = Address.of(base_url)
        self._idle: list[Link] = []
        self._lock = threading.Lock()

    def send(
        self, calls: Sequence[Call], user_id: UUID, deadline: float
    ) -> list[Answer | ServiceError]:
        """Make all calls side by side; answer what became of each, in order.

        At most two retries each, only of idempotent methods and only after connection
        failures, 502, 503 and 504. Nothing waits past `deadline` (monotonic seconds).
        """
        began = time.perf_counter()
        # With spans, each call says whose child what it causes is.
        headers = head({"Host": self._address.authority} | _headers(user_id))
        results: list[Answer | ServiceError] = [self._unavailable()] * len(calls)
        pending = list(range(len(calls)))
        for attempt in range(1 + RETRIES):
            if attempt:
                pause = random.uniform(0.5, 1.5) * 0.05 * 2**attempt  # noqa: S311 jitter
                time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
            for start in range(0, len(pending), MAX_IN_FLIGHT):
                wave = pending[start : start + MAX_IN_FLIGHT]
                self._exchange(wave, calls, headers, deadline, results)
            pending = [
                i
                for i in pending
                if calls[i].method in _IDEMPOTENT and _is_worth_retrying(results[i])
            ]
            if not pending or time.monotonic() >= deadline:
                break
        if context := logs.current():
            context.upstream.append(time.perf_counter() - began)
        return [self._judged(result) for result in results]

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()

    def broken(self) -> UpstreamBrokenError:
        """Answer the error for an answer that makes no sense."""
        return UpstreamBrokenError(
            f"The {self.name} service gave a nonsensical answer.",
            extra={"service": self.name},
        )

    def _unavailable(self) -> UpstreamUnavailableError:
        return UpstreamUnavailableError(
            f"The {self.name} service is unavailable.", extra={"service": self.name}
        )

    def _late(self) -> UpstreamTimeoutError:
        return UpstreamTimeoutError(
            f"The {self.name} service did not answer in time.",
            extra={"service": self.name},
        )

    def _judged(self, result: Answer | ServiceError) -> Answer | ServiceError:
        if isinstance(result, Answer) and result.status >= 500:  # noqa: PLR2004 5xx
            return self._unavailable()
        return result

    def _exchange(
        self,
        wave: Sequence[int],
        calls: Sequence[Call],
        headers: bytes,
        deadline: float,
        results: list[Answer | ServiceError],
    ) -> None:
        """Send every request of the wave, then read every answer into `results`."""
        in_flight: list[tuple[int, Link]] = []
        spans: dict[int, Span] = {}
        for i in wave:
            call = calls[i]
            if time.monotonic() >= deadline:
                results[i] = self._late()
                continue
            shared = headers
            if tracing.is_on() and (span := self._span(call)):
                spans[i] = span
                shared += head({"traceparent": span.traceparent})
            asked = render(
                call.method, self._address.path + call.path, shared, call.body
            )
            link = None
            try:
                link = self._take(deadline)
                failpoints.reach(f"call {self.name} before")
                link.send(asked, deadline)
                in_flight.append((i, link))
            except OSError as error:
                results[i] = self._failed(error, deadline)
                _end(spans.get(i), results[i])
                if link is not None:
                    link.close()
        for i, link in in_flight:
            try:
                results[i], is_kept_alive = link.read(deadline)
                failpoints.reach(f"call {self.name} after")
            except (OSError, MalformedAnswerError) as error:
                results[i] = self._failed(error, deadline)
                is_kept_alive = False
            _end(spans.get(i), results[i])
            if is_kept_alive:
                self._put_back(link)
            else:
                link.close()

    def _span(self, call: Call) -> Span | None:
        told: dict[str, str | int] = {
            "http.request.method": call.method,
            "server.address": self._address.host,
            "server.port": self._address.port,
            "url.path": self._address.path + call.path,
            "peer.service": self.name,
        }
        name = f"{call.method} {self.name}"
        return tracing.start(name, tracing.Kind.CLIENT, told)

    def _failed(self, error: Exception, deadline: float) -> ServiceError:
        log.warning("%s: %s", self.name, type(error).__name__)
        if isinstance(error, MalformedAnswerError):
            return self.broken()
        if isinstance(error, TimeoutError) and time.monotonic() >= deadline:
            return self._late()  # sooner it was the connect's: nobody is there
        return self._unavailable()

    def _take(self, deadline: float) -> Link:
        """Answer an idle link that is open, else a new one; raises OSError."""
        while True:
            with self._lock:
                link = self._idle.pop() if self._idle else None
            if link is None:
                break
            if not link.is_closed():
                return link
            link.close()
        remaining = max(0.001, deadline - time.monotonic())
        return Link(self._address, min(CONNECT_TIMEOUT_SECONDS, remaining))

    def _put_back(self, link: Link) -> None:
        with self._lock:
            if len(self._idle) < MAX_IN_FLIGHT:
                self._idle.append(link)
                return
        link.close()


def require(result: Answer | ServiceError) -> Answer:
    """Answer the answer; raises where there is none."""
    if isinstance(result, ServiceError):
        raise result
    return result


def parse(upstream: Upstream, answer: Answer, shape: type[T]) -> T:
    """Answer the body of a 200 as `shape`; raises UpstreamBrokenError for all else."""
    if answer.status != 200:  # noqa: PLR2004 OK
        raise upstream.broken()
    try:
        return msgspec.json.decode(answer.body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise upstream.broken() from error


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


def _end(span: Span | None, result: Answer | ServiceError) -> None:
    if span is None:
        return
    if isinstance(result, ServiceError):
        span.end(error=type(result).__name__)
        return
    error = str(result.status) if result.status >= 400 else None  # noqa: PLR2004 semantic conventions'
    span.end(error=error, attributes={"http.response.status_code": result.status})


def _is_worth_retrying(result: Answer | ServiceError) -> bool:
    if isinstance(result, Answer):
        return result.status in _RETRIED_STATUSES
    return isinstance(result, UpstreamUnavailableError)
