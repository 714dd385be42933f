"""The audit's checks of orders, items and their history, over a range of order ids.

History entries written before events were recorded with them lack some columns;
`is_new` tells the two apart.
"""

from common.database.engine import named
from common.domain.model import OPERATOR, SYSTEM, USER, ItemStatus
from common.domain.orders import FINAL, TRANSITIONS
from common.operations.restore import VERSION_STEP
from common.store.reads import MOMENT

# The stable name of every difference, and its meaning for people.
DIFFERENCES = {
    "order-missing": "the order does not exist, and no entry records its deletion",
    "order-undeleted": "the order exists, although it was deleted",
    "order-vanished": "the order was recorded, and neither it nor its history exists",
    "order-unrecorded": "no entry records that the order was created",
    "entry-doubled": "the same change is recorded more than once",
    "entry-late": "a change is recorded after the order was approved or deleted",
    "entry-out-of-time": "an entry is older than the one before it",
    "approval-differs": "whether the order is approved differs from its history",
    "completeness-differs": "whether the order is complete differs from its items",
    "actor-missing": "nobody is recorded as who made the change",
    "actor-differs": "the change cannot have been made by who is recorded",
    "owner-differs": "the order's owner is not the user who created it",
    "time-differs": "the order's times differ from its history's",
    "item-missing": "the item does not exist, and no entry records its removal",
    "item-unremoved": "the item exists, although it was removed",
    "item-unrecorded": "no entry records that the item was created",
    "item-owner-differs": "the item's owner differs from its order's",
    "status-differs": "the item's status differs from the last one recorded",
    "version-differs": "the item was changed more often than its version says",
    "quantity-differs": "the item's quantity differs from the last one recorded",
    "chain-broken": "the status change does not start from the item's last status",
    "transition-illegal": "the item's status may not change this way",
    "untold": "the change should have caused an event, and none is recorded",
    "told-needlessly": "an event is recorded for a change that causes none",
    "audience-differs": "the event's destinations are not those of its kind",
    "event-lost": "the event is neither pending nor sent nor a dead letter",
    "event-doubled": "the event exists more than once",
    "event-unknown": "the event belongs to no history entry",
    "event-type-differs": "the event's type does not fit its history entry",
    "event-body-differs": "the event's body does not fit its history entry",
    "events-out-of-order": "events are not in the order in which changes were made",
    "event-overtaken": "a later event was sent while this one is pending",
    "events-sent-out-of-order": "the event was sent before an earlier one",
    "event-never-due": "the event is put off for longer than any pause lasts",
    "cart-unrecorded": "the order is from a cart, and no record says which",
    "cart-record-doubled": "the order has more than one cart record",
    "cart-record-differs": "the cart record is about another order or owner",
    "cart-record-needless": "the order has a cart record, but is not from a cart",
    "hold-unknown": "stock is held for an event that belongs to no history entry",
    "hold-unconfirmed": "stock is held for an event that was sent, as if it was not",
}

RANGE = "BETWEEN CAST(:low AS bigint) AND CAST(:high AS bigint)"

BEGIN = named(
    "audit.begin", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
)
# A chunk is a range of an index, and all joins are between whole chunks. With poor
# statistics the planner would read whole tables, or expect one row where there are
# thousands. Disabled plan nodes count as very costly, which would trigger JIT
# compilation for seconds: so that is off, too.
PLAN = named(
    "audit.plan",
    """
SELECT set_config('enable_seqscan', 'off', true),
  set_config('enable_nestloop', 'off', true),
  set_config('jit', 'off', true),
  set_config('max_parallel_workers_per_gather', '0', true),
  set_config('work_mem', '32MB', true)
""",
)

_EDGE = """
SELECT {pick}(
  (SELECT {edge}(id) FROM orders WHERE id {range}),
  (SELECT {edge}(order_id) FROM order_history WHERE order_id {range}),
  (SELECT {edge}(order_id) FROM sent_events WHERE order_id {range}),
  (SELECT {edge}(order_id) FROM dead_letters
   WHERE order_id {range} AND source = 'outbox'),
  (SELECT {edge}(order_id) FROM outbox WHERE order_id {range}))
"""
FIRST = named(
    "audit.first",
    _EDGE.format(pick="least", edge="min", range=RANGE),
)
LAST = named(
    "audit.last",
    _EDGE.format(pick="greatest", edge="max", range=RANGE),
)

