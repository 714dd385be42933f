"""Clients that send requests without a pause from one process, timed.

A client reconnects now and then: two workers share connections by chance, and kept ones
would fix that chance for a run.
"""

import itertools
import multiprocessing
import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

REQUESTS_A_CONNECTION = 50
TIMEOUT_SECONDS = 30.0
WARM_UP_SECONDS = 0.1
BROKEN = 0  # instead of a status: the connection broke before a response
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True, kw_only=True)
class Period:
    """The number of clients, the duration, and which statuses are expected.

    `allowed` statuses are neither faults nor successes.
    """

    clients: int
    seconds: float
    expected: frozenset[int] = frozenset({200})
    allowed: frozenset[int] = frozenset()
    warm_up_seconds: float = WARM_UP_SECONDS


@dataclass(kw_only=True)
class Outcome:
    """The results of a period.

    `latencies` are the ascending seconds of expected responses within the period;
    `statuses` and `sent` count all requests, including those of the warm-up.
    """

    seconds: float
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    unexpected: int = 0
    example: str = ""  # the first unexpected response
    sent: int = 0


def run(port: int, requests: Iterable[bytes], period: Period) -> Outcome:
    """Call `ask` in a forked process.

    `requests` are therefore not advanced here. Raise EOFError if the process fails;
    missing responses are an outcome.
    """
    ours, theirs = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_child, args=(port, requests, period, theirs))
    process.start()
    theirs.close()
    with ours:
        outcome: Outcome = ours.recv()
    process.join()
    return outcome


def _child(
    port: int, requests: Iterable[bytes], period: Period, pipe: Connection
) -> None:
    with pipe:
        pipe.send(ask(port, requests, period))


def ask(port: int, requests: Iterable[bytes], period: Period) -> Outcome:
    """Send `requests` to 127.0.0.1:`port` in turn, and return the outcome.

    Each is a complete HTTP/1.1 request, and sent once.
    """
    return _Loop(port, iter(requests), period).run()


class _Client:
    """One client: its connection, and the request whose response it waits for."""

    __slots__ = ("is_kept", "left", "received", "sent_at", "socket")

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.is_kept = False  # the connection has already received a response
        self.left = 0
        self.sent_at = 0.0
        self.received = b""


class _Loop:
    """The loop: a client that has its response sends the next request."""

    def __init__(self, port: int, requests: Iterator[bytes], period: Period) -> None:
        self._port = port
        self._requests = requests
        self._period = period
        self._selector = selectors.DefaultSelector()
        self._outcome = Outcome(seconds=period.seconds)
        self._waiting = 0
        # Connections end at different times, so that not all are new at once.
        self._stagger = itertools.cycle(range(REQUESTS_A_CONNECTION))
        self._begin_at = self._end_at = 0.0

    def run(self) -> Outcome:
        """Send until the period is over, then wait for outstanding responses."""
        self._begin_at = time.perf_counter() + self._period.warm_up_seconds
        self._end_at = self._begin_at + self._period.seconds
        for _ in range(self._period.clients):
            self._ask(_Client())
        while self._waiting:
            ready = self._selector.select(TIMEOUT_SECONDS)
            if not ready:
                self._count(BROKEN, 0.0, f"no response in {TIMEOUT_SECONDS:.0f} s")
                break
            for key, _ in ready:
                self._receive(key.data)
        for key in list(self._selector.get_map().values()):
            self._disconnect(key.data)
        self._selector.close()
        self._outcome.latencies.sort()
        return self._outcome

    def _ask(self, client: _Client) -> None:
        if time.perf_counter() >= self._end_at:
            return
        request = next(self._requests, None)
        if request is None:
            self._stop_early()
            return
        try:
            if client.socket is None or not client.left:
                self._connect(client)
            assert client.socket
            client.left -= 1
            client.sent_at = time.perf_counter()
            client.socket.sendall(request)
        except OSError as error:
            self._count(BROKEN, 0.0, type(error).__name__)
            self._end_at = 0.0  # nothing listens: the run has failed
            return
        self._outcome.sent += 1
        self._waiting += 1

    def _stop_early(self) -> None:
        """Shorten the period, as there are no requests left."""
        now = time.perf_counter()
        if now < self._end_at:
            self._outcome.seconds = max(0.001, now - self._begin_at)
            self._end_at = now

    def _connect(self, client: _Client) -> None:
        self._disconnect(client)
        connection = socket.create_connection(
            ("127.0.0.1", self._port), TIMEOUT_SECONDS
        )
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(connection, selectors.EVENT_READ, client)
        client.socket = connection
        client.is_kept = False
        client.left = REQUESTS_A_CONNECTION - next(self._stagger) // 2
        client.received = b""

    def _disconnect(self, client: _Client) -> None:
        if client.socket is not None:
            self._selector.unregister(client.socket)
            client.socket.close()
            client.socket = None

    def _receive(self, client: _Client) -> None:
        assert client.socket
        try:
            received = client.socket.recv(262144)
        except OSError:
            received = b""
        if not received:
            self._disconnect(client)
            self._waiting -= 1
            # gunicorn closes a connection that was idle for two seconds, even if a
            # request is on its way: then it is sent again on a new one.
            if not client.is_kept or client.received:
                self._count(BROKEN, 0.0, "the connection broke before a response")
            self._ask(client)
            return
        response = client.received + received if client.received else received
        head = response.find(b"\r\n\r\n")
        if head < 0 or len(response) < head + 4 + _length(response, head):
            client.received = response
            return
        client.received = b""
        client.is_kept = True
        self._waiting -= 1
        seconds = time.perf_counter() - client.sent_at
        self._count(int(response[9:12]), seconds, response)
        if b"\r\nconnection: close" in response[:head].lower():
            self._disconnect(client)
        self._ask(client)

    def _count(self, status: int, seconds: float, response: str | bytes) -> None:
        outcome = self._outcome
        outcome.statuses[status] += 1
        is_expected = status in self._period.expected
        if not is_expected and status not in self._period.allowed:
            outcome.unexpected += 1
            outcome.example = outcome.example or _text(response)
        now = time.perf_counter()
        if is_expected and self._begin_at <= now <= self._end_at:
            outcome.latencies.append(seconds)


def _length(response: bytes, head: int) -> int:
    mark = response.find(b"ontent-Length: ", 0, head)
    if mark < 0:
        return 0
    return int(response[mark + 15 : response.find(b"\r", mark)])


def _text(response: str | bytes) -> str:
    text = response if isinstance(response, str) else response.decode(errors="replace")
    return text[:500]
