"""The audit's checks of events and carts: published once, in order, and correct.

Bodies are compared as text, so that one that is not JSON is reported instead of ending
the audit.
"""

from common.database.engine import named
from common.domain import events
from common.domain.model import ItemStatus
from common.messaging.event_rows import found
from common.messaging.outbox import MAX_BACKOFF_SECONDS
from common.operations.audit_checks import HISTORY, RANGE
from common.store.reads import MOMENT
from common.store.save import DIGEST_BYTES
from common.store.timeline import EVENT_TYPE

_FOUND = found(RANGE, " AND source = 'outbox'", digest_bytes=DIGEST_BYTES)

RECORDED = named(
    "audit.recorded",
    f"""
WITH {HISTORY},
due AS (  -- must the change have caused an event? null: not known any more
  SELECT h.*, CASE
    WHEN h.kind IN ('order.approved', 'order.deleted', 'item.taken') THEN true
    -- Earlier releases told nobody of what was ordered other than from a cart.
    WHEN h.kind = 'order.created' THEN CASE WHEN o.cart_id IS NOT NULL THEN true END
    WHEN h.kind = 'item.changed' THEN CASE WHEN h.to_quantity < h.from_quantity
      THEN false END
    WHEN i.id IS NOT NULL THEN i.shop_id IS NOT NULL AND i.product_id IS NOT NULL
    WHEN p.has_event THEN true
    END AS is_due
  FROM h
  LEFT JOIN o ON o.id = h.order_id
  LEFT JOIN i ON i.order_id = h.order_id AND i.id = h.item_id
  LEFT JOIN item_past p ON p.order_id = h.order_id AND p.item_id = h.item_id
),
found AS (
  SELECT order_id, 'untold' AS what, jsonb_build_object('kind', kind, 'entry', id,
    'item', item_id) AS details
  FROM due WHERE is_due AND event_id IS NULL AND is_new
UNION ALL
  SELECT order_id, 'told-needlessly', jsonb_build_object('kind', kind, 'entry', id,
    'item', item_id, 'event', event_id)
  FROM due WHERE NOT is_due AND event_id IS NOT NULL
UNION ALL
  SELECT order_id, 'audience-differs', jsonb_build_object('kind', kind, 'entry', id,
    'event', event_id, 'destinations', to_jsonb(destinations))
  FROM h WHERE event_id IS NOT NULL AND (
    ('{events.ANALYTICS}' = ANY(destinations)) <> (kind = 'order.approved')
    OR cardinality(destinations) < CASE kind WHEN 'order.approved' THEN 2 ELSE 1 END
    OR cardinality(destinations) <> (
      SELECT count(DISTINCT name) FROM unnest(destinations) name))
),
carts AS MATERIALIZED (
  SELECT order_id, user_id, body, expires_at FROM idempotency_records
  WHERE scope = 'cart' AND order_id {RANGE}
),
cart_counts AS MATERIALIZED (
  SELECT order_id, count(*) AS records FROM carts GROUP BY order_id
),
recorded AS (
  SELECT o.id AS order_id, CASE WHEN o.cart_id IS NULL THEN 'cart-record-needless'
      WHEN c.records IS NULL THEN 'cart-unrecorded'
      ELSE 'cart-record-doubled' END AS what,
    jsonb_build_object('cart', o.cart_id, 'records', coalesce(c.records, 0)) AS details
  FROM o
  LEFT JOIN cart_counts c ON c.order_id = o.id
  LEFT JOIN past p ON p.order_id = o.id
  WHERE CASE WHEN o.cart_id IS NOT NULL THEN coalesce(c.records, 0) <> 1
    -- Older orders do not record which cart they are from.
    ELSE c.records > 0 AND p.created_at > (SELECT since FROM kept) END
UNION ALL
  SELECT c.order_id, 'cart-record-differs', jsonb_build_object('cart', o.cart_id)
  FROM carts c JOIN o ON o.id = c.order_id
  WHERE c.user_id <> o.user_id OR c.expires_at IS NOT NULL
    OR strpos(c.body, '"order_id":' || o.id || ',') = 0
),
holds AS MATERIALIZED (
  SELECT order_id, item_id, CAST(event_id AS text) AS event_id,
    confirmed_at IS NULL AND released_at IS NULL AS is_waiting
  FROM stock_holds WHERE order_id {RANGE}
),
told AS MATERIALIZED (
  SELECT order_id, CAST(event_id AS text) AS event_id
  FROM sent_events WHERE order_id {RANGE}
  EXCEPT
  SELECT order_id, CAST(event_id AS text) FROM outbox WHERE order_id {RANGE}
  EXCEPT
  SELECT order_id, event_id FROM dead_letters WHERE order_id {RANGE}
),
held AS (
  SELECT s.order_id, CASE WHEN h.id IS NULL THEN 'hold-unknown'
      ELSE 'hold-unconfirmed' END AS what,
    jsonb_build_object('item', s.item_id, 'event', s.event_id) AS details
  FROM holds s
  LEFT JOIN h ON h.order_id = s.order_id AND h.event_id = s.event_id
  LEFT JOIN told t ON t.order_id = s.order_id AND t.event_id = s.event_id
  LEFT JOIN past p ON p.order_id = s.order_id
  -- Orders that are older than the ledger may lack the entry.
  WHERE (h.id IS NULL AND p.created_at > (SELECT since FROM kept))
    OR (s.is_waiting AND t.order_id IS NOT NULL)
)
SELECT * FROM found UNION ALL SELECT * FROM recorded UNION ALL SELECT * FROM held
""",  # noqa: S608 fragments of our own
)

