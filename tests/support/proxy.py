"""A link that counts connections and round trips.

A round trip is the client sending after the server has, which needs no knowledge of the
protocol.
"""

import contextlib
import socket
import time
from collections.abc import Iterator

from tests.support.link import Link, port_of


class Proxy(Link):
    """A link to the server of a URL; `self.url` leads through here."""

    def __init__(self, url: str) -> None:
        super().__init__(port_of(url))
        self.url = self.through(url)
        # When (`time.monotonic()`) each round trip began.
        self.turns: list[float] = []
        self._waiting: set[socket.socket] = set()  # clients, for an answer

    def count_anew(self) -> None:
        """Count from 0 again."""
        with self._lock:
            self.turns = []
            self.attempts = 0

    def _passed(self, data: bytes, client: socket.socket, *, is_answer: bool) -> bytes:
        with self._lock:
            if is_answer:
                self._waiting.discard(client)
            elif client not in self._waiting:
                self._waiting.add(client)
                self.turns.append(time.monotonic())
        return data


@contextlib.contextmanager
def proxy(url: str) -> Iterator[Proxy]:
    """Yield a proxy in front of the server of `url`."""
    running = Proxy(url)
    try:
        yield running
    finally:
        running.close()
