"""Statements by which PostgreSQL generates years of orders, one for each table.

Every column follows from the order's number, so tables filled separately agree.
"""

from common.domain import events
from common.domain.model import INTERNAL, SYSTEM, USER, ItemStatus
from common.store.reads import MOMENT

ITEMS = 3  # an order
HEAVY = "11111111-1111-4111-8111-111111111111"  # owns every fifth order
# Room for an order's entries, and for its events.
_ROOM = 16


def _digest(*parts: str) -> str:
    """Return SQL for a UUID that follows from the parts."""
    return f"CAST(md5(concat({', '.join(parts)})) AS uuid)"


# What follows from an order's number: whose it is, when it was, how far it got.
# Numbers are :low to :high of :total; the newest is of :until, the oldest :seconds
# older. Who is no large customer has some five orders.
_ORDERS = f"""
o AS (
  SELECT *, (is_done AND mod(id, 100000) <> 77) AS is_approved,
    created_at + least(interval '2 days', age * 0.5) AS moved_at,
    created_at + least(interval '3 days', age * 0.75) AS approved_at
  FROM (
    SELECT n AS id,
      CASE WHEN mod(n, 5) = 0 THEN CAST('{HEAVY}' AS uuid)
        WHEN mod(n, 100) IN (1, 2, 3) THEN {_digest("'large'", "mod(n, 100)")}
        ELSE {_digest("'user'", "mod(n * 7919, total / 5 + 1)")} END AS user_id,
      until - (total - n) * step AS created_at,
      (total - n) * step AS age,
      CASE WHEN mod(n, 10) <> 3 THEN n + 1000 END AS cart_id,
      -- The newest fiftieth is under way, and here and there one that was forgotten.
      n <= total - total / 50 AND mod(n, 200) <> 9 AS is_done
    FROM (SELECT CAST(:total AS bigint) AS total, CAST(:until AS timestamptz) AS until,
      make_interval(secs =>
        CAST(:seconds AS float8) / CAST(:total AS bigint)) AS step) scale,
      generate_series(CAST(:low AS bigint), CAST(:high AS bigint)) n
  ) numbered
)"""  # noqa: S608 fragments of our own

_ITEMS = f"""
i AS (
  SELECT o.*, k, (o.id - 1) * {ITEMS} + k AS item_id, 1 + mod(o.id + k, 3) AS quantity,
    CASE WHEN o.is_done AND k = 3 AND mod(o.id, 50) = 7 THEN {ItemStatus.CANCELLED}
      WHEN o.is_done THEN {ItemStatus.DELIVERED}
      WHEN k = 1 AND mod(o.id, 2) = 0 THEN {ItemStatus.SHIPPED}
      ELSE {ItemStatus.PROCESSING} END AS status,
    o.is_done AND k = 1 AND mod(o.id, 10) = 0 AS went_by_ship,
    {_digest("'variation'", "v")} AS variation,
    {_digest("'product'", "v / 5")} AS product_id,
    {_digest("'shop'", "v / 50")} AS shop_id, 100 + mod(v * 37, 90000) AS price
  FROM o, generate_series(1, {ITEMS}) k, LATERAL (
    SELECT mod(o.id * 7 + k * 31, 50000) AS v) x
)"""  # noqa: S608 fragments of our own

# In the order in which they were written: items, the order, moves, the approval.
_ENTRIES = f"""
h AS (
  SELECT i.*, position, kind, from_status, to_status, changed_at,
    kind <> 'order.created' OR cart_id IS NOT NULL AS is_told
  FROM i, LATERAL (VALUES
    (k, 'item.created', NULL, {ItemStatus.PROCESSING}, created_at, true),
    (4, 'order.created', NULL, NULL, created_at, k = 1),
    (3 + 2 * k, 'item.moved', {ItemStatus.PROCESSING}, {ItemStatus.SHIPPED}, moved_at,
     status = {ItemStatus.SHIPPED} OR went_by_ship),
    (4 + 2 * k, 'item.moved',
     CASE WHEN went_by_ship THEN {ItemStatus.SHIPPED}
       ELSE {ItemStatus.PROCESSING} END, status, moved_at,
     is_done),
    (11, 'order.approved', NULL, NULL, approved_at, is_approved AND k = 1)
  ) entry(position, kind, from_status, to_status, changed_at, is_there)
  WHERE is_there
)"""  # noqa: S608 fragments of our own
_DESTINATIONS = f"""CASE WHEN kind = 'order.approved'
    THEN ARRAY[CAST(:bus AS text), '{events.ANALYTICS}']
    ELSE ARRAY[CAST(:bus AS text)] END"""
