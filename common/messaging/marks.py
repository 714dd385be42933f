"""Where claims begin, and which postponed events are tried before their time.

What was sent stays in the index for as long as somebody holds a snapshot. A claim that
began at the oldest would pass over all of it, each time. An event that failed is
postponed, for up to an hour; its destination may be well again long before that.
"""

import threading
import time

from msgspec import json

from common.database.engine import Connection, Engine, connect, named
from common.domain.events import ORDER_CREATED
from common.domain.model import MAX_ID
from common.errors import BusyError
from common.messaging.event_rows import POSTPONED_ROWS
from common.messaging.outbox import (
    CLAIM_SECONDS,
    CLAIMED,
    MAX_BACKOFF_SECONDS,
    Claimed,
)

ADVANCE_SECONDS = 10.0
# A write's statement ends within this time. What was committed later, or while the
# clock went back, is found by a search through all ids, a part of them at a time.
MARGIN_SECONDS = 15
SEARCH_SECONDS = 30.0
SEARCH_BUDGET_SECONDS = 0.5
SLICE = 10_000  # ids; more where that takes less than a moment
SLICE_SECONDS = 0.05

# The oldest that is still to be sent, or else now, less the margin. A mark in the
# future was made before the clock went back.
_ADVANCE = named(
    "marks.advance",
    f"""
INSERT INTO outbox_marks (destination, due_from)
SELECT d, least(young, (
  SELECT o.available_at FROM outbox o
  WHERE o.destination = d AND o.held_since IS NULL
    AND o.available_at < young AND NOT CAST(:is_blind AS boolean)
    AND o.available_at >= coalesce((SELECT m.due_from FROM outbox_marks m
      WHERE m.destination = d AND m.due_from <= young), '-infinity')
  ORDER BY o.available_at, o.id LIMIT 1))
FROM (SELECT CAST(:destination AS text) AS d,
  now() - interval '{MARGIN_SECONDS}s' AS young) given
ON CONFLICT (destination) DO UPDATE SET due_from = excluded.due_from
WHERE NOT CAST(:is_blind AS boolean)
""",  # noqa: S608 fragments of our own
)
_LAST = named(
    "marks.last", "SELECT pg_sequence_last_value(CAST('outbox_id_seq' AS regclass))"
)
# Recorded, claimed or postponed by a clock that went back since: no claim and no pause
# lasts as long. Clocks of statements that run at once differ by a little.
AHEAD = f"""CASE WHEN {{0}}.sending_since IS NOT NULL
  THEN {{0}}.available_at > now() + interval '{CLAIM_SECONDS + 5}s'
  ELSE {{0}}.created_at > now() + interval '1s' AND {{0}}.available_at > now()
    OR {{0}}.available_at > now() + interval '{MAX_BACKOFF_SECONDS + 5}s' END"""
# What a claim would not find becomes due now: what is older than the mark, and what is
# ahead of the clock.
_SEARCH = named(
    "marks.search",
    f"""
UPDATE outbox
SET available_at = CASE WHEN available_at > now() AND sending_since IS NOT NULL
  THEN now() + interval '{CLAIM_SECONDS}s' ELSE now() END
WHERE id = ANY(ARRAY(
  SELECT x.id FROM (
    SELECT id, destination, created_at, available_at, sending_since, held_since
    FROM outbox
    WHERE id BETWEEN CAST(:low AS bigint) AND CAST(:high AS bigint) OFFSET 0) x
  WHERE x.held_since IS NULL
    AND CASE WHEN x.available_at <= now() THEN x.available_at < (
      SELECT m.due_from FROM outbox_marks m WHERE m.destination = x.destination)
    ELSE {AHEAD.format("x")} END))
  -- Asked again of a row that somebody has claimed meanwhile.
  AND (available_at <= now() OR {AHEAD.format("outbox")})
""",  # noqa: S608 fragments of our own
)


