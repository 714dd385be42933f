"""Customers and shops that order and deliver at a steady pace over HTTP, timed.

Clients alternate between groups of processes, because only figures of the same seconds
compare on a busy machine.
"""

import contextlib
import http.client
import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pika.adapters.blocking_connection import BlockingChannel

from tests.support.crash.nursery import PATIENCE_SECONDS, Child, Nursery
from tests.support.crash.world import Request
from tests.support.sandbox import Sandbox
from tests.support.service import new_user

CHECKOUT = "/api/orders-from-shopcart/"
CLIENTS = 4
PAUSE_SECONDS = 0.01  # between a client's requests, so that no queue builds up
RETRY_SECONDS = 0.2  # a client's patience; shorter than it is told, to ask more often
OK, CREATED, UNAVAILABLE = 200, 201, 503
FUNCTIONS = ("create_order_from_cart", "item_status")
# What becomes of each order's items: by index, the status.
MOVES = ((0, 2), (1, 4), (0, 3))


@dataclass(frozen=True)
class Sample:
    """One request: which group of processes it asked, and when in the test."""

    group: str
    phase: str
    kind: str
    seconds: float
    status: int | None  # None: the link broke before there was an answer
    has_retry_after: bool = False


Ports = Mapping[str, int]  # by function


def start_group(
    nursery: Nursery, environ: Mapping[str, str], functions: Sequence[str] = FUNCTIONS
) -> dict[str, Child]:
    """Start a process for each function, as an instance of the platform's would be."""
    settings = {**environ, "THREADS": "8", "LOG_LEVEL": "INFO"}
    return {name: nursery.start(name, settings) for name in functions}


def end_all(nursery: Nursery, *groups: Mapping[str, Child]) -> None:
    """End processes at once, those that have not ended."""
    for group in groups:
        for child in group.values():
            nursery.kill(child)


