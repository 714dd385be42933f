"""The outbox: events wait here, from the commit that caused them until confirmed.

A claim is committed before the first byte is sent, so a row whose claim expired without
a result is known to be in doubt.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct, json

from common.database.engine import Connection, Statement, named
from common.json import encode
from common.messaging.event_rows import confirmed_holds
from common.publishing.publisher import Message

# Longer than any attempt: analytics has a minute, started within 15 s (`relay.py`).
CLAIM_SECONDS = 90
MAX_BACKOFF_SECONDS = 3600  # between two attempts
BATCH = 200
CHANNEL = "outbox"  # of NOTIFY: there are events for a relay to publish
NOTIFY = named("outbox.notify", f"SELECT pg_notify('{CHANNEL}', '')")


class Claimed(Message, frozen=True):
    """A message that this process may send until its claim runs out."""

    destination: str


# A claimed row as the JSON of a `Claimed`.
CLAIMED = """
  'id', id, 'destination', destination, 'event_id', event_id, 'type', event_type,
  'order_id', order_id, 'body', body, 'traceparent', traceparent,
  'created_at', created_at, 'attempts', attempts,
  'is_doubtful', doubts > 0 AND NOT is_resend"""

# An order's events for one destination are claimed from the oldest on, by whichever
# relay locks the oldest row. No other relay can then claim a later one.
#
# Each look into the table can use one index only, whatever statistics say (see the
# table): an order's rows by `order_id` and `id + 0`, known rows by `id = ANY(…)`, due
# rows by `destination` and `available_at`. `OFFSET 0` keeps other conditions out of
# that choice. A row's look at others is a scalar subquery, or LATERAL with a LIMIT:
# PostgreSQL makes neither a join nor a hash of those.
#
# Evaluated lazily: `due` reads no further heads once the batch is full. That holds as
# long as nothing here sorts; LATERAL and the index return each order's rows in order.
# The batch size is a literal: with a parameter, the planner would assume that a tenth
# of all rows is wanted.
_CLAIM = """
WITH heads AS (
  SELECT o.id, o.destination, o.order_id {oldest}
),
due AS (  -- each oldest event, with the later ones of its order
  SELECT next.id
  FROM heads h CROSS JOIN LATERAL (
    SELECT o.id, count(o.held_since) OVER (ORDER BY o.id + 0) AS held
    FROM outbox o
    WHERE o.destination = h.destination AND o.order_id = h.order_id
      AND o.id + 0 >= h.id
    ORDER BY o.id + 0
    LIMIT {batch}) next
  WHERE next.held = 0  -- what follows a held one waits with it
  LIMIT {batch}
),
claimed AS (
  UPDATE outbox o
  SET available_at = now() + make_interval(secs => CAST(:seconds AS int)),
      sending_since = now(),
      attempts = o.attempts + 1,
      -- An earlier claim ran out, so the outcome of that attempt is unknown.
      doubts = o.doubts + CASE WHEN o.sending_since IS NULL THEN 0 ELSE 1 END
  WHERE o.id = ANY(ARRAY(SELECT id FROM due))
  RETURNING o.*
)
SELECT CAST(coalesce(json_agg(json_build_object({claimed}) ORDER BY id), '[]') AS text)
FROM claimed
"""
_OLDEST = {
    "outbox.claim_order": """
  FROM (
    SELECT * FROM outbox
    WHERE id = ANY(ARRAY(
      SELECT (SELECT oldest.id FROM outbox oldest
        WHERE oldest.destination = d AND oldest.order_id = CAST(:order_id AS bigint)
        ORDER BY oldest.id + 0 LIMIT 1)
      FROM unnest(CAST(:destinations AS text[])) d))
    FOR UPDATE SKIP LOCKED
    OFFSET 0) o
  WHERE o.available_at <= now() AND o.held_since IS NULL""",
    "outbox.claim_any": """
  FROM outbox o
  WHERE o.destination = CAST(:destination AS text)
    AND o.held_since IS NULL
    AND o.available_at <= now()
    AND o.available_at >= coalesce((SELECT m.due_from FROM outbox_marks m
      WHERE m.destination = CAST(:destination AS text)), '-infinity')
    AND (SELECT older.id FROM outbox older
      WHERE older.destination = o.destination AND older.order_id = o.order_id
        AND older.id + 0 < o.id LIMIT 1) IS NULL
  ORDER BY o.available_at, o.id
  LIMIT {batch}
  FOR UPDATE OF o SKIP LOCKED""",
}


@functools.lru_cache(maxsize=8)
def _claim_statement(name: str, batch: int) -> Statement:
    oldest = _OLDEST[name].format(batch=batch)
    text = _CLAIM.format(oldest=oldest, batch=batch, claimed=CLAIMED)
    return named(name, text)


for _name in _OLDEST:  # in `STATEMENTS` from the start, like every other statement
    _claim_statement(_name, BATCH)


def claim_order(
    connection: Connection, order_id: int, destinations: Iterable[str]
) -> list[Claimed]:
    """Claim the due events of one order, oldest first, at most `BATCH`."""
    scope = {"destinations": _array(destinations), "order_id": order_id}
    return _claim(connection, "outbox.claim_order", scope)


def claim_any(connection: Connection, destination: str) -> list[Claimed]:
    """Claim the due events of one destination, oldest first, at most `BATCH`."""
    return _claim(connection, "outbox.claim_any", {"destination": destination})


def _claim(connection: Connection, name: str, scope: dict[str, Any]) -> list[Claimed]:
    parameters = {"seconds": CLAIM_SECONDS, **scope}
    result = connection.execute(_claim_statement(name, BATCH), parameters)
    return json.decode(result.scalar_one(), type=list[Claimed])


class RetryDecision(Struct, frozen=True):
    """What to do with a row that was not sent; `attempts` identifies the claim."""

    id: int
    attempts: int
    reason: str | None
    retry_seconds: float = 0.0  # 0: at once, and in its original position
    is_counted: bool = False
    is_doubtful: bool = False
    is_held: bool = False
    is_dead: bool = False


# Copies sent events to `sent_events`, from a CTE that has deleted them from the outbox.
ARCHIVE = """
  INSERT INTO sent_events (id, destination, order_id, event_id, event_type, body,
    traceparent, created_at, attempts, doubts, is_resend, sent_at)
  SELECT id, destination, order_id, event_id, event_type, body,
    traceparent, created_at, attempts, {doubts}, is_resend, now()
  FROM {source}"""

_SENT = f"""
sent AS (
  DELETE FROM outbox WHERE id = ANY(CAST(:sent AS bigint[])) RETURNING *
),
archived AS ({ARCHIVE.format(source="sent", doubts="doubts")}
), {confirmed_holds("sent")}"""  # noqa: S608 fragments of our own
# Whether another request has recorded more events of the order, which it could not
# claim because this process held the older ones.
_MORE = """
    SELECT FROM (
      SELECT * FROM outbox WHERE order_id = CAST(:order_id AS bigint) OFFSET 0) o
    WHERE o.destination = ANY(CAST(:destinations AS text[]))
      AND o.available_at <= now() AND o.held_since IS NULL
      AND o.id <> ALL(CAST(:sent AS bigint[]))"""

_RECORD_SENT = named("outbox.record_sent", f"WITH {_SENT}\nSELECT EXISTS ({_MORE})")
_RECORD_RESULTS = named(
    "outbox.record_results",
    f"""
