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
from common.publishing.publisher import Message

# Longer than any attempt: analytics has a minute, begun within 15 seconds (`relay.py`).
CLAIM_SECONDS = 90
BATCH = 200
CHANNEL = "outbox"  # NOTIFY: something was left behind that a relay could send
NOTIFY = named("outbox.notify", f"SELECT pg_notify('{CHANNEL}', '')")


class Claimed(Message, frozen=True):
    """A message that is ours to send until its claim runs out."""

    destination: str


# An order's events for one destination are taken from the oldest on, by whoever locks
# that one. Nobody else can then take a later one: it is not the oldest.
#
# Read lazily: `due` stops asking for further heads when the batch is full. That holds
# as long as nothing here sorts; LATERAL and the index keep each order's rows in turn.
# The batch is written out, because a plan for any number prepares for a tenth of all.
_CLAIM = """
WITH heads AS (
  SELECT o.id, o.destination, o.order_id
  FROM outbox o
  WHERE {is_oldest}
    AND o.available_at <= now()
    AND o.held_since IS NULL
  ORDER BY o.available_at, o.id
  LIMIT {batch}
  FOR UPDATE OF o SKIP LOCKED
),
due AS (  -- each oldest one with what follows it in its order
  SELECT next.id
  FROM heads h CROSS JOIN LATERAL (
    SELECT o.id FROM outbox o
    WHERE o.destination = h.destination AND o.order_id = h.order_id AND o.id >= h.id
    ORDER BY o.id
    LIMIT {batch}) next
  LIMIT {batch}
),
claimed AS (
  UPDATE outbox o
  SET available_at = now() + make_interval(secs => CAST(:seconds AS int)),
      sending_since = now(),
      attempts = o.attempts + 1,
      -- Somebody's claim ran out: nobody knows how that attempt ended.
      doubts = o.doubts + CASE WHEN o.sending_since IS NULL THEN 0 ELSE 1 END
  FROM due
  WHERE o.id = due.id
  RETURNING o.*
)
SELECT CAST(coalesce(json_agg(json_build_object(
  'id', id, 'destination', destination, 'event_id', event_id, 'type', event_type,
  'order_id', order_id, 'body', body, 'traceparent', traceparent,
  'created_at', created_at, 'attempts', attempts,
  'is_doubtful', doubts > 0 AND NOT is_resend) ORDER BY id), '[]') AS text)
FROM claimed
"""
_OLDEST = {
    "outbox.claim_order": """o.id = ANY(ARRAY(
      SELECT (SELECT oldest.id FROM outbox oldest
        WHERE oldest.destination = d AND oldest.order_id = CAST(:order_id AS bigint)
        ORDER BY oldest.id LIMIT 1)
      FROM unnest(CAST(:destinations AS text[])) d))""",
    "outbox.claim_any": """o.destination = CAST(:destination AS text)
    AND NOT EXISTS (
      SELECT FROM outbox older
      WHERE older.destination = o.destination AND older.order_id = o.order_id
        AND older.id < o.id)""",
}


@functools.lru_cache(maxsize=8)
def _claim_statement(name: str, batch: int) -> Statement:
    return named(name, _CLAIM.format(is_oldest=_OLDEST[name], batch=batch))


for _name in _OLDEST:  # known by their names from the start, like every statement
    _claim_statement(_name, BATCH)


def claim_order(
    connection: Connection, order_id: int, destinations: Iterable[str]
) -> list[Claimed]:
    """Claim what is due of one order, oldest first, at most `BATCH`."""
    scope = {"destinations": _array(destinations), "order_id": order_id}
    return _claim(connection, "outbox.claim_order", scope)


def claim_any(connection: Connection, destination: str) -> list[Claimed]:
    """Claim what is due for one destination, oldest first, at most `BATCH`."""
    return _claim(connection, "outbox.claim_any", {"destination": destination})


def _claim(connection: Connection, name: str, scope: dict[str, Any]) -> list[Claimed]:
    parameters = {"seconds": CLAIM_SECONDS, **scope}
    found = connection.execute(_claim_statement(name, BATCH), parameters)
    return json.decode(found.scalar_one(), type=list[Claimed])


class RetryDecision(Struct, frozen=True):
    """What becomes of a row that was not sent; `attempts` is the claim's."""

    id: int
    attempts: int
    reason: str | None
    retry_seconds: float = 0.0  # 0: at once, and without having lost its place
    is_counted: bool = False
    is_doubtful: bool = False
    is_held: bool = False
    is_dead: bool = False


# What was sent leaves for `sent_events`, from a CTE that has deleted it here.
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
)"""  # noqa: S608 fragments of our own
# Has somebody recorded more for the order, and found it claimed by us?
_MORE = """
    SELECT FROM outbox o
    WHERE o.order_id = CAST(:order_id AS bigint)
      AND o.destination = ANY(CAST(:destinations AS text[]))
      AND o.available_at <= now() AND o.held_since IS NULL
      AND o.id <> ALL(CAST(:sent AS bigint[]))"""

_SETTLE_SENT = named("outbox.settle_sent", f"WITH {_SENT}\nSELECT EXISTS ({_MORE})")
_SETTLE = named(
    "outbox.settle",
    f"""