class Load:
    """Clients at work; `phase` is what time it is, for whoever compares."""

    def __init__(
        self,
        sandbox: Sandbox,
        groups: Mapping[str, Mapping[str, Child]],
        *,
        retries_unavailable: bool = False,
    ) -> None:
        self.phase = "start"
        self.samples: list[Sample] = []
        self._sandbox = sandbox
        self._groups: dict[str, Ports] = {
            name: {function: child.port for function, child in group.items()}
            for name, group in groups.items()
        }
        self.retries_unavailable = retries_unavailable
        self._is_over = threading.Event()
        self._broken: list[BaseException] = []
        self._articles = [sandbox.add_article(amount=1_000_000) for _ in range(20)]

    @contextlib.contextmanager
    def running(self, clients: int = CLIENTS) -> Iterator["Load"]:
        """Have clients at work while the block runs; fails where one broke down."""
        threads = [
            threading.Thread(target=self._work, args=[n]) for n in range(clients)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join(PATIENCE_SECONDS)
        assert not self._broken, self._broken

    def failures(self, *accepted: int) -> list[Sample]:
        """Return every request that was not answered as `accepted`."""
        return [s for s in self.samples if s.status not in (accepted or (OK, CREATED))]

    def median(self, group: str, kind: str, *phases: str) -> float:
        """Return the median of the seconds that such requests took."""
        return statistics.median(self._seconds(group, kind, phases))

    def ratio(self, group: str, to: str, *phases: str) -> float:
        """Return how much slower one group was than another in the same phases.

        Each kind of request is compared with its own, and the worst is answered.
        """
        kinds = {sample.kind for sample in self.samples}
        return max(
            self.median(group, kind, *phases) / self.median(to, kind, *phases)
            for kind in kinds
        )

    def report(self) -> str:
        """Return counts and percentiles of each group, phase and kind, in ms."""
        keys = Counter((s.group, s.phase, s.kind) for s in self.samples)
        lines = []
        for (group, phase, kind), count in keys.items():
            seconds = sorted(self._seconds(group, kind, (phase,)))
            p50, p95, most = (
                1000 * seconds[int(part * (count - 1))] for part in (0.5, 0.95, 1)
            )
            lines.append(
                f"{group:9} {phase:8} {kind:9} n={count:5}"
                f" p50={p50:6.1f} p95={p95:6.1f} max={most:7.1f}"
            )
        return "\n".join(lines)

    def _seconds(self, group: str, kind: str, phases: Sequence[str]) -> list[float]:
        return [
            sample.seconds
            for sample in self.samples
            if (sample.group, sample.kind) == (group, kind) and sample.phase in phases
        ]

    def _work(self, number: int) -> None:
        clients = {
            name: _Client(self, name, ports) for name, ports in self._groups.items()
        }
        names = list(clients)
        turn = number
        try:
            while not self._is_over.is_set():
                clients[names[turn % len(names)]].buy()
                turn += 1
        except BaseException as error:  # noqa: BLE001 told by who waits for the thread
            self._broken.append(error)
        finally:
            for client in clients.values():
                client.close()

    def fill_cart(self, user: str, turn: int) -> None:
        for offset in range(2):
            article = self._articles[(turn + offset) % len(self._articles)]
            self._sandbox.add_to_cart(user, article)


class _Client:
    """A customer and a shop in one, on kept-alive connections to one group."""

    def __init__(self, load: Load, group: str, ports: Ports) -> None:
        self._load = load
        self._group = group
        self._links = {
            function: http.client.HTTPConnection("127.0.0.1", port, PATIENCE_SECONDS)
            for function, port in ports.items()
        }
        self._turn = 0

    def buy(self) -> None:
        """Order two things, and have them shipped, delivered and cancelled."""
        user = new_user()
        self._turn += 1
        self._load.fill_cart(user, self._turn)
        checkout = Request("POST", CHECKOUT, {"X-User-ID": user})
        answer = self._ask("create_order_from_cart", checkout)
        if answer is None:
            return
        items = json.loads(answer)["order"]["items"]
        for index, status in MOVES:
            path = f"/api/order-items/{items[index]['id']}/status/"
            headers = {"X-User-ID": new_user(), "Content-Type": "application/json"}
            move = Request("PATCH", path, headers, json.dumps({"status": status}))
            self._ask("item_status", move)

    def _ask(self, function: str, request: Request) -> bytes | None:
        """Send a request, again while it is told to; None where it failed."""
        while True:
            time.sleep(PAUSE_SECONDS)
            sample, answer = self._send(function, request)
            self._load.samples.append(sample)
            if sample.status in (OK, CREATED):
                return answer
            if not (self._load.retries_unavailable and sample.status == UNAVAILABLE):
                return None
            time.sleep(RETRY_SECONDS)

    def _send(self, function: str, request: Request) -> tuple[Sample, bytes]:
        link = self._links[function]
        kind = "checkout" if request.path == CHECKOUT else "move"
        phase, began = self._load.phase, time.perf_counter()
        status: int | None = None
        content, has_retry_after = b"", False
        try:
            link.request(request.method, request.path, request.body, request.headers)
            answer = link.getresponse()
            content, status = answer.read(), answer.status
            has_retry_after = "Retry-After" in answer.headers
        except (OSError, http.client.HTTPException):
            link.close()
        seconds = time.perf_counter() - began
        sample = Sample(self._group, phase, kind, seconds, status, has_retry_after)
        return sample, content

    def close(self) -> None:
        for link in self._links.values():
            link.close()


@contextlib.contextmanager
def sweeping(
    relays: Sequence[Child], every_seconds: float = 0.5
) -> Iterator[list[int]]:
    """Call relays as the scheduler does, only more often; yields how they answered."""
    answers: list[int] = []
    is_over = threading.Event()

    def sweep(port: int) -> None:
        link = http.client.HTTPConnection("127.0.0.1", port, PATIENCE_SECONDS)
        with contextlib.closing(link):
            while not is_over.wait(every_seconds):
                link.request("POST", "/", b"")
                answer = link.getresponse()
                answer.read()
                answers.append(answer.status)

    threads = [threading.Thread(target=sweep, args=[relay.port]) for relay in relays]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        is_over.set()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)


def stay(channel: BlockingChannel, seconds: float) -> None:
    """Let time pass, with heartbeats answered on the channel's connection."""
    channel.connection.sleep(seconds)