_EVENT_ID = _digest("'event'", "id", "':'", "position")

ORDERS = f"""
WITH {_ORDERS}
INSERT INTO orders (id, user_id, created_at, is_complete, is_approved, approved_at,
  metadata, cart_id, version)
SELECT id, user_id, created_at, is_done, is_approved,
  CASE WHEN is_approved THEN approved_at END, '{{"channel": "web"}}', cart_id,
  CASE WHEN is_approved THEN 2 + {ITEMS} ELSE 1 END
FROM o"""  # noqa: S608 fragments of our own

ORDER_ITEMS = f"""
WITH {_ORDERS}, {_ITEMS}
INSERT INTO order_items (id, order_id, user_id, status, quantity, product_variation,
  product_id, shop_id, price, version)
SELECT item_id, id, user_id, status, quantity, variation, product_id, shop_id, price,
  1 + (status <> {ItemStatus.PROCESSING})::int + went_by_ship::int
FROM i"""  # noqa: S608 fragments of our own

ORDER_HISTORY = f"""
WITH {_ORDERS}, {_ITEMS}, {_ENTRIES}
INSERT INTO order_history (id, order_id, kind, item_id, from_status, to_status,
  changed_by, actor_kind, changed_at, request_id, event_id, destinations)
SELECT id * {_ROOM} + position, id, kind,
  CASE WHEN kind LIKE 'item.%' THEN item_id END, from_status, to_status,
  CASE kind WHEN 'order.approved' THEN NULL WHEN 'item.moved' THEN shop_id
    ELSE user_id END,
  CASE kind WHEN 'order.approved' THEN '{SYSTEM}' WHEN 'item.moved' THEN '{INTERNAL}'
    ELSE '{USER}' END, changed_at,
  concat('request-', id), CASE WHEN is_told THEN {_EVENT_ID} END,
  CASE WHEN is_told THEN {_DESTINATIONS} ELSE '{{}}' END
FROM h"""  # noqa: S608 fragments of our own

_LINES = f"""
lines AS (
  SELECT id,
    string_agg(concat('{{"id":', item_id, ',"order":', id, ',"status":1,"quantity":',
      quantity, ',"product_variation":"', variation, '","product_id":"', product_id,
      '","shop_id":"', shop_id, '","price":', price, '}}'), ',' ORDER BY k) AS shown,
    string_agg(concat('{{"product_variation_id":"', variation, '","quantity":',
      quantity, '}}'), ',' ORDER BY k) AS carried,
    string_agg(concat('{{"id":"', item_id, '","quantity":', quantity,
      ',"product_variation":"', variation, '","price":"',
      trim(to_char(price / 100.0, '9999990.00')), '"}}'), ',' ORDER BY k)
      FILTER (WHERE status = {ItemStatus.DELIVERED}) AS delivered,
    sum(quantity) AS total_quantity
  FROM i GROUP BY id
)"""  # noqa: S608 fragments of our own