WITH verdict AS (
  SELECT * FROM jsonb_to_recordset(CAST(:verdicts AS jsonb)) AS v(
    id bigint, attempts int, reason text, retry_seconds float8, is_counted boolean,
    is_doubtful boolean, is_held boolean, is_dead boolean)
),
-- A row whose claim ran out may be another relay's now: only a success still counts.
ours AS (
  SELECT v.*, o.destination, o.order_id,
    -- What follows a row that backs off waits as long: it would only be looked at,
    -- found behind it and passed over by every claim.
    max(CASE WHEN v.is_dead THEN 0 ELSE v.retry_seconds END) OVER (
      PARTITION BY o.destination, o.order_id ORDER BY v.id) AS wait_seconds
  FROM verdict v JOIN outbox o USING (id) WHERE o.attempts = v.attempts
),
{_SENT},
dead AS (
  DELETE FROM outbox o USING ours v WHERE o.id = v.id AND v.is_dead
  RETURNING o.*, v.reason
),
buried AS (  -- what the destination will never take, or nobody listened to
  INSERT INTO dead_letters
    (source, reason, destination, order_id, event_id, event_type, headers, body)
  SELECT 'outbox', d.reason, d.destination, d.order_id, d.event_id, d.event_type,
    jsonb_build_object('traceparent', d.traceparent, 'attempts', d.attempts),
    convert_to(d.body, 'UTF8')
  FROM dead d
),
kept AS (
  UPDATE outbox o
  SET available_at = CASE WHEN v.wait_seconds = 0 THEN o.created_at
        ELSE now() + make_interval(secs =>
          CASE WHEN v.retry_seconds = 0 THEN v.wait_seconds ELSE v.retry_seconds END)
        END,
      attempts = o.attempts - CASE WHEN v.is_counted THEN 0 ELSE 1 END,
      sending_since = NULL,
      doubts = o.doubts + CASE WHEN v.is_doubtful THEN 1 ELSE 0 END,
      held_since = CASE WHEN v.is_held THEN now() END,
      last_error = coalesce(v.reason, o.last_error)
  FROM ours v
  WHERE o.id = v.id AND NOT v.is_dead
  RETURNING o.available_at
),
waiting AS (
  SELECT destination, order_id, max(id) AS id, max(wait_seconds) AS wait_seconds
  FROM ours GROUP BY destination, order_id HAVING max(wait_seconds) > 0
),
behind AS (  -- the same for what no claim has reached yet
  SELECT o.id, w.wait_seconds
  FROM waiting w JOIN outbox o USING (destination, order_id)
  WHERE o.id > w.id AND o.available_at <= now()
    AND o.id <> ALL(CAST(:sent AS bigint[]))
  LIMIT 50000
),
put_off AS (
  UPDATE outbox o
  SET available_at = now() + make_interval(secs => b.wait_seconds)
  FROM behind b WHERE o.id = b.id
)
SELECT
  EXISTS ({_MORE}
      AND o.id NOT IN (SELECT id FROM verdict)),
  -- What one request leaves behind a relay may hear of at once.
  (SELECT count(pg_notify('outbox', '')) FROM kept
   WHERE CAST(:order_id AS bigint) IS NOT NULL AND available_at <= now())
""",  # noqa: S608 fragments of our own
)


def settle(
    connection: Connection,
    sent: Iterable[int],
    verdicts: Sequence[RetryDecision],
    *,
    order_id: int | None = None,
    destinations: Iterable[str] = (),
) -> bool:
    """Record how attempts ended; return whether more of the order can go now.

    What was sent moves to `sent_events`, what is dead to `dead_letters`. Where all was
    sent, which is nearly always, a short statement does.
    """
    parameters: dict[str, Any] = {
        "sent": _array(sent),
        "destinations": _array(destinations),
        "order_id": order_id,
    }
    statement = _SETTLE_SENT
    if verdicts:
        statement = _SETTLE
        parameters["verdicts"] = encode(verdicts)
    has_more: bool = connection.execute(statement, parameters).one()[0]
    return has_more


def _array(values: Iterable[object]) -> str:
    return "{" + ",".join(map(str, values)) + "}"


_PURGE = named(
    "outbox.purge",
    """
WITH oldest AS MATERIALIZED (
  SELECT id FROM sent_events WHERE id > CAST(:after AS bigint)
  ORDER BY id LIMIT CAST(:batch AS int)
),
old AS (
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
horizon AS (  -- the audit asks for nothing that may be gone
  UPDATE retention
  SET kept_from = greatest(kept_from, now() - make_interval(days => CAST(:days AS int)))
  WHERE table_name = 'sent_events'
)
SELECT (SELECT count(*) FROM old), (SELECT count(*) FROM oldest),
  (SELECT max(id) FROM oldest), (SELECT count(*) FROM settled)
""",
)


def purge(
    connection: Connection, days: int, batch: int, after: int | None = None
) -> tuple[int, int | None]:
    """Delete events sent more than `days` days ago, of the oldest `batch` rows.

    Answers how many, and `after` which id the next batch goes on, so that it need not
    pass over what is deleted already; None where there is nothing more. With them go as
    many dead letters that were dealt with that long ago.
    """
    parameters = {"days": days, "batch": batch, "after": after or 0}
    deleted, seen, last, _ = connection.execute(_PURGE, parameters).one()
    # What was sent late is passed over; where all of a batch is young, so is the rest.
    return deleted, last if deleted and seen == batch else None
