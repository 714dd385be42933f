"""Rows of events, wherever they are: pending, sent, or given up as dead letters."""

from datetime import datetime

from msgspec import Struct

from common.domain import events


class EventRow(Struct, frozen=True):
    """An event and one of its destinations.

    `place` is 'pending', 'held', 'sent' or 'dead'. `reason` says why the last attempt
    failed, or why it is a dead letter. `body` is None in a list; `event_id` is None of
    a dead letter that was an incoming message.
    """

    place: str
    id: int  # of the outbox row, or of the dead letter
    event_id: str | None
    event_type: str
    destination: str
    order_id: int
    created_at: datetime
    attempts: int | None = None
    doubts: int = 0
    is_resend: bool = False
    available_at: datetime | None = None
    sending_since: datetime | None = None
    held_since: datetime | None = None
    sent_at: datetime | None = None
    settled_as: str | None = None
    reason: str | None = None
    body: str | None = None


def found(
    orders: str,
    dead_letters: str = "",
    *,
    has_bodies: bool = True,
    digest_bytes: int | None = None,
) -> str:
    """Return the CTE `found`: all rows of some orders' events; see `ROW`.

    `orders` is the condition on `order_id`, and `dead_letters` a further one on dead
    letters. Bodies are NULL unless `has_bodies`. With `digest_bytes` there is a column
    `digest`, the beginning of their SHA-256. A dead letter that was replayed is in the
    place 'replayed', because another row has its event now.
    """
    digest = f", substr(sha256({{}}), 1, {digest_bytes}) AS digest"
    return _FOUND.format(
        orders=orders,
        dead_letters=dead_letters,
        body="body" if has_bodies else "NULL",
        bytes="encode(body, 'escape')" if has_bodies else "NULL",
        digest=digest.format("convert_to(body, 'UTF8')") if digest_bytes else "",
        bytes_digest=digest.format("body") if digest_bytes else "",
    )


# When a pending row `{0}` is due; 'infinity', which the audit reports, is no time.
AVAILABLE_AT = """'available_at',
  CASE WHEN isfinite({0}.available_at) THEN {0}.available_at END"""
# A row of `found` as the JSON of an `EventRow`.
ROW = f"""to_jsonb(found) || jsonb_build_object('place', CASE
    WHEN held_since IS NOT NULL THEN 'held'
    WHEN settled_as IS NOT NULL THEN 'dead' ELSE place END,
  {AVAILABLE_AT.format("found")})"""

# Those that are sent to, and others that rows are for: what lies between two of the
# former in the index of what is due, so that nothing passes over what was sent. `name`
# may have no rows; `due_from` is null where nobody sends.
DESTINATIONS = """destinations AS MATERIALIZED (
  WITH RECURSIVE next AS (
    SELECT '' AS name
    UNION ALL
    SELECT coalesce(CASE WHEN sent_to.name IS NULL
      THEN (SELECT x.destination FROM outbox x
        WHERE x.held_since IS NULL AND x.destination > next.name
        ORDER BY x.destination LIMIT 1)
      ELSE (SELECT x.destination FROM outbox x
        WHERE x.held_since IS NULL AND x.destination > next.name
          AND x.destination < sent_to.name
        ORDER BY x.destination LIMIT 1) END, sent_to.name)
    FROM next CROSS JOIN LATERAL (
      SELECT min(destination) AS name FROM outbox_marks
      WHERE destination > next.name) sent_to
    WHERE next.name IS NOT NULL
  )
  SELECT known.name, m.due_from FROM (
    SELECT name FROM next WHERE name <> ''
    UNION SELECT destination FROM outbox WHERE held_since IS NOT NULL) known(name)
  LEFT JOIN outbox_marks m ON m.destination = known.name
)"""

# Events of such a destination `d`: due, of which a claim would know, and postponed.
CLAIMABLE = "d.due_from"
DUE = """FROM outbox x
  WHERE x.destination = d.name AND x.held_since IS NULL
    AND x.available_at >= coalesce({since}, '-infinity')
    AND x.available_at <= now()"""