WITH decision AS (
  SELECT * FROM jsonb_to_recordset(CAST(:decisions AS jsonb)) AS d(
    id bigint, attempts int, reason text, retry_seconds float8, is_counted boolean,
    is_doubtful boolean, is_held boolean, is_dead boolean)
),
-- Another relay may have claimed a row since: then only a success still counts.
valid AS (
  SELECT d.*, o.destination, o.order_id,
    -- Events behind a row that backs off wait as long as it does. Otherwise every claim
    -- would read them, only to skip them.
    max(CASE WHEN d.is_dead THEN 0 ELSE d.retry_seconds END) OVER (
      PARTITION BY o.destination, o.order_id ORDER BY d.id) AS wait_seconds
  FROM decision d CROSS JOIN LATERAL (
    SELECT * FROM outbox WHERE id = d.id LIMIT 1) o
  WHERE o.attempts = d.attempts
),
{_SENT},
dead AS (
  DELETE FROM outbox WHERE id = ANY(ARRAY(SELECT id FROM valid WHERE is_dead))
  RETURNING *
),
dead_lettered AS (  -- refused too often, or no queue is bound
  INSERT INTO dead_letters
    (source, reason, destination, order_id, event_id, event_type, headers, body)
  SELECT 'outbox', v.reason, d.destination, d.order_id, d.event_id, d.event_type,
    jsonb_build_object('traceparent', d.traceparent, 'attempts', d.attempts),
    convert_to(d.body, 'UTF8')
  FROM dead d JOIN valid v USING (id)
),
released AS (
  UPDATE outbox o
  SET available_at = CASE WHEN d.wait_seconds = 0 THEN
        greatest(o.created_at, (SELECT m.due_from FROM outbox_marks m
          WHERE m.destination = o.destination))
        ELSE now() + make_interval(secs =>
          CASE WHEN d.retry_seconds = 0 THEN d.wait_seconds ELSE d.retry_seconds END)
        END,
      attempts = o.attempts - CASE WHEN d.is_counted THEN 0 ELSE 1 END,
      sending_since = NULL,
      doubts = o.doubts + CASE WHEN d.is_doubtful THEN 1 ELSE 0 END,
      held_since = CASE WHEN d.is_held THEN now() END,
      last_error = coalesce(d.reason, o.last_error),
      failed_at = CASE WHEN d.reason IS NULL THEN o.failed_at ELSE now() END
  FROM valid d
  WHERE o.id = ANY(ARRAY(SELECT id FROM valid WHERE NOT is_dead)) AND o.id = d.id
  RETURNING o.available_at
),
waiting AS (
  SELECT destination, order_id, max(id) AS id, max(wait_seconds) AS wait_seconds
  FROM valid GROUP BY destination, order_id HAVING max(wait_seconds) > 0
),
behind AS (  -- the events behind them that were not claimed
  SELECT o.id
  FROM waiting w CROSS JOIN LATERAL (
    SELECT * FROM outbox
    WHERE order_id = w.order_id AND destination = w.destination AND id + 0 > w.id
    OFFSET 0) o
  WHERE o.available_at <= now()
    AND o.id <> ALL(CAST(:sent AS bigint[]))
  LIMIT 50000
),
delayed AS (
  UPDATE outbox o
  SET available_at = now() + make_interval(secs => (
    SELECT w.wait_seconds FROM waiting w
    WHERE w.destination = o.destination AND w.order_id = o.order_id))
  WHERE o.id = ANY(ARRAY(SELECT id FROM behind))
)
SELECT
  EXISTS ({_MORE}
      AND o.id NOT IN (SELECT id FROM decision)),
  -- Notify the relay of what a request did not get to send.
  (SELECT count(pg_notify('outbox', '')) FROM released
   WHERE CAST(:order_id AS bigint) IS NOT NULL AND available_at <= now())
