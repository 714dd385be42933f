"""One user who hammers an instance, and another who uses it as people do.

Lives here: clients in threads, and what came back when. Not here: the instances, and
what is hammered (`tests/faults/test_fairness.py`). Surprise: who hammers heeds no
Retry-After, and does not even wait to be told.
"""

import contextlib
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CLIENTS = 12
PAUSE_SECONDS = 0.01
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Ask:
    """One request, as it goes out."""

    method: str
    path: str
    user: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Told:
    """What came back, and after how long. No status: the link broke."""

    ask: Ask
    status: int | None
    seconds: float
    body: bytes = field(repr=False)


class Client:
    """A kept-alive connection to an instance, opened anew where it was closed."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        self._link = http.client.HTTPConnection(
            parts.hostname, parts.port, PATIENCE_SECONDS
        )

    def send(self, ask: Ask) -> Told:
        """Send a request and wait for its answer."""
        headers = {"X-User-ID": ask.user, "Content-Type": "application/json"}
        began = time.perf_counter()
        status, content = None, b""
        try:
            self._link.request(
                ask.method, ask.path, ask.body, headers | dict(ask.headers)
            )
            answer = self._link.getresponse()
            status, content = answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self._link.close()
        return Told(ask, status, time.perf_counter() - began, content)

    def close(self) -> None:
        """Close the connection."""
        self._link.close()


@contextlib.contextmanager
def hammering(url: str, ask: Ask) -> Iterator[Counter[int | None]]:
    """Send the request from many clients, again and again, while the block runs.

    Yields how often each status was answered so far.
    """
    statuses: Counter[int | None] = Counter()
    is_over = threading.Event()

    def hammer() -> None:
        client = Client(url)
        while not is_over.is_set():
            statuses[client.send(ask).status] += 1
            time.sleep(PAUSE_SECONDS)
        client.close()

    threads = [threading.Thread(target=hammer) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        is_over.set()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)


def using(
    url: str, asks: Callable[[Client], Iterator[Told]], seconds: float
) -> list[Told]:
    """Have somebody use the instance for so long; answer all they were told."""
    client = Client(url)
    deadline = time.monotonic() + seconds
    told: list[Told] = []
    while time.monotonic() < deadline:
        for each in asks(client):
            told.append(each)
            if time.monotonic() >= deadline:
                break
    client.close()
    return told


def orders_user(user: str) -> Callable[[Client], Iterator[Told]]:
    """Answer somebody who reads and writes their orders."""

    def use(client: Client) -> Iterator[Told]:
        made = client.send(Ask("POST", "/api/orders/", user, b"{}"))
        yield made
        yield client.send(Ask("GET", "/api/orders/?limit=5", user))
        if made.status == http.client.CREATED:
            path = f"/api/orders/{json.loads(made.body)['id']}/"
            body = b'{"metadata": {"gift": "yes"}}'
            yield client.send(Ask("PATCH", path, user, body))
            yield client.send(Ask("GET", path, user))
            yield client.send(Ask("DELETE", path, user))

    return use
