"""A destination: its publisher, one thread at a time, and whether it is worth a try.

Lives here: when one that was away is left alone, and for how long. Not here: what
becomes of events (`relay.py`), wire formats (`publishing/`). Surprise: after it was
away, of all requests one at a time finds out whether it is back; to the others it costs
nothing.
"""

import threading
import time
from collections.abc import Sequence

from common import logs
from common.publishing import Message, Outcome, Publisher, Result

PROBE_PATIENCE_SECONDS = 1.0
# How long a destination is left alone that was not there: doubled from the first on.
PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 10.0
_IS_AWAY = (Result.UNAVAILABLE, Result.UNCONFIRMED)

log = logs.get("relay")


class Destination:
    """A publisher, for one thread at a time, and whether it is worth a try."""

    def __init__(self, name: str, publisher: Publisher) -> None:
        self.name = name
        self._publisher = publisher
        self._in_use = threading.Lock()
        self._state = threading.Lock()
        self._failures = 0  # in a row
        self._paused_until = 0.0

    def admit(self) -> bool:
        """Tell whether to try it now; after a failure one is let through at a time."""
        with self._state:
            if _now() < self._paused_until:
                return False
            if self._failures:
                self._pause()
            return True

    def patience(self, seconds: float) -> float:
        """Answer how long a request may wait for it: less where it was away."""
        return min(seconds, PROBE_PATIENCE_SECONDS) if self._failures else seconds

    def publish(self, messages: Sequence[Message], patience: float) -> list[Outcome]:
        """Publish and remember whether anybody was there."""
        deadline = _now() + patience
        failures = self._failures
        # Waiting for another thread's publishing has a bound, too.
        if not self._in_use.acquire(timeout=patience):
            return [Outcome(m.id, Result.NOT_TRIED) for m in messages]
        try:
            if self._failures > failures:  # whoever went first found it away
                return [Outcome(m.id, Result.NOT_TRIED) for m in messages]
            outcomes = self._publisher.publish(messages, deadline)
        except Exception as error:  # a defect, which must not keep others' events
            log.exception("a publisher broke its promise")
            reason = type(error).__name__
            outcomes = [Outcome(m.id, Result.UNCONFIRMED, reason) for m in messages]
        finally:
            self._in_use.release()
        self._note({outcome.result for outcome in outcomes})
        return outcomes

    def _note(self, results: set[Result]) -> None:
        with self._state:
            if not results.isdisjoint(_IS_AWAY):
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
