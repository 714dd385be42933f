"""Calls to sibling services: many at once, over kept-alive connections, one deadline.

Lives here: the transport, retries, and what a broken answer means. Not here: what is
asked (`shopcart.py`, `product.py`). Surprise: no threads. Every request of a batch is
sent before the first answer is read, so the waits overlap at a fraction of the cost of
a thread a call; measured, that is where a checkout spends its processor time.
"""

import functools
import http.client
import io
import random
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from msgspec import Struct

from common import failpoints, logs
from common.errors import (
    ServiceError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from common.links import has_spoken

CONNECT_TIMEOUT_SECONDS = 1.0
MAX_IN_FLIGHT = 128
MAX_ANSWER_BYTES = 4 * 1024 * 1024
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


class Answer(Struct, frozen=True):
    """A sibling's answer, whole."""

    status: int
    body: bytes


class Upstream:
    """One sibling service: its name for messages, its address, its idle connections.

    Safe to share between threads; belongs to one process.
    """

    def __init__(self, name: str, base_url: str) -> None:
        parts = urlsplit(base_url)
        self.name = name
        self._host = parts.hostname or ""
        self._port = parts.port
        self._path = parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def send(
        self, calls: Sequence[Call], user_id: UUID, deadline: float
    ) -> list[Answer | ServiceError]:
        """Make all calls side by side; answer what became of each, in order.

        At most two retries each, only of idempotent methods and only after connection
        failures, 502, 503 and 504. Nothing waits past `deadline` (monotonic seconds).
        """
        headers = _headers(user_id)
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
        return [self._judged(result) for result in results]

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

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
        headers: dict[str, str],
        deadline: float,
        results: list[Answer | ServiceError],
    ) -> None:
        """Send every request of the wave, then read every answer into `results`."""
        in_flight: list[tuple[int, http.client.HTTPConnection]] = []
        for i in wave:
            call = calls[i]
            connection = self._take(deadline)
            if connection is None:
                results[i] = self._late()
                continue
            try:
                sent = headers
                if call.body is not None:
                    sent = headers | {"Content-Type": "application/json"}
                failpoints.reach(f"call {self.name} before")
                connection.request(call.method, self._path + call.path, call.body, sent)
                in_flight.append((i, connection))
            except OSError as error:
                results[i] = self._failed(error, deadline)
                connection.close()
        for i, connection in in_flight:
            try:
                results[i] = self._read(connection, deadline)
                failpoints.reach(f"call {self.name} after")
            except (OSError, http.client.HTTPException) as error:
                results[i] = self._failed(error, deadline)
                connection.close()

    def _failed(self, error: Exception, deadline: float) -> ServiceError:
        log.warning("%s: %s", self.name, type(error).__name__)
        if isinstance(error, TimeoutError) and time.monotonic() >= deadline:
            return self._late()  # sooner it was the connect's: nobody is there
        if isinstance(error, OSError | http.client.IncompleteRead):
            return self._unavailable()
        return self.broken()  # that was no HTTP

    def _read(
        self, connection: http.client.HTTPConnection, deadline: float
    ) -> Answer | ServiceError:
        connection.response_class = functools.partial(_Response, deadline=deadline)  # type: ignore[assignment]
        response = connection.getresponse()
        chunks: list[bytes] = []
        size = 0
        while chunk := response.read1(65536):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                connection.close()
                return self.broken()
        if response.length:  # what Content-Length promised did not all come
            raise http.client.IncompleteRead(b"", response.length)
        response.close()  # read to its end; without it the link counts as busy
        if response.will_close:
            connection.close()
        else:
            self._put_back(connection)
        return Answer(response.status, b"".join(chunks))

    def _take(self, deadline: float) -> http.client.HTTPConnection | None:
        """Answer an idle connection whose link is open, else a new one."""
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return None
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                break
            if not has_spoken(connection.sock):
                connection.sock.settimeout(remaining)
                return connection
            connection.close()
        timeout = min(CONNECT_TIMEOUT_SECONDS, remaining)
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=timeout, context=self._tls
        )

    def _put_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < MAX_IN_FLIGHT:
                self._idle.append(connection)
                return
        connection.close()


class _Response(http.client.HTTPResponse):
    """An answer of which no byte is waited for past the deadline.

    A time-out of the socket alone starts anew with each byte that drips in.
    """

    def __init__(self, sock: socket.socket, *, deadline: float, method: str) -> None:
        super().__init__(sock, method=method)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_Reader(raw, sock, deadline))


class _Reader(io.RawIOBase):
    """Reads what a socket gets, until the deadline."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        """Answer yes."""
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 a buffer has no type before 3.12
        """Wait for bytes; raises TimeoutError at the deadline."""
        self._sock.settimeout(max(0.001, self._deadline - time.monotonic()))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()


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
        headers["traceparent"] = context.traceparent
    return headers


def _is_worth_retrying(result: Answer | ServiceError) -> bool:
    if isinstance(result, Answer):
        return result.status in _RETRIED_STATUSES
    return isinstance(result, UpstreamUnavailableError)