_EXPECTED = """
expected AS MATERIALIZED (
  SELECT h.order_id, h.id AS entry_id, h.kind, h.item_id, h.from_status, h.to_status,
    h.from_quantity, h.to_quantity, h.changed_at, h.event_id, h.event_digest,
    name AS destination
  FROM h CROSS JOIN LATERAL unnest(h.destinations) name
  WHERE h.event_id IS NOT NULL
)"""

_EXPECTED_TYPE = f"""CASE WHEN w.kind = 'order.approved'
      AND w.destination = '{events.ANALYTICS}' THEN '{events.ANALYTICS_NOTIFICATION}'
    ELSE {EVENT_TYPE.format("w")} END"""

# Twice as long as the longest pause between attempts, which a claim does not reach.
_LONGEST_PAUSE = f"{2 * MAX_BACKOFF_SECONDS}s"

# What `order.created` announces: a cart, an order by hand, an item, more of one.
_TAKING = "'order.created', 'item.taken', 'item.changed'"
# A body must contain each of `members`, and `line` as often as `times`. Null: the
# expected value is not known any more.
_MATCHED = f"""
announced AS MATERIALIZED (  -- what the items' own events say was ordered
  SELECT h.order_id, h.id AS entry_id,
    nullif(split_part(split_part(f.body, '"product_variation":"', 2), '"', 1), '')
      AS variation,
    nullif(split_part(split_part(f.body, '"quantity":', 2), ',', 1), '') AS quantity
  FROM h LEFT JOIN (
    SELECT order_id, event_id, min(body) AS body FROM found
    WHERE event_type = '{events.ITEM_CREATED}' GROUP BY order_id, event_id
  ) f ON f.order_id = h.order_id AND f.event_id = h.event_id
  WHERE h.kind = 'item.created'
),
lines AS MATERIALIZED (
  SELECT p.order_id, count(*) AS items,
    CASE WHEN bool_and(a.variation IS NOT NULL AND a.quantity IS NOT NULL) THEN
      '"items":[' || string_agg('{{"product_variation_id":"' || a.variation
        || '","quantity":' || a.quantity || '}}', ',' ORDER BY a.entry_id) || ']'
      END AS text
  FROM past p JOIN announced a ON a.order_id = p.order_id AND a.entry_id < p.created_id
  GROUP BY p.order_id
),
delivered AS MATERIALIZED (
  SELECT p.order_id, count(*) AS items, array_agg('{{"id":"' || p.item_id
    || '","quantity":' || coalesce(i.quantity || ',"product_variation":"'
      || i.product_variation || '","price":"' || i.price / 100 || '.'
      || lpad(CAST(i.price % 100 AS text), 2, '0') || '"}}', '')) AS members
  FROM item_past p LEFT JOIN i ON i.order_id = p.order_id AND i.id = p.item_id
  WHERE p.status = {ItemStatus.DELIVERED} AND p.removed = 0 GROUP BY p.order_id
),
matched AS MATERIALIZED (
  SELECT f.*, w.entry_id, w.kind, w.event_digest, {_EXPECTED_TYPE} AS expected_type,
    CASE
    WHEN w.kind IN ({_TAKING}) THEN ARRAY[
      '"data":{{"order_id":' || w.order_id || ',', '"user_uuid":"' || p.owner || '"',
      CASE WHEN w.kind <> 'order.created' THEN '"cart_id":' || 'null,'
        WHEN o.id IS NOT NULL THEN '"cart_id":' || coalesce(CAST(o.cart_id AS text),
          'null') || ',' END,
      CASE WHEN w.kind = 'order.created' THEN l.text
        ELSE '"items":[{{"product_variation_id":"' || i.product_variation
          || '","quantity":' || w.to_quantity - coalesce(w.from_quantity, 0) || '}}]'
        END]
    WHEN w.destination = '{events.ANALYTICS}' THEN
      ARRAY['"id":"' || w.order_id || '","user_id"', '"user_id":"' || p.owner || '"',
        '"created_at":"' || rtrim({MOMENT.format("p.created_at")}, 'Z') || '+00:00"']
        || coalesce(d.members, '{{}}')
    ELSE ARRAY['"order_id":"' || w.order_id || '"']
    END || CASE
    WHEN w.kind = 'order.approved' AND w.destination <> '{events.ANALYTICS}' THEN
      ARRAY['"approved_at":"' || {MOMENT.format("w.changed_at")} || '"',
        '"user_id":"' || p.owner || '"']
    WHEN w.kind = 'order.deleted' THEN ARRAY['"user_id":"' || p.owner || '"']
    WHEN w.kind = 'item.created' THEN ARRAY['"order_item_id":"' || w.item_id || '"',
      '"status":' || w.to_status, '"user_id":"' || p.owner || '"',
      '"shop_id":"' || i.shop_id || '"', '"product_id":"' || i.product_id || '"',
      '"product_variation":"' || i.product_variation || '"',
      '"price":' || i.price || ',',
      -- An owner may change the quantity; each change raises the version.
      CASE WHEN i.version = 1 + c.status_changes
        THEN '"quantity":' || i.quantity || ',' END]
    WHEN w.kind IN ('item.moved', 'item.removed') THEN
      ARRAY['"order_item_id":"' || w.item_id || '"', '"status":' || w.to_status,
        '"previous_status":' || w.from_status, '"shop_id":"' || i.shop_id || '"',
        '"occurred_at":"' || {MOMENT.format("w.changed_at")} || '"']
    ELSE '{{}}'
    END AS members,
    CASE WHEN w.kind IN ({_TAKING}) THEN '"product_variation_id":'
      WHEN w.destination = '{events.ANALYTICS}' THEN '"product_variation":' END AS line,
    CASE WHEN w.kind = 'order.created' THEN l.items
      WHEN w.kind IN ({_TAKING}) THEN 1
      WHEN w.destination = '{events.ANALYTICS}' THEN coalesce(d.items, 0) END AS times
  FROM found f
  JOIN expected w ON w.order_id = f.order_id AND w.event_id = f.event_id
    AND w.destination = f.destination
  LEFT JOIN o ON o.id = w.order_id
  LEFT JOIN i ON i.order_id = w.order_id AND i.id = w.item_id
  LEFT JOIN item_past c ON c.order_id = w.order_id AND c.item_id = w.item_id
  LEFT JOIN past p ON p.order_id = w.order_id
  LEFT JOIN lines l ON l.order_id = w.order_id AND w.kind = 'order.created'
  LEFT JOIN delivered d ON d.order_id = w.order_id AND w.kind = 'order.approved'
)"""  # noqa: S608 fragments of our own

