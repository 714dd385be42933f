"""Where the rows of events are: pending, sent, or given up as dead letters."""

from datetime import datetime

from msgspec import Struct


class EventRow(Struct, frozen=True):
    """One event on its way to one destination.

    `place` is 'pending', 'held', 'sent' or 'dead'. `reason` says why it was not sent,
    or died. `body` is None in a list, `event_id` of a message that came in and died.
    """

    place: str
    id: int  # of the row, or of the dead letter
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


# One look into an index for each, however many rows there are.
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


# A message that came in and died may have the id of an event that went out.
_FOUND = """{destinations},
found AS MATERIALIZED (
  SELECT 'pending' AS place, q.id, q.destination, q.order_id,
    CAST(q.event_id AS text) AS event_id, q.event_type, q.body, q.created_at,
    q.attempts, q.doubts, q.is_resend, q.available_at, q.sending_since, q.held_since,
    CAST(NULL AS timestamptz) AS sent_at, CAST(NULL AS text) AS settled_as,
    q.last_error AS reason
  FROM destinations d CROSS JOIN LATERAL (
    SELECT * FROM outbox x WHERE x.destination = d.name AND x.order_id {of}) q
  UNION ALL
  SELECT 'sent', id, destination, order_id, CAST(event_id AS text), event_type, body,
    created_at, attempts, doubts, is_resend, NULL, NULL, NULL, sent_at, NULL, NULL
  FROM sent_events WHERE order_id {of}
  UNION ALL
  SELECT CASE settled_as WHEN 'replayed' THEN 'replayed' ELSE 'dead' END, id,
    coalesce(destination, ''), order_id, CASE source WHEN 'outbox' THEN event_id END,
    coalesce(event_type, ''), encode(body, 'escape'), created_at,
    CASE source WHEN 'outbox' THEN CAST(headers -> 'attempts' AS int) END, 0, false,
    NULL, NULL, NULL, NULL, settled_as, reason
  FROM dead_letters WHERE order_id {of}{letters}
)"""


def found(of: str, letters: str = "") -> str:
    """Return the CTE `found`: every row of the events of some orders, as `ROW` shows.

    `of` narrows down `order_id`, and `letters` what counts as a dead letter. A letter
    that was replayed is in a place of its own: another row has its event now.
    """
    return _FOUND.format(destinations=DESTINATIONS, of=of, letters=letters)


ROW = """to_jsonb(found) || jsonb_build_object('place', CASE
    WHEN held_since IS NOT NULL THEN 'held'
    WHEN settled_as IS NOT NULL THEN 'dead' ELSE place END)"""
