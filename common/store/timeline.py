"""Read an order's history: its owner's view, or all of it for operators.

Owners page forward from the first step, operators back from the last one. Only
operators see deleted orders.
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

# The event that announces each kind of step, except to analytics. The timeline and the
# audit go by it. Less of an item is announced to nobody.
EVENTS_BY_KIND = {
    "order.created": events.ORDER_CREATED,
    "order.approved": events.ORDER_APPROVED,
    "order.deleted": events.ORDER_DELETED,
    "item.created": events.ITEM_CREATED,
    "item.taken": events.ORDER_CREATED,
    "item.changed": events.ORDER_CREATED,
    "item.moved": events.STATUS_UPDATED,
    "item.removed": events.STATUS_UPDATED,
}
_CASES = [f"WHEN '{kind}' THEN '{type_}'" for kind, type_ in EVENTS_BY_KIND.items()]
# SQL for the type of the event that announces the step with alias `{0}`.
EVENT_TYPE = f"CASE {{0}}.kind {' '.join(_CASES)} END"

# Steps have a fixed size, so that a page of them weighs far less than MAX_PAGE_BYTES.
# One step more than the limit, to know whether there is a next page.
_STEPS = """SELECT * FROM order_history
    WHERE order_id = {order} AND id {beyond} ORDER BY id {direction}
    LIMIT CAST(:limit AS int) + 1"""
_NEXT = """CASE WHEN count(*) > CAST(:limit AS int)
    THEN {last}(id) FILTER (WHERE n <= CAST(:limit AS int)) END"""

# Steps are read only if the order is the caller's, so that the time it takes does not
# reveal whether another owner's order exists.
_OWNED_ID = "(SELECT id FROM owned)"
_OWNED_STEPS = _STEPS.format(
    order=_OWNED_ID, beyond="> CAST(:after AS bigint)", direction=""
)
_OF_OWNER = named(
    "timeline.of_owner",
    f"""
WITH owned AS MATERIALIZED (
  SELECT o.id, o.cart_id FROM orders o
  WHERE o.id = CAST(:id AS bigint) AND o.user_id = CAST(:user_id AS uuid)
),
step AS MATERIALIZED ({_OWNED_STEPS}),
first_sent AS (  -- the first time, even if an operator has sent it again
  SELECT s.event_id, s.destination, min(s.sent_at) AS at FROM sent_events s
  WHERE s.order_id = {_OWNED_ID} AND s.destination <> '{events.ANALYTICS}'
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
      THEN (SELECT cart_id IS NOT NULL FROM owned) END,
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
HAVING EXISTS (SELECT FROM owned)""",  # noqa: S608 fragments of our own
)


def read_page(
    connection: Connection, order_id: int, user_id: UUID, query: ListQuery
) -> tuple[Document, int | None]:
    """Return a page of the timeline of a caller's order, oldest step first.

    Also return `after` of the next page, if any. The version is a digest, because
    sending an event does not change the order's version. Raise NotFoundError.
    """
    parameters = {
        "id": order_id,
        "user_id": user_id,
        "limit": query.limit,
        "after": query.after or 0,
    }
    spaced, next_after = unique(connection, _OF_OWNER, parameters)
    body = json.format(spaced, indent=-1)  # without spaces, as every other response
    digest = hashlib.blake2b(body.encode(), digest_size=12).hexdigest()
    return Document(body, digest), next_after


class Step(Struct, frozen=True):
    """One entry of the history, with the state of its event at each destination.

    `actor_kind` is one of `tables.order_history`, None in rows older than that column.
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
        """Return the destinations whose rows have been purged."""
        kept = {row.destination for row in self.deliveries}
        return [name for name in self.destinations if name not in kept]


class Timeline(Struct, frozen=True):
    """A page of all that is recorded of one order; `owner` is None if it is deleted.

    `steps`, oldest first, happened before `until` (None on the page of the newest
    ones). `others` are the newest events that belong to no step.
    """

    order_id: int
    owner: UUID | None
    until: datetime | None
    steps: list[Step]
    others: list[EventRow]
    next_before: int | None

    def covers(self, at: datetime) -> bool:
        """Return whether something that happened at `at` belongs on this page."""
        is_later = self.next_before is None or at >= self.steps[0].at
        return is_later and (self.until is None or at < self.until)


_ALL_STEPS = _STEPS.format(
    order="CAST(:id AS bigint)", beyond="< CAST(:before AS bigint)", direction="DESC"
)
_WHOLE = named(
    "timeline.whole",
    f"""
WITH {found("= CAST(:id AS bigint)", has_bodies=False)},
step AS MATERIALIZED ({_ALL_STEPS}),
delivered AS MATERIALIZED (
  SELECT event_id AS of_event,
    json_agg({ROW} ORDER BY destination, created_at, id) AS rows
  FROM found WHERE event_id IN (SELECT CAST(event_id AS text) FROM step)
  GROUP BY event_id
),
other AS (
  SELECT {ROW} AS row FROM found
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
current AS MATERIALIZED (SELECT user_id FROM orders WHERE id = CAST(:id AS bigint))
SELECT CAST(json_build_object(
  'order_id', CAST(:id AS bigint), 'owner', (SELECT user_id FROM current),
  'until', (SELECT changed_at FROM order_history
    WHERE order_id = CAST(:id AS bigint) AND id = CAST(:before AS bigint)),
  'steps', coalesce(json_agg(entry ORDER BY id)
    FILTER (WHERE n <= CAST(:limit AS int)), '[]'),
  'others', coalesce((SELECT json_agg(row) FROM other), '[]'),
  'next_before', {_NEXT.format(last="min")}) AS text)
FROM shown
HAVING count(*) > 0 OR EXISTS (SELECT FROM current)""",  # noqa: S608 fragments of our own
)


def read_whole(
    connection: Connection,
    order_id: int,
    *,
    before: int = MAX_ID,
    limit: int = MAX_LIMIT,
) -> Timeline:
    """Return all that is recorded of any order, deleted or not, for operators.

    The page has the newest `limit` steps before step `before`; `next_before` is that of
    the next, older page. Raise NotFoundError if nothing is recorded of the order.
    """
    parameters = {"id": order_id, "before": before, "limit": limit}
    row = connection.execute(_WHOLE, parameters).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no order {order_id}.")
    return json.decode(row[0], type=Timeline)