# `is_new`: written since events are recorded with the history; older entries have none.
HISTORY = f"""
kept AS MATERIALIZED (
  SELECT coalesce((SELECT kept_from FROM retention
    WHERE table_name = 'sent_events'), '-infinity') AS since,
  coalesce((SELECT kept_from FROM retention
    WHERE table_name = 'order_history'), 'infinity') AS actors_since
),
o AS MATERIALIZED (
  SELECT id, user_id, created_at, is_complete, is_approved, approved_at, cart_id
  FROM orders WHERE id {RANGE}
),
i AS MATERIALIZED (
  SELECT id, order_id, user_id, status, product_variation, product_id, shop_id, price,
    quantity, version % {VERSION_STEP} AS version
  FROM order_items WHERE order_id {RANGE}
),
h AS MATERIALIZED (
  SELECT h.id, h.order_id, h.kind, h.item_id, h.from_status, h.to_status, h.changed_by,
    h.changed_at, CAST(h.event_id AS text) AS event_id, h.destinations,
    h.from_quantity, h.to_quantity, h.event_digest, h.actor_kind,
    lag(h.to_status) OVER of_item AS status_before,
    row_number() OVER of_item = 1 AS is_first,
    lead(h.id) OVER of_item IS NULL AS is_last,
    lag(h.changed_at) OVER of_order AS changed_before,
    h.changed_at > (SELECT since FROM kept)
      OR coalesce(h.id >= min(h.id) FILTER (WHERE h.event_id IS NOT NULL) OVER (
           PARTITION BY h.order_id), false) AS is_new
  FROM order_history h
  WHERE h.order_id {RANGE}
  WINDOW of_item AS (PARTITION BY h.order_id, h.item_id ORDER BY h.id),
    of_order AS (PARTITION BY h.order_id ORDER BY h.id)
),
past AS MATERIALIZED (  -- an order according to its history
  SELECT order_id, bool_or(is_new) AS is_new,
    count(*) FILTER (WHERE kind = 'order.created') AS created,
    count(*) FILTER (WHERE kind = 'order.approved') AS approved,
    count(*) FILTER (WHERE kind = 'order.deleted') AS deleted,
    min(id) FILTER (WHERE kind = 'order.created') AS created_id,
    min(id) FILTER (WHERE kind = 'order.approved') AS approved_id,
    min(id) FILTER (WHERE kind = 'order.deleted') AS deleted_id,
    min(CAST(changed_by AS text)) FILTER (WHERE kind = 'order.created') AS owner,
    min(changed_at) FILTER (WHERE kind = 'order.created') AS created_at,
    min(changed_at) FILTER (WHERE kind = 'order.approved') AS approved_at
  FROM h GROUP BY order_id
),
item_past AS MATERIALIZED (
  SELECT order_id, item_id,
    count(*) FILTER (WHERE kind = 'item.created') AS created,
    count(*) FILTER (WHERE kind = 'item.removed') AS removed,
    count(*) FILTER (WHERE kind = 'item.moved') AS status_changes,
    count(*) FILTER (WHERE kind = 'item.changed') AS changes,
    (array_agg(to_quantity ORDER BY id DESC)
      FILTER (WHERE to_quantity IS NOT NULL))[1] AS quantity,
    max(to_status) FILTER (WHERE is_last) AS status,
    bool_or(is_new) FILTER (WHERE is_last) AS is_new,
    bool_or(event_id IS NOT NULL) AS has_event
  FROM h WHERE item_id IS NOT NULL GROUP BY order_id, item_id
)"""  # noqa: S608 fragments of our own

_LEGAL = ", ".join(
    f"({before}, {after})" for before in TRANSITIONS for after in TRANSITIONS[before]
)
_OPEN = int(ItemStatus.PROCESSING)
_FINAL = ", ".join(map(str, sorted(FINAL)))

