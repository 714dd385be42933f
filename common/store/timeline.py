"""Read an order's history, for its owner or in full for operators.

Owners page from the first step on, operators from the last one back; only operators see
deleted orders.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct, json

from common.database.engine import Connection, named
from common.domain import events
from common.domain.model import MAX_ID
from common.errors import NotFoundError
from common.messaging.event_rows import ROW, EventRow, found
from common.store.paging import MAX_LIMIT, ListQuery
from common.store.reads import MOMENT, Document, unique

# The event that tells of each kind of step, to all destinations but analytics. A change
# of quantity is announced to nobody.
EVENTS_BY_KIND = {
    "order.created": events.ORDER_CREATED,
    "order.approved": events.ORDER_APPROVED,
    "order.deleted": events.ORDER_DELETED,
    "item.created": events.ITEM_CREATED,
    "item.moved": events.STATUS_UPDATED,
    "item.removed": events.STATUS_UPDATED,
}
_WHENS = [f"WHEN '{kind}' THEN '{type_}'" for kind, type_ in EVENTS_BY_KIND.items()]
# The type of the event that tells of a step `{0}`.
EVENT_TYPE = f"CASE {{0}}.kind {' '.join(_WHENS)} END"
# A step and one more, to know whether there is more.
_STEPS = """SELECT * FROM order_history
    WHERE order_id = {order} AND id {beyond} ORDER BY id {direction}
    LIMIT CAST(:limit AS int) + 1"""
_NEXT = """CASE WHEN count(*) > CAST(:limit AS int)
    THEN {last}(id) FILTER (WHERE n <= CAST(:limit AS int)) END"""
# Of somebody else's order nothing is read: how long that takes tells nothing either.
_MINE = "(SELECT id FROM mine)"
_MY_STEPS = _STEPS.format(order=_MINE, beyond="> CAST(:after AS bigint)", direction="")

_OF_OWNER = named(
    "timeline.of_owner",
    f"""
WITH mine AS MATERIALIZED (
  SELECT o.id, o.cart_id FROM orders o
  WHERE o.id = CAST(:id AS bigint) AND o.user_id = CAST(:user_id AS uuid)
),
step AS MATERIALIZED ({_MY_STEPS}),
first_sent AS (  -- sent again by an operator, it was told when it was told first
  SELECT s.event_id, s.destination, min(s.sent_at) AS at FROM sent_events s
  WHERE s.order_id = {_MINE} AND s.destination <> '{events.ANALYTICS}'
  GROUP BY s.event_id, s.destination
),
sent AS MATERIALIZED (
  SELECT event_id, count(*) AS destinations, max(at) AS at
  FROM first_sent GROUP BY event_id
),
shown AS (
  SELECT h.id, row_number() OVER (ORDER BY h.id) AS n, json_build_object(
    'at', {MOMENT.format("h.changed_at")}, 'kind', h.kind, 'item', h.item_id,
    'from_status', h.from_status, 'to_status', h.to_status,
    'from_quantity', h.from_quantity, 'to_quantity', h.to_quantity,
    'from_cart', CASE h.kind WHEN 'order.created'
      THEN (SELECT cart_id IS NOT NULL FROM mine) END,
    'by', CASE h.actor_kind WHEN 'user' THEN 'owner' WHEN 'internal' THEN 'shop'
      ELSE h.actor_kind END,
    'event', CASE WHEN h.event_id IS NOT NULL THEN json_build_object(
      'type', {EVENT_TYPE.format("h")},
      'sent_at', CASE WHEN s.destinations
          = cardinality(array_remove(h.destinations, '{events.ANALYTICS}'))
        THEN {MOMENT.format("s.at")} END) END) AS entry
  FROM step h LEFT JOIN sent s ON s.event_id = h.event_id
)
SELECT CAST(coalesce(json_agg(entry ORDER BY id)
    FILTER (WHERE n <= CAST(:limit AS int)), '[]') AS text), {_NEXT.format(last="max")}
