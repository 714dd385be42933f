"""What one user may ask for: requests a minute, and requests at a time.

Lives here: both limits, what the answers say of them, old counts going. Not here:
limits that need no user (`admission.py`). Surprise: requests a minute are counted in
PostgreSQL, for all instances and functions together; requests at a time in this
process, because it is its threads that one user must not have all of.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from uuid import UUID

from common.db import Connection, Engine, connect, named
from common.errors import TooManyRequestsError

WINDOW_SECONDS = 60
# So many users who have used up their window are remembered, before any is forgotten.
MOST_REMEMBERED = 10_000


class Limits:
    """Lets users in, within what each may ask for. Safe to share between threads."""

    def __init__(
        self,
        *,
        at_a_time: int | None,
        per_minute: int | None,
        engine: Callable[[], Engine],
    ) -> None:
        """None is no limit. `engine` is asked for only where requests are counted."""
        self._at_a_time = at_a_time
        self._per_minute = per_minute
        self._engine = engine
        self._lock = threading.Lock()  # held for some look-ups, never while waiting
        self._inside: dict[UUID, int] = {}
        self._used_up_until: dict[UUID, float] = {}

    def enter(self, visit: "Visit") -> None:
        """Let a request in, see `Visit.enter`."""
        if self._per_minute is not None:
            visit.policy = f'"user";q={self._per_minute};w={WINDOW_SECONDS}'
        if self._at_a_time is not None:
            self._take_place(visit, self._at_a_time)
        if self._per_minute is not None:
            self._count(visit, self._per_minute)

    def visit(self, user_id: UUID) -> "Visit":
        """Answer a visit of the user's, who has not entered yet."""
        return Visit(self, user_id)

    def _take_place(self, visit: "Visit", most: int) -> None:
        with self._lock:
            inside = self._inside.get(visit.user_id, 0)
            if inside < most:
                self._inside[visit.user_id] = inside + 1
                visit.is_inside = True
        if not visit.is_inside:
            said = f"{most} of your requests are being handled. Wait for one to end."
            raise _refusal("concurrency", said, 1)

    def leave(self, visit: "Visit") -> None:
        """Give back the place that the request has, if it has one."""
        with self._lock:
            if not visit.is_inside:
                return
            visit.is_inside = False
            left = self._inside[visit.user_id] - 1
            if left:
                self._inside[visit.user_id] = left
            else:
                del self._inside[visit.user_id]

    def _count(self, visit: "Visit", most: int) -> None:
        user_id, now = visit.user_id, time.monotonic()
        requests = most + 1
        seconds = self._used_up_until.get(user_id, now) - now
        if seconds <= 0:
            requests, seconds = _ask(self._engine(), user_id, most)
        visit.remaining = max(0, most - requests)
        visit.seconds = max(1, math.ceil(seconds))
        if requests > most:
            self._remember(user_id, now + seconds, now)
            said = f"More than {most} requests within {WINDOW_SECONDS} seconds."
            raise _refusal("user", said, visit.seconds)

    def _remember(self, user_id: UUID, until: float, now: float) -> None:
        with self._lock:
            if len(self._used_up_until) >= MOST_REMEMBERED:
                kept = {k: t for k, t in self._used_up_until.items() if t > now}
                self._used_up_until = kept if len(kept) < MOST_REMEMBERED else {}
            self._used_up_until[user_id] = until


class Visit:
    """A request of one user's, from when it is let in until it is answered."""

    def __init__(self, limits: Limits, user_id: UUID) -> None:
        self.user_id = user_id
        self.is_inside = False
        self.policy: str | None = None
        self.remaining: int | None = None
        self.seconds = 0
        self._limits = limits

    def enter(self) -> None:
        """Let the request in; `leave` is due then, also where this raises.

        One round trip where requests are counted; none for a user of whom this process
        knows that the minute is used up. Raises TooManyRequestsError, BusyError or
        DatabaseUnavailableError.
        """
        self._limits.enter(self)

    def headers(self) -> Mapping[str, str]:
        """Answer what the caller is told, see draft-ietf-httpapi-ratelimit-headers."""
        if self.policy is None:
            return {}
        said = {"RateLimit-Policy": self.policy}
        if self.remaining is not None:
            said["RateLimit"] = f'"user";r={self.remaining};t={self.seconds}'
        return said

    def leave(self) -> None:
        """Make room for another request of the user's."""
        self._limits.leave(self)

    def __del__(self) -> None:
        if self.is_inside:  # whoever should have left was ended
            self.leave()


def _refusal(policy: str, detail: str, seconds: int) -> TooManyRequestsError:
    error = TooManyRequestsError(detail, extra={"violated-policies": [policy]})
    error.retry_after_seconds = seconds
    return error


# The row's lock is held for this statement alone, which waits for nothing else: the
# table is not logged, so that its commit waits for no disk.
_COUNT = named(
    "limits.count",
    f"""
INSERT INTO user_requests AS u (user_id, requests, window_ends_at)
VALUES (CAST(:user_id AS uuid), 1, now() + interval '{WINDOW_SECONDS}s')
ON CONFLICT (user_id) DO UPDATE SET
  requests = CASE WHEN u.window_ends_at > now()
    THEN least(u.requests, CAST(:most AS int)) + 1 ELSE 1 END,
  window_ends_at = CASE WHEN u.window_ends_at > now()
    THEN u.window_ends_at ELSE excluded.window_ends_at END
RETURNING requests, CAST(extract(epoch FROM window_ends_at - now()) AS float8)
""",  # noqa: S608 a number of our own
)


def _ask(engine: Engine, user_id: UUID, most: int) -> tuple[int, float]:
    """Count a request; answer how many that makes, and the seconds the window lasts."""
    with connect(engine) as connection:
        found = connection.execute(_COUNT, {"user_id": user_id, "most": most})
        requests, seconds = found.one()
    return requests, seconds


_PURGE = named(
    "limits.purge",
    """
WITH gone AS (
  DELETE FROM user_requests
  WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM user_requests
    WHERE window_ends_at <= now()
      AND window_ends_at >= coalesce(CAST(:after AS timestamptz), '-infinity')
    ORDER BY window_ends_at LIMIT CAST(:batch AS int)
    FOR UPDATE SKIP LOCKED))  -- whose user is counting is not old
  RETURNING window_ends_at
)
SELECT count(*), max(window_ends_at) FROM gone
""",
)


def purge(
    connection: Connection, batch: int, after: datetime | None = None
) -> tuple[int, datetime | None]:
    """Delete up to `batch` windows that have ended; answer how many.

    And `after` which end the next batch goes on; None where there is nothing more.
    """
    parameters = {"batch": batch, "after": after}
    deleted, last = connection.execute(_PURGE, parameters).one()
    return deleted, last if deleted == batch else None
