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
PATIENCE_SECONDS = 30.0
WARM_UP_SECONDS = 0.1
BROKEN = 0  # in place of a status: the link broke before there was an answer
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True, kw_only=True)
class Spell:
    """How many ask at once, for how long, and which statuses are as they should be.

    `expected` ones are what was asked for; `allowed` ones are no fault, and no success.
    """

    clients: int
    seconds: float
    expected: frozenset[int] = frozenset({200})
    allowed: frozenset[int] = frozenset()
    warm_up_seconds: float = WARM_UP_SECONDS


@dataclass(kw_only=True)
class Outcome:
    """What a spell brought.

    `latencies` are the seconds, ascending, of what was answered as expected within the
    spell; `statuses` and `sent` count all requests, those of the warm-up, too.
    """

    seconds: float
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    unexpected: int = 0
    said: str = ""  # the first answer that was not expected
    sent: int = 0


def run(port: int, requests: Iterable[bytes], spell: Spell) -> Outcome:
    """Do what `ask` does in a process of its own, which is forked.

    `requests` are therefore not advanced here. Raise EOFError where the loop itself
    broke down; that no answer comes is an outcome.
    """
    ours, theirs = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_child, args=(port, requests, spell, theirs))
    process.start()
    theirs.close()
    with ours:
        outcome: Outcome = ours.recv()
    process.join()
    return outcome


def _child(
    port: int, requests: Iterable[bytes], spell: Spell, pipe: Connection
) -> None:
    with pipe:
        pipe.send(ask(port, requests, spell))


def ask(port: int, requests: Iterable[bytes], spell: Spell) -> Outcome:
    """Have clients ask 127.0.0.1:`port` for `requests`, in turn; return what came.

    Each is a whole HTTP/1.1 request and sent once.
    """
    return _Loop(port, iter(requests), spell).run()


class _Client:
    """One client: its connection, and the request that it waits for."""

    __slots__ = ("come", "is_kept", "left", "sent_at", "socket")

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.is_kept = False  # the connection has brought an answer before
        self.left = 0
        self.sent_at = 0.0
        self.come = b""


class _Loop:
    """The loop: whoever has an answer asks for the next thing."""

    def __init__(self, port: int, requests: Iterator[bytes], spell: Spell) -> None:
        self._port = port
        self._requests = requests
        self._spell = spell
        self._selector = selectors.DefaultSelector()
        self._outcome = Outcome(seconds=spell.seconds)
        self._waiting = 0
        # Connections end at different times, so that not all are new at once.
        self._stagger = itertools.cycle(range(REQUESTS_A_CONNECTION))
        self._begin_at = self._end_at = 0.0

    def run(self) -> Outcome:
        """Ask until the spell is over, and wait for what is still to come."""
        self._begin_at = time.perf_counter() + self._spell.warm_up_seconds
        self._end_at = self._begin_at + self._spell.seconds
        for _ in range(self._spell.clients):
            self._ask(_Client())
        while self._waiting:
            ready = self._selector.select(PATIENCE_SECONDS)
            if not ready:
                self._count(BROKEN, 0.0, f"no answer in {PATIENCE_SECONDS:.0f} s")
                break
            for key, _ in ready:
                self._hear(key.data)
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
            self._run_dry()
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
            self._end_at = 0.0  # nobody is there: the run has failed
            return
        self._outcome.sent += 1
        self._waiting += 1

    def _run_dry(self) -> None:
        """Shorten the spell: there is nothing left to ask for."""
        now = time.perf_counter()
        if now < self._end_at:
            self._outcome.seconds = max(0.001, now - self._begin_at)
            self._end_at = now

    def _connect(self, client: _Client) -> None:
        self._disconnect(client)
        fresh = socket.create_connection(("127.0.0.1", self._port), PATIENCE_SECONDS)
        fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(fresh, selectors.EVENT_READ, client)
        client.socket = fresh
        client.is_kept = False
        client.left = REQUESTS_A_CONNECTION - next(self._stagger) // 2
        client.come = b""

    def _disconnect(self, client: _Client) -> None:
        if client.socket is not None:
            self._selector.unregister(client.socket)
            client.socket.close()
            client.socket = None

    def _hear(self, client: _Client) -> None:
        assert client.socket
        try:
            come = client.socket.recv(262144)
        except OSError:
            come = b""
        if not come:
            self._disconnect(client)
            self._waiting -= 1
            # gunicorn closes what was idle for two seconds, also if a request is on its
            # way by then: whoever keeps connections sends it again on a new one.
            if not client.is_kept or client.come:
                self._count(BROKEN, 0.0, "the link broke before there was an answer")
            self._ask(client)
            return
        answer = client.come + come if client.come else come
        head = answer.find(b"\r\n\r\n")
        if head < 0 or len(answer) < head + 4 + _length(answer, head):
            client.come = answer
            return
        client.come = b""
        client.is_kept = True
        self._waiting -= 1
        seconds = time.perf_counter() - client.sent_at
        self._count(int(answer[9:12]), seconds, answer)
        if b"\r\nconnection: close" in answer[:head].lower():
            self._disconnect(client)
        self._ask(client)

    def _count(self, status: int, seconds: float, said: str | bytes) -> None:
        outcome = self._outcome
        outcome.statuses[status] += 1
        is_expected = status in self._spell.expected
        if not is_expected and status not in self._spell.allowed:
            outcome.unexpected += 1
            outcome.said = outcome.said or _text(said)
        now = time.perf_counter()
        if is_expected and self._begin_at <= now <= self._end_at:
            outcome.latencies.append(seconds)


def _length(answer: bytes, head: int) -> int:
    mark = answer.find(b"ontent-Length: ", 0, head)
    if mark < 0:
        return 0
    return int(answer[mark + 15 : answer.find(b"\r", mark)])


def _text(said: str | bytes) -> str:
    text = said if isinstance(said, str) else said.decode(errors="replace")
    return text[:500]