FROM shown
HAVING EXISTS (SELECT FROM mine)""",  # noqa: S608 fragments of our own
)


def read_page(
    connection: Connection, order_id: int, user_id: UUID, query: ListQuery
) -> tuple[Document, int | None]:
    """Return a page of the order's timeline if it is the caller's, oldest step first.

    With it goes the step after which the next page starts. Its version is a digest:
    events are sent without a change of the order's own. Raise NotFoundError.
    """
    parameters = {
        "id": order_id,
        "user_id": user_id,
        "limit": query.limit,
        "after": query.after or 0,
    }
    body, next_after = unique(connection, _OF_OWNER, parameters)
    digest = hashlib.blake2b(body.encode(), digest_size=12).hexdigest()
    return Document(body, digest), next_after


class Step(Struct, frozen=True):
    """One entry of the history with what became of its event, by destination.

    `actor_kind` as in `tables.order_history`; None: written before it was recorded.
    """

    id: int
    at: datetime
    kind: str
    item: int | None
    from_status: int | None
    to_status: int | None
    from_quantity: int | None
    to_quantity: int | None
    actor_kind: str | None
    changed_by: UUID | None
    request_id: str | None
    destinations: list[str]
    deliveries: list[EventRow]

    @property
    def forgotten(self) -> Sequence[str]:
        """Return the destinations of which nothing is kept any more."""
        kept = {each.destination for each in self.deliveries}
        return [name for name in self.destinations if name not in kept]


class Timeline(Struct, frozen=True):
    """A page of all that is recorded of one order; `owner` None: it is deleted.

    `steps`, oldest first, are those before the page's start, which happened at `until`
    (None: the newest ones). `others` are the newest rows that no step tells of.
    """

    order_id: int
    owner: UUID | None
    until: datetime | None
    steps: list[Step]
    others: list[EventRow]
    next_before: int | None

    def covers(self, at: datetime) -> bool:
        """Return whether it is on this page that something of this time belongs."""
        is_later = self.next_before is None or at >= self.steps[0].at
        return is_later and (self.until is None or at < self.until)


_ALL_STEPS = _STEPS.format(
    order="CAST(:id AS bigint)", beyond="< CAST(:before AS bigint)", direction="DESC"
)
_WHOLE = named(
    "timeline.whole",
    f"""
WITH {found("= CAST(:id AS bigint)")},
step AS MATERIALIZED ({_ALL_STEPS}),
delivered AS MATERIALIZED (
  SELECT event_id AS of_event,
    json_agg({ROW} - 'body' ORDER BY destination, created_at, id) AS rows
  FROM found WHERE event_id IN (SELECT CAST(event_id AS text) FROM step)
  GROUP BY event_id
),
other AS (
  SELECT {ROW} - 'body' AS row FROM found
  WHERE event_id IS NULL OR event_id NOT IN (
    SELECT CAST(h.event_id AS text) FROM order_history h
    WHERE h.order_id = CAST(:id AS bigint) AND h.event_id IS NOT NULL)
  ORDER BY created_at DESC, id DESC LIMIT CAST(:limit AS int)
),
shown AS (
  SELECT h.id, row_number() OVER (ORDER BY h.id DESC) AS n,
    to_jsonb(h) || jsonb_build_object('at', h.changed_at, 'item', h.item_id,
      'deliveries', coalesce(d.rows, '[]')) AS entry
  FROM step h LEFT JOIN delivered d ON d.of_event = CAST(h.event_id AS text)
),
now_is AS MATERIALIZED (SELECT user_id FROM orders WHERE id = CAST(:id AS bigint))
SELECT CAST(json_build_object(
  'order_id', CAST(:id AS bigint), 'owner', (SELECT user_id FROM now_is),
  'until', (SELECT changed_at FROM order_history
    WHERE order_id = CAST(:id AS bigint) AND id = CAST(:before AS bigint)),
  'steps', coalesce(json_agg(entry ORDER BY id)
    FILTER (WHERE n <= CAST(:limit AS int)), '[]'),
  'others', coalesce((SELECT json_agg(row) FROM other), '[]'),
  'next_before', {_NEXT.format(last="min")}) AS text)
FROM shown
HAVING count(*) > 0 OR EXISTS (SELECT FROM now_is)""",  # noqa: S608 fragments of our own
)


def read_whole(
    connection: Connection,
    order_id: int,
    *,
    before: int = MAX_ID,
    limit: int = MAX_LIMIT,
) -> Timeline:
    """Return all that is recorded of anybody's order, for operators; deleted or not.

    The newest `limit` steps before step `before`; those of `next_before` are older.
    Raise NotFoundError where nothing is known of the order.
    """
    parameters = {"id": order_id, "before": before, "limit": limit}
    row = connection.execute(_WHOLE, parameters).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no order {order_id}.")
    return json.decode(row[0], type=Timeline)