class Marks:
    """Moves the marks, and looks for events that no claim would find.

    A search goes from the newest id down, a part of the way each time, and begins
    again. Where nothing was deleted lately many ids are looked at as quickly as a few:
    its slices grow.
    """

    def __init__(self) -> None:
        self._advance_at: dict[str, float] = {}
        self._lock = threading.Lock()  # of the search
        self._search_at = 0.0
        self._high: int | None = None  # None: the newest
        self._slice = SLICE

    def advance(self, connection: Connection, destination: str) -> None:
        """Move a mark to the oldest event that is still to be sent, if it is time.

        Where that is not found in time, a first mark is set all the same; what is
        older is found by a search.
        """
        if time.monotonic() < self._advance_at.get(destination, 0.0):
            return
        given = {"destination": destination, "is_blind": False}
        try:
            connection.execute(_ADVANCE, given)
        except BusyError:
            connection.execute(_ADVANCE, given | {"is_blind": True})
            self._search_at = 0.0
        self._advance_at[destination] = time.monotonic() + ADVANCE_SECONDS

    def search(self, engine: Engine) -> int:
        """Look for a moment, if it is time; return how many events were found.

        One thread does it at a time; others pass by.
        """
        if time.monotonic() < self._search_at or not self._lock.acquire(blocking=False):
            return 0
        try:
            with connect(engine) as connection:
                return self._search(connection)
        except BusyError:
            self._slice = SLICE
            return 0
        finally:
            self._search_at = time.monotonic() + SEARCH_SECONDS
            self._lock.release()

    def _search(self, connection: Connection) -> int:
        found, deadline = 0, time.monotonic() + SEARCH_BUDGET_SECONDS
        while (began := time.monotonic()) < deadline:
            if self._high is None:
                last = connection.execute(_LAST).scalar_one() or 0
                low, high = last - self._slice, MAX_ID
            else:
                low, high = self._high - self._slice, self._high
            given = {"low": max(low, 0), "high": high}
            found += connection.execute(_SEARCH, given).rowcount
            is_quick = time.monotonic() - began < SLICE_SECONDS
            self._slice = self._slice * 2 if is_quick else SLICE
            self._high = low - 1
            if low <= 0:
                self._high, self._slice = None, SLICE
                break
        return found


PROBE_SECONDS = 4.0
# Events whose time comes sooner are no probes: their own next attempt is one.
_SOON = "now() + interval '5s'"
_PROBES = 3
_LOOKED_AT = 500  # postponed events

# Any, since some may fail for a reason of their own; each is its order's oldest.
# An `order.created` in doubt could lower stock once more with each attempt.
_CLAIM_PROBES = named(
    "probes.claim",
    f"""
WITH probes AS (
  SELECT o.id, o.available_at FROM outbox o
  WHERE o.id = ANY(ARRAY(
      SELECT x.id FROM outbox x
      WHERE x.destination = CAST(:destination AS text) AND x.held_since IS NULL
        AND x.available_at > {_SOON}
      ORDER BY x.available_at, x.id LIMIT {_LOOKED_AT}))
    AND o.held_since IS NULL AND o.available_at > {_SOON}
    AND o.sending_since IS NULL AND o.last_error IS NOT NULL
    AND NOT (o.event_type = '{ORDER_CREATED}' AND o.doubts > 0)
    AND (SELECT older.id FROM outbox older
      WHERE older.destination = o.destination AND older.order_id = o.order_id
        AND older.id + 0 < o.id LIMIT 1) IS NULL
  ORDER BY random() LIMIT {_PROBES}
  FOR UPDATE OF o SKIP LOCKED
),
claimed AS (
  UPDATE outbox o
  SET available_at = now() + interval '{CLAIM_SECONDS}s', sending_since = now(),
      attempts = o.attempts + 1
  WHERE o.id = ANY(ARRAY(SELECT id FROM probes))
  RETURNING o.*
)
SELECT CAST(coalesce(json_agg(json_build_object({CLAIMED}, 'wait_seconds', (
  SELECT extract(epoch FROM p.available_at - now()) FROM probes p
  WHERE p.id = claimed.id)) ORDER BY id), '[]') AS text)
FROM claimed
""",  # noqa: S608 fragments of our own
)
# This attempt, which is not the event's own, brings it no nearer to a dead letter.
_RELEASE = named(
    "probes.release",
    f"""
UPDATE outbox
SET available_at = now(), attempts = greatest(attempts - 1, 0)
WHERE {POSTPONED_ROWS.format(limit=50_000)}
""",  # noqa: S608 fragments of our own
)


class Probe(Claimed, frozen=True):
    """A postponed event that is tried before its time comes in `wait_seconds`.

    If it fails, it is as if it had not been tried.
    """

    wait_seconds: float


class Probes:
    """Finds out whether a destination that made events fail is well again.

    Once nothing has failed for a few seconds, a few events are tried; as soon as one of
    them goes through, all are due.
    """

    def __init__(self) -> None:
        self._probe_at: dict[str, float] = {}

    def claim(self, connection: Connection, destination: str) -> list[Probe]:
        """Claim the next events to try, none if it is not time."""
        if time.monotonic() < self._probe_at.get(destination, 0.0):
            return []
        self.wait(destination)
        given = {"destination": destination}
        rows = connection.execute(_CLAIM_PROBES, given).scalar_one()
        return json.decode(rows, type=list[Probe])

    def wait(self, destination: str) -> None:
        """Try no event before its time for a few seconds."""
        self._probe_at[destination] = time.monotonic() + PROBE_SECONDS

    def release(self, connection: Connection, destination: str) -> None:
        """Make all postponed events due now, and look again at the next opportunity."""
        connection.execute(_RELEASE, {"destination": destination})
        self._probe_at.pop(destination, None)
