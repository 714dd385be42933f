"""A sibling that answers so many requests at a time, and counts how often it does."""

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence

from tests.support.odd_server import OddServer, answers

PATIENCE_SECONDS = 20


class PacedServer(OddServer):
    """Holds requests until a pace's number has come, or all that are left of `total`.

    Then it answers these, and goes on with the next pace; the last one stays. `steps`
    is how often it did, `most_at_once` how many requests it has had at the same time.
    A client that does not keep it busy gets no answer.
    """

    def __init__(self, paces: Sequence[int], total: int) -> None:
        self.steps = self.most_at_once = 0
        self._paces, self._left = list(paces), total
        self._at_work = self._held = 0
        self._has_answered = threading.Condition()
        super().__init__(*[self._answer] * total)

    def _answer(self, link: socket.socket) -> None:
        with self._has_answered:
            self._at_work += 1
            self.most_at_once = max(self.most_at_once, self._at_work)
            self._held += 1
            step = self.steps
            if self._held == min(self._paces[0], self._left):
                self._paces = self._paces[1:] or self._paces
                self._left -= self._held
                self._held = 0
                self.steps += 1
                self._has_answered.notify_all()
            elif not self._has_answered.wait_for(
                lambda: self.steps > step, PATIENCE_SECONDS
            ):
                raise ConnectionError
            self._at_work -= 1
        answers('{"fine": true}')(link)


@contextlib.contextmanager
def paced_server(*paces: int, total: int) -> Iterator[PacedServer]:
    """Yield a server for `total` requests, which it answers at these paces."""
    running = PacedServer(paces, total)
    try:
        yield running
    finally:
        running.close()
