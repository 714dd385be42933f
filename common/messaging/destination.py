"""A destination: its publisher, used by one thread at a time, and its availability.

After a failure, one request at a time tries whether it is back; the others skip it.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from common.publishing.publisher import (
    AWAY,
    SHORTEST_SECONDS,
    Message,
    Outcome,
    Publisher,
    Result,
    outcomes,
)
from common.telemetry import logs

PROBE_PATIENCE_SECONDS = 1.0
LONG_SECONDS = 2.0
# How long a destination is left alone that was not there: doubled from the first on.
PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 10.0

log = logs.get("relay")


@dataclass(eq=False)
class _Turn:
    """What one thread wants published, and what became of it, if anybody knows."""

    messages: Sequence[Message]
    deadline: float
    failures: int  # of the destination, when the thread came
    outcomes: list[Outcome] = field(default_factory=list)
    is_over: bool = False


class Destination:
    """A publisher that threads share, and whether it is worth a try."""

    def __init__(self, name: str, publisher: Publisher) -> None:
        self.name = name
        self._publisher = publisher
        self._changed = threading.Condition()
        self._waiting: list[_Turn] = []
        self._busy_since: float | None = None
        self._failures = 0  # in a row
        self._paused_until = 0.0

    def admit(self) -> bool:
        """Return whether to try it now; after a failure one is let through at a time.

        Not while somebody has been at it for longer than a request would wait.
        """
        busy_since = self._busy_since
        if busy_since is not None and _now() - busy_since > LONG_SECONDS:
            return False
        with self._changed:
            if _now() < self._paused_until:
                return False
            if self._failures:
                self._pause()
            return True

    def timeout(self, seconds: float) -> float:
        """Return how long a request may wait for it: less where it was away."""
        return min(seconds, PROBE_PATIENCE_SECONDS) if self._failures else seconds

    def publish(self, messages: Sequence[Message], timeout: float) -> list[Outcome]:
        """Publish and remember whether anybody was there.

        Who comes while another thread publishes waits, and one of those who wait takes
        along what all of them have: they share the round trips to the broker. Waiting
        is bounded by `timeout`, too.
        """
        mine = _Turn(messages, _now() + timeout, self._failures)
        turns: list[_Turn] = []
        with self._changed:
            self._waiting.append(mine)
            self._changed.wait_for(
                lambda: mine.is_over or self._busy_since is None, timeout
            )
            if mine in self._waiting:
                if self._busy_since is not None:  # and patience has run out
                    self._waiting.remove(mine)
                    return outcomes(messages, {})
                turns, self._waiting = self._waiting, []
                self._busy_since = _now()
            else:  # taken along by another thread, which ends by the same deadline
                self._changed.wait_for(lambda: mine.is_over)
        if turns:
            try:
                self._take(turns)
            finally:
                with self._changed:
                    self._busy_since = None
                    for turn in turns:
                        turn.is_over = True
                    self._changed.notify_all()
        return mine.outcomes

    def _take(self, turns: "Sequence[_Turn]") -> None:
        """Publish for all whose turn it is, and give each its outcomes."""
        latest = _now() + SHORTEST_SECONDS
        # To the others whoever went first has found it away, or they have no time left,
        # which would be all the time that the rest has.
        open_ = [
            turn
            for turn in turns
            if turn.failures >= self._failures and turn.deadline > latest
        ]
        for turn in turns:
            if turn not in open_:
                turn.outcomes = outcomes(turn.messages, {})
        if not open_:
            return
        messages = [message for turn in open_ for message in turn.messages]
        try:
            deadline = min(turn.deadline for turn in open_)
            ended = self._publisher.publish(messages, deadline)
        except Exception as error:  # a defect, which must not keep others' events
            log.exception("a publisher raised an unexpected error")
            reason = type(error).__name__
            ended = [Outcome(m.id, Result.UNCONFIRMED, reason) for m in messages]
        self._note({outcome.result for outcome in ended})
        by_id = {outcome.id: outcome for outcome in ended}
        for turn in open_:
            turn.outcomes = [by_id[message.id] for message in turn.messages]

    def _note(self, results: set[Result]) -> None:
        with self._changed:
            if not results.isdisjoint(AWAY):
                self._failures += 1
                self._pause()
            elif results != {Result.NOT_TRIED}:
                self._failures = 0
                self._paused_until = 0.0

    def _pause(self) -> None:
        doubled = PAUSE_SECONDS * 2.0 ** min(self._failures - 1, 10)
        self._paused_until = _now() + min(doubled, MAX_PAUSE_SECONDS)

    def close(self) -> None:
        """Close the publisher."""
        self._publisher.close()


def _now() -> float:
    return time.monotonic()