ORDERS = named(
    "audit.orders",
    f"""
WITH {HISTORY},
contents AS MATERIALIZED (
  SELECT order_id, bool_and(status IN ({_FINAL})) AS is_complete
  FROM i GROUP BY order_id
),
both_orders AS MATERIALIZED (  -- the row beside the history; either may be missing
  SELECT coalesce(o.id, past.order_id) AS id, o.id AS row_id,
    o.user_id, o.created_at, o.is_complete, o.is_approved, o.approved_at,
    coalesce(past.created, 0) AS created, coalesce(past.approved, 0) AS approved,
    coalesce(past.deleted, 0) AS deleted, past.is_new, past.approved_id,
    past.deleted_id, past.owner,
    past.created_at AS past_created_at, past.approved_at AS past_approved_at
  FROM o FULL JOIN past ON past.order_id = o.id
),
both_items AS MATERIALIZED (
  SELECT coalesce(i.order_id, p.order_id) AS order_id, coalesce(i.id, p.item_id) AS id,
    i.id AS row_id, i.status, i.version, i.quantity, p.status_changes, p.changes,
    p.quantity AS past_quantity, coalesce(p.created, 0) AS created,
    coalesce(p.removed, 0) AS removed, p.status AS past_status, p.is_new
  FROM i FULL JOIN item_past p ON p.order_id = i.order_id AND p.item_id = i.id
),
acted AS MATERIALIZED (  -- by an operator, in the console
  SELECT order_id, bool_and(btrim(operator) <> '') AS has_names
  FROM operator_actions WHERE order_id {RANGE} GROUP BY order_id
),
found AS (
  SELECT id, 'order-missing', CAST(NULL AS jsonb) FROM both_orders
  WHERE row_id IS NULL AND deleted = 0 AND (created > 0 OR is_new)
UNION ALL
  SELECT id, 'order-undeleted', NULL FROM both_orders
  WHERE row_id IS NOT NULL AND deleted > 0
UNION ALL
  SELECT id, 'order-unrecorded', NULL FROM both_orders
  WHERE created = 0 AND (row_id IS NOT NULL OR is_new)
UNION ALL
  SELECT b.id, 'entry-doubled', jsonb_build_object('kind', k.kind, 'times', k.times)
  FROM both_orders b CROSS JOIN LATERAL (VALUES ('order.created', b.created),
    ('order.approved', b.approved), ('order.deleted', b.deleted)) k(kind, times)
  WHERE k.times > 1
UNION ALL
  SELECT order_id, 'entry-doubled', jsonb_build_object('kind',
    CASE WHEN created > 1 THEN 'item.created' ELSE 'item.removed' END, 'item', id,
    'times', greatest(created, removed))
  FROM both_items WHERE created > 1 OR removed > 1
UNION ALL
  SELECT order_id, 'entry-doubled', jsonb_build_object('event', event_id,
    'times', count(*))
  FROM h WHERE event_id IS NOT NULL GROUP BY order_id, event_id HAVING count(*) > 1
UNION ALL
  SELECT h.order_id, 'entry-late', jsonb_build_object('kind', h.kind, 'entry', h.id)
  FROM h JOIN past p ON p.order_id = h.order_id
  WHERE h.id > p.deleted_id
    OR (h.id > p.approved_id AND h.kind NOT IN ('order.created', 'order.approved'))
UNION ALL
  SELECT order_id, 'entry-out-of-time', jsonb_build_object('kind', kind, 'entry', id,
    'at', {MOMENT.format("changed_at")}, 'before', {MOMENT.format("changed_before")})
  FROM h WHERE is_new AND changed_at < changed_before
UNION ALL
  SELECT id, 'approval-differs', jsonb_build_object('order', is_approved,
    'history', approved > 0)
  FROM both_orders WHERE row_id IS NOT NULL AND is_approved <> (approved > 0)
UNION ALL
  SELECT o.id, 'completeness-differs', jsonb_build_object('order', o.is_complete,
    'items', coalesce(c.is_complete, false))
  FROM o LEFT JOIN contents c ON c.order_id = o.id
  WHERE o.is_complete <> coalesce(c.is_complete, false)
UNION ALL
  SELECT order_id, 'actor-missing', jsonb_build_object('kind', kind, 'entry', id,
    'actor_kind', actor_kind)
  FROM h WHERE changed_at > (SELECT actors_since FROM kept)
    AND (actor_kind IS NULL OR (actor_kind <> '{SYSTEM}' AND changed_by IS NULL))
UNION ALL
  SELECT order_id, 'actor-missing', jsonb_build_object('kind', 'operator')
  FROM acted WHERE NOT has_names
UNION ALL
  SELECT h.order_id, 'actor-differs', jsonb_build_object('kind', h.kind,
    'entry', h.id, 'actor_kind', h.actor_kind, 'actor', h.changed_by, 'owner', p.owner)
  FROM h JOIN past p ON p.order_id = h.order_id
  LEFT JOIN acted a ON a.order_id = h.order_id
  WHERE CASE h.actor_kind
    WHEN '{USER}' THEN CAST(h.changed_by AS text) <> p.owner
    WHEN '{SYSTEM}' THEN h.kind <> 'order.approved' OR h.changed_by IS NOT NULL
    WHEN '{OPERATOR}' THEN h.kind = 'order.created' OR a.order_id IS NULL
    ELSE h.kind <> 'item.moved' AND h.actor_kind IS NOT NULL END
UNION ALL
  SELECT id, 'owner-differs', jsonb_build_object('order', user_id, 'history', owner)
  FROM both_orders WHERE CAST(user_id AS text) <> owner
UNION ALL
  SELECT b.id, 'time-differs', jsonb_build_object('of', t.name,
    'order', {MOMENT.format("t.recorded")}, 'history', {MOMENT.format("t.past")})
  FROM both_orders b CROSS JOIN LATERAL (VALUES
    ('created', b.created_at, b.past_created_at),
    ('approved', b.approved_at, b.past_approved_at)) t(name, recorded, past)
  WHERE t.recorded <> t.past
UNION ALL
  SELECT b.order_id, 'item-missing', jsonb_build_object('item', b.id)
  FROM both_items b JOIN o ON o.id = b.order_id
  -- In older history a removed item appears as cancelled.
  WHERE b.row_id IS NULL AND b.removed = 0
    AND (b.is_new OR b.past_status <> {ItemStatus.CANCELLED})
UNION ALL
  SELECT order_id, 'item-unremoved', jsonb_build_object('item', id)
  FROM both_items WHERE row_id IS NOT NULL AND removed > 0
UNION ALL
  SELECT order_id, 'item-unrecorded', jsonb_build_object('item', id)
  FROM both_items WHERE created = 0
UNION ALL
  SELECT i.order_id, 'item-owner-differs', jsonb_build_object('item', i.id,
    'owner', i.user_id, 'order', o.user_id)
  FROM i JOIN o ON o.id = i.order_id WHERE i.user_id <> o.user_id
UNION ALL
  SELECT order_id, 'status-differs', jsonb_build_object('item', id, 'status', status,
    'history', past_status)
  FROM both_items WHERE status <> past_status
UNION ALL
  SELECT order_id, 'version-differs', jsonb_build_object('item', id,
    'version', version, 'moves', status_changes, 'changes', changes)
  FROM both_items WHERE version < 1 + status_changes + changes
UNION ALL
  SELECT order_id, 'quantity-differs', jsonb_build_object('item', id,
    'quantity', quantity, 'history', past_quantity)
  -- Older releases raised the version without recording the quantity.
  FROM both_items
  WHERE version = 1 + status_changes + changes AND quantity <> past_quantity
UNION ALL
  SELECT order_id, 'chain-broken', jsonb_build_object('item', item_id, 'entry', id,
    'kind', kind, 'from', from_status, 'before', status_before)
  FROM h WHERE item_id IS NOT NULL AND CASE kind
    WHEN 'item.created' THEN NOT is_first OR from_status IS NOT NULL
    ELSE from_status IS DISTINCT FROM status_before OR from_status IS NULL END
UNION ALL
  SELECT order_id, 'transition-illegal', jsonb_build_object('item', item_id,
    'entry', id, 'from', from_status, 'to', to_status)
  FROM h WHERE CASE kind
    WHEN 'item.created' THEN to_status IS DISTINCT FROM {_OPEN}
    WHEN 'item.moved' THEN ((from_status, to_status) IN ({_LEGAL})) IS NOT TRUE
    WHEN 'item.removed' THEN
      ((from_status, to_status) = ({_OPEN}, {ItemStatus.CANCELLED})) IS NOT TRUE
    WHEN 'item.changed' THEN
      ((from_status, to_status) = ({_OPEN}, {_OPEN})) IS NOT TRUE
    WHEN 'item.taken' THEN
      ((from_status, to_status) = ({_OPEN}, {_OPEN})) IS NOT TRUE
    ELSE from_status IS NOT NULL OR to_status IS NOT NULL END
)
SELECT * FROM found
""",  # noqa: S608 fragments of our own
)