EVENTS = named(
    "audit.events",
    f"""
WITH {HISTORY},
{_FOUND},
{_EXPECTED},
{_MATCHED},
copies AS MATERIALIZED (
  SELECT order_id, event_id, destination,
    count(*) FILTER (WHERE place IN ('pending', 'sent') AND NOT is_resend) AS firsts,
    count(*) FILTER (WHERE place IN ('pending', 'sent') AND is_resend) AS resends,
    count(*) FILTER (WHERE place = 'dead') AS dead,
    count(*) FILTER (WHERE place = 'dead' AND settled_as IS NULL) AS open_dead,
    count(*) FILTER (WHERE place IN ('dead', 'replayed')) - count(DISTINCT created_at)
      FILTER (WHERE place IN ('dead', 'replayed')) AS duplicates,
    max(CASE WHEN place = 'pending' THEN 'infinity' ELSE sent_at END)
      FILTER (WHERE place IN ('pending', 'sent') AND NOT is_resend) AS sent_at,
    min(created_at) FILTER (WHERE place IN ('dead', 'replayed')) AS died_at
  FROM found GROUP BY order_id, event_id, destination
),
in_order AS MATERIALIZED (  -- as they were recorded, and so are to be sent
  SELECT m.*, lag(m.entry_id) OVER (PARTITION BY m.order_id, m.destination
      ORDER BY m.id) AS entry_before,
    min(m.id) FILTER (WHERE m.place = 'pending') OVER (
      PARTITION BY m.order_id, m.destination) AS oldest_pending,
    -- Items between the same two other events may be announced in any order.
    count(*) FILTER (WHERE m.event_type <> '{events.ITEM_CREATED}') OVER (
      PARTITION BY m.order_id, m.destination ORDER BY m.id) AS batch
  FROM matched m WHERE m.place IN ('pending', 'sent') AND NOT m.is_resend
),
in_turn AS MATERIALIZED (  -- as changes were made
  SELECT m.*, CASE m.event_type WHEN '{events.ITEM_CREATED}'
    THEN max(m.sent_at) FILTER (WHERE m.event_type <> '{events.ITEM_CREATED}') OVER w
    ELSE max(m.sent_at) OVER w END AS earlier_sent_at
  FROM matched m WHERE m.place = 'sent' AND NOT m.is_resend
  WINDOW w AS (PARTITION BY m.order_id, m.destination ORDER BY m.entry_id
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
),
differences AS (
  SELECT w.order_id, 'event-lost' AS what, jsonb_build_object('event', w.event_id,
    'destination', w.destination, 'kind', w.kind, 'entry', w.entry_id) AS details
  FROM expected w LEFT JOIN copies c ON c.order_id = w.order_id
    AND c.event_id = w.event_id AND c.destination = w.destination
  WHERE coalesce(c.firsts + c.resends + c.dead, 0) = 0
    AND w.changed_at > (SELECT since FROM kept)
UNION ALL
  SELECT order_id, 'event-doubled', jsonb_build_object('event', event_id,
    'destination', destination, 'rows', firsts, 'dead_letters', dead)
  FROM copies
  -- A dead letter made after the event was sent is that of an operator's resend.
  WHERE firsts > 1 OR duplicates > 0 OR open_dead > 1 OR died_at <= sent_at
    OR (dead > 1 AND firsts + resends = 0)
UNION ALL
  SELECT f.order_id, 'event-unknown', jsonb_build_object('event', f.event_id,
    'destination', f.destination, 'type', f.event_type, 'place', f.place, 'row', f.id)
  FROM found f
  LEFT JOIN expected w ON w.order_id = f.order_id AND w.event_id = f.event_id
    AND w.destination = f.destination
  LEFT JOIN past p ON p.order_id = f.order_id
  WHERE w.order_id IS NULL AND coalesce(p.is_new,
    f.created_at > (SELECT since FROM kept))
UNION ALL
  SELECT order_id, 'event-type-differs', jsonb_build_object('event', event_id,
    'destination', destination, 'type', event_type, 'due', expected_type,
    'place', place, 'row', id)
  FROM matched WHERE event_type <> expected_type
UNION ALL
  SELECT m.order_id, 'event-body-differs', jsonb_build_object('event', m.event_id,
    'destination', m.destination, 'place', m.place, 'row', m.id, 'lacks', x.member)
  FROM matched m CROSS JOIN LATERAL (
    SELECT member FROM unnest(m.members) member
    WHERE strpos(m.body, member) = 0 LIMIT 1) x
UNION ALL
  SELECT order_id, 'event-body-differs', jsonb_build_object('event', event_id,
    'destination', destination, 'place', place, 'row', id, 'items', times)
  FROM matched
  WHERE (length(body) - length(replace(body, line, ''))) / length(line) <> times
    OR body NOT LIKE '{{%}}'
UNION ALL
  SELECT order_id, 'event-body-differs', jsonb_build_object('event', event_id,
    'destination', destination, 'place', place, 'row', id, 'lacks', 'digest')
  FROM matched WHERE digest <> event_digest AND destination <> '{events.ANALYTICS}'
UNION ALL
  SELECT order_id, 'event-never-due', jsonb_build_object('event', event_id,
    'destination', destination, 'row', id, 'until', CAST(available_at AS text))
  FROM found WHERE place = 'pending' AND held_since IS NULL
    AND available_at > now() + interval '{_LONGEST_PAUSE}'
UNION ALL
  SELECT order_id, 'events-sent-out-of-order', jsonb_build_object('event', event_id,
    'destination', destination, 'row', id, 'entry', entry_id,
    'sent', {MOMENT.format("sent_at")}, 'before', {MOMENT.format("earlier_sent_at")})
  FROM in_turn WHERE sent_at < earlier_sent_at
UNION ALL
  SELECT order_id, 'events-out-of-order', jsonb_build_object('event', event_id,
    'destination', destination, 'place', place, 'row', id, 'entry', entry_id,
    'after', entry_before)
  FROM in_order WHERE entry_id < entry_before
UNION ALL
  SELECT s.order_id, 'event-overtaken', jsonb_build_object('event', p.event_id,
    'destination', p.destination, 'row', p.id, 'by', s.event_id)
  FROM in_order s JOIN in_order p ON p.order_id = s.order_id
    AND p.destination = s.destination AND p.id = s.oldest_pending
  WHERE s.place = 'sent' AND p.place = 'pending' AND s.id > p.id
    AND NOT (s.batch = p.batch AND p.event_type = '{events.ITEM_CREATED}')
)
SELECT * FROM differences
""",  # noqa: S608 fragments of our own
)

TALLY = named(
    "audit.tally",
    f"""
WITH {found(RANGE, " AND source = 'outbox'", has_bodies=False)},
doubtful AS (
  SELECT * FROM found WHERE doubts > 0
)
SELECT CAST(json_build_object(
  'orders', (SELECT count(*) FROM (
     SELECT id FROM orders WHERE id {RANGE}
     UNION SELECT order_id FROM order_history WHERE order_id {RANGE}) known),
  'events', (SELECT coalesce(sum(cardinality(destinations)), 0) FROM order_history
     WHERE order_id {RANGE}),
  'pending', (SELECT count(*) FROM found WHERE place = 'pending'),
  'resent', (SELECT count(*) FROM found WHERE is_resend),
  'ambiguous', (SELECT coalesce(json_agg(to_jsonb(doubtful) - 'body'
     ORDER BY order_id, id), '[]') FROM doubtful)) AS text)
""",  # noqa: S608 fragments of our own
)
