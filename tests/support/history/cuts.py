"""Links that lose questions and answers, and carry questions out late."""

import random
import socket
import time
from collections import Counter

from tests.support.link import Link

CUT = 0.05  # of what passes, in each direction
LATEST_SECONDS = 1.0  # until a question of which nobody hears any more is passed on


class CuttingLink(Link):
    """Cuts connections for as long as it `is_cutting`; `happened` counts it by kind."""

    def __init__(self, target: int, chance: random.Random) -> None:
        self.is_cutting = True
        self.happened: Counter[str] = Counter()
        self._chance = chance
        super().__init__(target)

    def _passed(self, data: bytes, client: socket.socket, *, is_answer: bool) -> bytes:
        if not self.is_cutting or self._chance.random() > CUT:
            return data
        part = data[: self._chance.randrange(len(data))]
        if is_answer:
            self._count("in the answer")
            return part
        if self._chance.random() < 0.5:
            self._count("in the question")
            return part
        self._count("between them")
        client.shutdown(socket.SHUT_RDWR)
        time.sleep(self._chance.choice((0, self._chance.uniform(0, LATEST_SECONDS))))
        return data

    def _count(self, kind: str) -> None:
        with self._lock:
            self.happened[kind] += 1
