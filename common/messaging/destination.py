"""A destination: its publisher, used by one thread at a time, and its availability.

After a failure, one request at a time tries it again; the others skip it.
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

PROBE_TIMEOUT_SECONDS = 1.0  # of a request, after a failure
SLOW_SECONDS = 2.0
# How long an unavailable destination is left alone, doubled with each failure.
PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 10.0

log = logs.get("relay")


@dataclass(eq=False)
class _Job:
    """The messages that one thread wants published, and their outcomes once done."""

    messages: Sequence[Message]
    deadline: float
    failures: int  # of the destination, when the job was queued
    outcomes: list[Outcome] = field(default_factory=list)
    is_done: bool = False


class Destination:
    """A publisher that threads share, behind a circuit breaker."""

    def __init__(self, name: str, publisher: Publisher) -> None:
        self.name = name
        self._publisher = publisher
        self._changed = threading.Condition()
        self._queue: list[_Job] = []
        self._busy_since: float | None = None
        self._failures = 0  # in a row
        self._paused_until = 0.0

    def allow_attempt(self) -> bool:
        """Return whether to try it now; after a failure, one caller at a time may.

        Return False while a call has been running for longer than a request would wait.
        """
        busy_since = self._busy_since
        if busy_since is not None and _now() - busy_since > SLOW_SECONDS:
            return False
        with self._changed:
            if _now() < self._paused_until:
                return False
            if self._failures:
                self._pause()
            return True

    def timeout(self, seconds: float) -> float:
        """Return how long a request may wait for it: less after a failure."""
        return min(seconds, PROBE_TIMEOUT_SECONDS) if self._failures else seconds

    def publish(self, messages: Sequence[Message], timeout: float) -> list[Outcome]:
        """Publish, and record whether the destination is available.

        Threads that call this while another one publishes wait for it, at most for
        `timeout`. The first of them to go on then publishes for all that are waiting,
        so that they share the round trips to the broker.
        """
        own = _Job(messages, _now() + timeout, self._failures)
        jobs: list[_Job] = []
        with self._changed:
            self._queue.append(own)
            self._changed.wait_for(
                lambda: own.is_done or self._busy_since is None, timeout
            )
            if own in self._queue:
                if self._busy_since is not None:  # timed out
                    self._queue.remove(own)
                    return outcomes(messages, {})
                jobs, self._queue = self._queue, []
                self._busy_since = _now()
            else:  # another thread publishes it, and ends by the same deadline
                self._changed.wait_for(lambda: own.is_done)
        if jobs:
            try:
                self._run(jobs)
            finally:
                with self._changed:
                    self._busy_since = None
                    for job in jobs:
                        job.is_done = True
                    self._changed.notify_all()
        return own.outcomes

    def _run(self, jobs: "Sequence[_Job]") -> None:
        """Publish the messages of all jobs, and give each job its outcomes."""
        earliest_deadline = _now() + SHORTEST_SECONDS
        # Skip jobs queued before the destination failed, and those whose time is almost
        # over, because the earliest deadline holds for all.
        runnable = [
            job
            for job in jobs
            if job.failures >= self._failures and job.deadline > earliest_deadline
        ]
        for job in jobs:
            if job not in runnable:
                job.outcomes = outcomes(job.messages, {})
        if not runnable:
            return
        messages = [message for job in runnable for message in job.messages]
        try:
            deadline = min(job.deadline for job in runnable)
            published = self._publisher.publish(messages, deadline)
        except Exception as error:  # a defect, which must not keep others' events
            log.exception("a publisher raised an unexpected error")
            reason = type(error).__name__
            published = [Outcome(m.id, Result.UNCONFIRMED, reason) for m in messages]
        self._update_breaker({outcome.result for outcome in published})
        by_id = {outcome.id: outcome for outcome in published}
        for job in runnable:
            job.outcomes = [by_id[message.id] for message in job.messages]

    def _update_breaker(self, results: set[Result]) -> None:
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