POSTPONED = """FROM outbox x
  WHERE x.destination = d.name AND x.held_since IS NULL AND x.available_at > now()"""
# As a condition on the rows of an UPDATE: what waits for its next attempt at a
# destination, and nobody sends just now. The first `limit` of it.
POSTPONED_ROWS = """id = ANY(ARRAY(
  SELECT x.id FROM outbox x
  WHERE x.destination = CAST(:destination AS text) AND x.held_since IS NULL
    AND x.available_at > now() AND x.sending_since IS NULL
  ORDER BY x.available_at, x.id LIMIT {limit}
  FOR UPDATE OF x SKIP LOCKED))"""
_HELD = "FROM outbox x WHERE x.destination = d.name AND x.held_since IS NOT NULL"


def waiting(columns: str, limit: int, since: str = CLAIMABLE) -> str:
    """Return the query of all that waits for destination `d`, `limit` of each kind."""
    return f"""
  (SELECT {columns} {DUE.format(since=since)} ORDER BY x.available_at, x.id
   LIMIT {limit})
  UNION ALL
  (SELECT {columns} {POSTPONED} ORDER BY x.available_at, x.id LIMIT {limit})
  UNION ALL
  (SELECT {columns} {_HELD} ORDER BY x.id LIMIT {limit})"""


# An incoming message among the dead letters may have the id of an outgoing event.
_FOUND = """found AS MATERIALIZED (
  SELECT 'pending' AS place, q.id, q.destination, q.order_id,
    CAST(q.event_id AS text) AS event_id, q.event_type, CAST({body} AS text) AS body,
    q.created_at, q.attempts, q.doubts, q.is_resend, q.available_at, q.sending_since,
    q.held_since, CAST(NULL AS timestamptz) AS sent_at,
    CAST(NULL AS text) AS settled_as, q.last_error AS reason{digest}
  FROM outbox q WHERE q.order_id {orders}
  UNION ALL
  SELECT 'sent', id, destination, order_id, CAST(event_id AS text), event_type, {body},
    created_at, attempts, doubts, is_resend, NULL, NULL, NULL, sent_at, NULL,
    NULL{digest}
  FROM sent_events WHERE order_id {orders}
  UNION ALL
  SELECT CASE settled_as WHEN 'replayed' THEN 'replayed' ELSE 'dead' END, id,
    coalesce(destination, ''), order_id, CASE source WHEN 'outbox' THEN event_id END,
    coalesce(event_type, ''), {bytes}, created_at,
    CASE source WHEN 'outbox' THEN CAST(headers -> 'attempts' AS int) END, 0, false,
    NULL, NULL, NULL, NULL, settled_as, reason{bytes_digest}
  FROM dead_letters WHERE order_id {orders}{dead_letters}
)"""

# What becomes of an event decides what becomes of its holds (`common/store/holds.py`).
# Part of the statements that record events as sent, whose rows are in `{source}`. Each
# destination counts, so that of two that are recorded at once one is the last. Rows are
# locked in one order, here and where they are released.
_CONFIRMED = """
told AS (
  SELECT order_id, event_id, CAST(count(*) AS int) AS times FROM {source}
  WHERE event_type = '{type}' GROUP BY order_id, event_id
),
holding AS (
  SELECT id FROM stock_holds
  WHERE id = ANY(ARRAY(
    SELECT h.id FROM told t CROSS JOIN LATERAL (
      SELECT id, event_id FROM stock_holds WHERE order_id = t.order_id OFFSET 0) h
    WHERE h.event_id = t.event_id))
  ORDER BY id FOR UPDATE
),
confirmed AS (
  UPDATE stock_holds h SET unsent = h.unsent - t.times,
    confirmed_at = CASE WHEN h.unsent <= t.times
      THEN coalesce(h.confirmed_at, now()) END
  FROM told t
  WHERE h.id = ANY(ARRAY(SELECT id FROM holding)) AND t.event_id = h.event_id
)"""


def confirmed_holds(source: str) -> str:
    """Return the parts of a statement that confirm the holds of events in `source`."""
    return _CONFIRMED.format(source=source, type=events.ORDER_CREATED)