# Sent since :kept_from, of orders up to number :sent_up_to. Of those after it
# everything is pending.
_EVENTS = f"""
WITH {_ORDERS}, {_ITEMS}, {_ENTRIES}, {_LINES},
e AS (
  SELECT id * {_ROOM} + position + (destination = '{events.ANALYTICS}')::int AS row_id,
    destination, id, {_EVENT_ID} AS event_id, changed_at,
    CASE WHEN destination = '{events.ANALYTICS}' THEN '{events.ANALYTICS_NOTIFICATION}'
      WHEN kind = 'item.created' THEN '{events.ITEM_CREATED}'
      WHEN kind = 'item.moved' THEN '{events.STATUS_UPDATED}'
      ELSE kind END AS event_type,
    CASE WHEN destination = '{events.ANALYTICS}' THEN concat('{{"id":"', id,
        '","user_id":"', user_id, '","created_at":"',
        replace({MOMENT.format("created_at")}, 'Z', '+00:00'), '","items":[',
        delivered, ']}}')
    ELSE CASE kind
      WHEN 'item.created' THEN concat('{{"event_type":"{events.ITEM_CREATED}",',
        '"order_item_id":"', item_id, '","order_id":"', id, '","shop_id":"', shop_id,
        '","product_id":"', product_id, '","product_variation":"', variation,
        '","quantity":', quantity, ',"price":', price, ',"status":1,"user_id":"',
        user_id, '"}}')
      WHEN 'order.created' THEN concat('{{"event":"{events.ORDER_CREATED}",',
        '"event_type":"{events.ORDER_CREATED}","data":{{"order_id":', id,
        ',"user_uuid":"', user_id, '","cart_id":', cart_id, ',"items":[', carried,
        ']}}}}')
      WHEN 'item.moved' THEN concat('{{"event_type":"{events.STATUS_UPDATED}",',
        '"order_item_id":"', item_id, '","order_id":"', id, '","shop_id":"', shop_id,
        '","status":', to_status, ',"previous_status":', from_status,
        ',"occurred_at":"', {MOMENT.format("changed_at")}, '"}}')
      ELSE concat('{{"event_type":"{events.ORDER_APPROVED}","order_id":"', id,
        '","user_id":"', user_id, '","approved_at":"',
        {MOMENT.format("changed_at")}, '"}}')
      END END AS body
  FROM h JOIN lines USING (id),
    LATERAL unnest({_DESTINATIONS}) destination
  WHERE is_told
)"""  # noqa: S608 fragments of our own

SENT_EVENTS = f"""{_EVENTS}
INSERT INTO sent_events (id, destination, order_id, event_id, event_type, body,
  created_at, attempts, sent_at)
SELECT row_id, destination, id, event_id, event_type, body, changed_at, 1, changed_at
FROM e
WHERE changed_at > CAST(:kept_from AS timestamptz)
  AND id <= CAST(:sent_up_to AS bigint)"""  # noqa: S608 fragments of our own

OUTBOX = f"""{_EVENTS}
INSERT INTO outbox (id, destination, order_id, event_id, event_type, body,
  created_at, available_at)
SELECT row_id, destination, id, event_id, event_type, body, changed_at, changed_at
FROM e WHERE id > CAST(:sent_up_to AS bigint)"""  # noqa: S608 fragments of our own

IDEMPOTENCY_RECORDS = f"""
WITH {_ORDERS}, {_ITEMS}, {_LINES}
INSERT INTO idempotency_records (user_id, scope, key, fingerprint, status, headers,
  body, order_id, created_at)
SELECT user_id, 'cart', digest, digest, 201,
  jsonb_build_object('Location', concat('/api/orders/', id, '/')),
  concat('{{"message":"Order created successfully","order_id":', id,
    ',"items_count":{ITEMS},"total_quantity":', total_quantity, ',"order":{{"id":', id,
    ',"user_id":"', user_id, '","created_at":"', {MOMENT.format("created_at")},
    '","is_approved":false,"metadata":{{}},"items":[', shown, ']}}}}'),
  id, created_at
FROM o JOIN lines USING (id),
  LATERAL (SELECT concat(md5(concat('cart', id)), md5(concat('lines', id))) AS digest) d
WHERE cart_id IS NOT NULL"""  # noqa: S608 fragments of our own

ORDERED_LINES = f"""
WITH {_ORDERS}, {_ITEMS}
INSERT INTO ordered_lines (user_id, line_id, order_id)
SELECT user_id, item_id, id FROM i WHERE cart_id IS NOT NULL"""  # noqa: S608 fragments of our own