""",  # noqa: S608 fragments of our own
)


def record_results(
    connection: Connection,
    sent: Iterable[int],
    decisions: Sequence[RetryDecision],
    *,
    order_id: int | None = None,
    destinations: Iterable[str] = (),
) -> bool:
    """Record how attempts ended; return whether the order has more events to send now.

    Sent events move to `sent_events`, dead ones to `dead_letters`. When all were sent,
    which is the usual case, a shorter statement is enough.
    """
    parameters: dict[str, Any] = {
        "sent": _array(sent),
        "destinations": _array(destinations),
        "order_id": order_id,
    }
    statement = _RECORD_SENT
    if decisions:
        statement = _RECORD_RESULTS
        parameters["decisions"] = encode(decisions)
    has_more: bool = connection.execute(statement, parameters).one()[0]
    return has_more


_PURGE = named(
    "outbox.purge",
    """
WITH oldest AS MATERIALIZED (
  SELECT id FROM sent_events WHERE id > CAST(:after AS bigint)
  ORDER BY id LIMIT CAST(:batch AS int)
),
expired AS (
  DELETE FROM sent_events
  WHERE id = ANY(ARRAY(SELECT id FROM oldest))
    AND sent_at < now() - make_interval(days => CAST(:days AS int))
  RETURNING id
),
settled AS (
  DELETE FROM dead_letters
  WHERE id = ANY(ARRAY(
    SELECT id FROM dead_letters
    WHERE settled_at < now() - make_interval(days => CAST(:days AS int))
    ORDER BY settled_at LIMIT CAST(:batch AS int)))
  RETURNING id
),
horizon AS (  -- the audit expects nothing older
  UPDATE retention
  SET kept_from = greatest(kept_from, now() - make_interval(days => CAST(:days AS int)))
  WHERE table_name = 'sent_events'
)
SELECT (SELECT count(*) FROM expired), (SELECT count(*) FROM oldest),
  (SELECT max(id) FROM oldest), (SELECT count(*) FROM settled)
""",
)


def purge(
    connection: Connection, days: int, batch: int, after: int | None = None
) -> tuple[int, int | None]:
    """Delete events sent more than `days` days ago, among the oldest `batch` rows.

    Return how many were deleted, and the id `after` which the next batch starts, so
    that it does not scan deleted rows again; None if there is nothing more to delete.
    Up to `batch` dead letters that were settled as long ago are deleted, too.
    """
    parameters = {"days": days, "batch": batch, "after": after or 0}
    deleted, scanned, last, _ = connection.execute(_PURGE, parameters).one()
    # Rows that were sent late are skipped; if all of a batch are too young, so is the
    # rest.
    return deleted, last if deleted and scanned == batch else None


def _array(values: Iterable[object]) -> str:
    return "{" + ",".join(map(str, values)) + "}"
