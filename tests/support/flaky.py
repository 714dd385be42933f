"""A link that fails at random in every way TCP can, from a seed.

Cuts are counted in bytes as well as seconds, so that they fall inside a frame or
between a message and its confirm.
"""

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from tests.support.link import Link

LONGEST_CUT = 3000  # bytes until it falls
DELAYS = (0.02, 0.3, 2.5)  # seconds; nobody waits for the last


class FlakyLink(Link):
    """A link whose trouble is on while `trouble` runs; `happened` counts it by kind."""

    def __init__(self, target: int) -> None:
        self.happened: Counter[str] = Counter()
        self._delay = 0.0
        # By direction, False being the client's: bytes that still pass before the cut.
        self._left: dict[bool, int | None] = {False: None, True: None}
        super().__init__(target)

    @contextlib.contextmanager
    def trouble(self, seed: int) -> Iterator[None]:
        """Fail again and again while the block runs; whole again after it."""
        is_over = threading.Event()
        troubled = threading.Thread(
            target=self._trouble, args=(random.Random(seed), is_over)
        )
        troubled.start()
        try:
            yield
        finally:
            is_over.set()
            troubled.join()
            self._left = {False: None, True: None}
            self._mend()

    def _trouble(self, chance: random.Random, is_over: threading.Event) -> None:
        kinds: dict[str, Callable[[], object]] = {
            "cut": self.cut,
            "cut in a question": lambda: self._cut_after(chance, is_answer=False),
            "cut in an answer": lambda: self._cut_after(chance, is_answer=True),
            "mute": lambda: setattr(self, "is_mute", True),
            "slow": lambda: setattr(self, "_delay", chance.choice(DELAYS)),
            "refuses": self.refuse,
            "hangs up": lambda: setattr(self, "is_hanging_up", True),
        }
        waiting: list[str] = []
        while not is_over.wait(chance.uniform(0.1, 0.6)):
            if not waiting:  # each has its turn before one comes again
                waiting = sorted(kinds)
                chance.shuffle(waiting)
            kind = waiting.pop()
            kinds[kind]()
            self.happened[kind] += 1
            is_over.wait(chance.choice((0.02, 0.3, 1.0)))
            self._mend()

    def _cut_after(self, chance: random.Random, *, is_answer: bool) -> None:
        self._left[is_answer] = chance.randrange(LONGEST_CUT)

    def _mend(self) -> None:
        self._delay = 0.0
        if self._listener.fileno() < 0 or self.is_mute or self.is_hanging_up:
            # Whatever was swallowed is missing: such a stream makes no sense any more.
            self.cut()
            self.restore()

    def _passed(self, data: bytes, client: socket.socket, *, is_answer: bool) -> bytes:
        del client
        if self._delay:
            time.sleep(self._delay)
        with self._lock:
            left = self._left[is_answer]
            if left is None:
                return data
            has_ended = left < len(data)
            self._left[is_answer] = None if has_ended else left - len(data)
        return data[:left] if has_ended else data


@contextlib.contextmanager
def flaky_link_to(port: int) -> Iterator[FlakyLink]:
    """Yield a flaky link to a port on loopback, sound until told otherwise."""
    running = FlakyLink(port)
    try:
        yield running
    finally:
        running.close()
