"""Rows of events, wherever they are: pending, sent, or given up as dead letters."""

from datetime import datetime

from msgspec import Struct


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


def found(orders: str, dead_letters: str = "", *, has_bodies: bool = True) -> str:
    """Return the CTE `found`: all rows of some orders' events; see `ROW`.

    `orders` is the condition on `order_id`, and `dead_letters` a further one on dead
    letters. Their bodies are NULL unless `has_bodies`. A dead letter that was replayed
    is in the place 'replayed', because another row has its event now.
    """
    return _FOUND.format(
        destinations=DESTINATIONS,
        orders=orders,
        dead_letters=dead_letters,
        body="body" if has_bodies else "NULL",
        bytes="encode(body, 'escape')" if has_bodies else "NULL",
    )


# A row of `found` as the JSON of an `EventRow`.
ROW = """to_jsonb(found) || jsonb_build_object('place', CASE
    WHEN held_since IS NOT NULL THEN 'held'
    WHEN settled_as IS NOT NULL THEN 'dead' ELSE place END)"""

# The names of all destinations in the outbox, by one index lookup each, no matter how
# many rows there are.
DESTINATIONS = """destinations AS MATERIALIZED (
  WITH RECURSIVE next AS (
    (SELECT destination AS name FROM outbox ORDER BY destination LIMIT 1)
    UNION ALL
    SELECT (SELECT x.destination FROM outbox x WHERE x.destination > next.name
      ORDER BY x.destination LIMIT 1)
    FROM next WHERE next.name IS NOT NULL
  )
  SELECT name FROM next WHERE name IS NOT NULL
)"""

# An incoming message among the dead letters may have the id of an outgoing event.
_FOUND = """{destinations},
found AS MATERIALIZED (
  SELECT 'pending' AS place, q.id, q.destination, q.order_id,
    CAST(q.event_id AS text) AS event_id, q.event_type, CAST({body} AS text) AS body,
    q.created_at, q.attempts, q.doubts, q.is_resend, q.available_at, q.sending_since,
    q.held_since, CAST(NULL AS timestamptz) AS sent_at,
    CAST(NULL AS text) AS settled_as, q.last_error AS reason
  FROM destinations d CROSS JOIN LATERAL (
    SELECT * FROM outbox x WHERE x.destination = d.name AND x.order_id {orders}) q
  UNION ALL
  SELECT 'sent', id, destination, order_id, CAST(event_id AS text), event_type, {body},
    created_at, attempts, doubts, is_resend, NULL, NULL, NULL, sent_at, NULL, NULL
  FROM sent_events WHERE order_id {orders}
  UNION ALL
  SELECT CASE settled_as WHEN 'replayed' THEN 'replayed' ELSE 'dead' END, id,
    coalesce(destination, ''), order_id, CASE source WHEN 'outbox' THEN event_id END,
    coalesce(event_type, ''), {bytes}, created_at,
    CASE source WHEN 'outbox' THEN CAST(headers -> 'attempts' AS int) END, 0, false,
    NULL, NULL, NULL, NULL, settled_as, reason
  FROM dead_letters WHERE order_id {orders}{dead_letters}
)"""
