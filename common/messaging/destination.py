"""A destination: its publisher, used by one thread at a time, and its availability.

After a failure, one request at a time tries it again; the others skip it. A relay
reports in each of its passes how it is, so that whoever reads the database knows.
"""

import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from msgspec import Struct

from common.database.engine import Connection, Engine, connect, named
from common.domain.events import ANALYTICS
from common.errors import ServiceError
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
MAX_PAUSE_SECONDS = 8.0

log = logs.get("relay")
T = TypeVar("T")


@dataclass(frozen=True)
class State:
    """The error of the last attempt and when it was, if it failed.

    `next_try_seconds`: for how long the destination is left alone from now on.
    """

    error: str | None
    failed_at: datetime | None
    next_try_seconds: float


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
        self._error: str | None = None  # of the last attempt
        self._failed_at: datetime | None = None

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

    def state(self) -> State:
        """Return how the last attempt went, and for how long there is none now."""
        with self._changed:
            left = max(0.0, self._paused_until - _now())
            return State(self._error, self._failed_at, left)

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
        self._note(published)
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

    def _note(self, published: Sequence[Outcome]) -> None:
        """Keep the last reason why something was not sent, until all is sent again."""
        tried = [each for each in published if each.result is not Result.NOT_TRIED]
        reasons = [each.reason for each in tried if each.reason is not None]
        if not tried:
            return
        with self._changed:
            self._error = reasons[-1] if reasons else None
            self._failed_at = datetime.now(UTC) if reasons else None

    def _pause(self) -> None:
        doubled = PAUSE_SECONDS * 2.0 ** min(self._failures - 1, 10)
        self._paused_until = _now() + min(doubled, MAX_PAUSE_SECONDS)

    def close(self) -> None:
        """Close the publisher."""
        self._publisher.close()


def _now() -> float:
    return time.monotonic()


def in_parallel(
    call: Callable[[Destination], T], destinations: Sequence[Destination]
) -> "tuple[list[T], Future[T] | None]":
    """Call for all at once, so that one that does not respond delays no other.

    Wait for all but analytics; return their results, and the future of analytics.
    """
    names = [destination.name for destination in destinations]
    if len(names) < 2 and ANALYTICS not in names:  # noqa: PLR2004 a single one
        return [call(destination) for destination in destinations], None
    pool = ThreadPoolExecutor(len(names), "relay")
    running = {
        destination.name: pool.submit(contextvars.copy_context().run, call, destination)
        for destination in destinations
    }
    pool.shutdown(wait=False)
    slow = running.pop(ANALYTICS, None)
    return [each.result() for each in running.values()], slow


REPORT_SECONDS = 10.0  # where nothing has changed


class Report(Struct, frozen=True):
    """What the last relay that served a destination reported, `seconds` ago."""

    destination: str
    served_by: str
    served_at: datetime
    seconds: int
    last_error: str | None
    failed_at: datetime | None
    next_try_at: datetime | None


_WRITE = named(
    "reports.write",
    """
INSERT INTO destination_reports AS r
  (destination, served_by, served_at, last_error, failed_at, next_try_at)
VALUES (CAST(:destination AS text), CAST(:served_by AS text), now(),
  CAST(:error AS text), CAST(:failed_at AS timestamptz),
  CASE WHEN CAST(:next_try_seconds AS float8) > 0
    THEN now() + make_interval(secs => CAST(:next_try_seconds AS float8)) END)
ON CONFLICT (destination) DO UPDATE SET served_by = excluded.served_by,
  served_at = excluded.served_at, last_error = excluded.last_error,
  failed_at = excluded.failed_at, next_try_at = excluded.next_try_at
""",
)
_READ = named(
    "reports.read",
    """
SELECT destination, served_by, served_at,
  CAST(greatest(extract(epoch FROM now() - served_at), 0) AS bigint),
  last_error, failed_at, next_try_at
FROM destination_reports ORDER BY destination
""",
)


class Reports:
    """Writes what a relay finds, when it changes or every ten seconds. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._written: dict[str, tuple[datetime | None, float]] = {}

    def write(self, engine: Engine, served_by: str, destination: Destination) -> None:
        """Write how a destination is, if it is time; never raise a ServiceError."""
        name, state = destination.name, destination.state()
        with self._lock:
            failed_at, at = self._written.get(name, (None, -REPORT_SECONDS))
            is_recent = time.monotonic() - at < REPORT_SECONDS
            if state.failed_at == failed_at and is_recent:
                return
            self._written[name] = state.failed_at, time.monotonic()
        parameters = {
            "destination": name,
            "served_by": served_by,
            "error": state.error,
            "failed_at": state.failed_at and state.failed_at.isoformat(),
            "next_try_seconds": state.next_try_seconds,
        }
        try:
            with connect(engine) as connection:
                connection.execute(_WRITE, parameters)
        except ServiceError as error:
            log.warning("a pass of the relay is not reported: %s", error.detail)


def read_reports(connection: Connection) -> dict[str, Report]:
    """Return the report of each destination that was ever served, by its name."""
    return {row[0]: Report(*row) for row in connection.execute(_READ)}
