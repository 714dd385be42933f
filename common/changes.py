"""A change of one order: what it brings, and the one statement that writes it.

Lives here: `Change` with the history and events it is told by, and `save`. Not here:
rules, which make changes (`orders.py`, `approval.py`), and when they are tried again
(`store.py`). Surprise: a write is a compare-and-swap on the order's version; where that
has moved, nothing of the change is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from msgspec import Struct, json

from common import idempotency, logs, outbox, owed
from common.db import LOCK_NOT_AVAILABLE, Connection, Statement, StatementError, named
from common.errors import InFlightError
from common.events import Event
from common.owed import Bus, Owed
from common.placeholders import VALUES, Ids, place, template
from common.prepared import sql_state, violated_constraint
from common.reads import MOMENT
from common.schemas import Item, Order, encode

# Who acts: the owner; a shop by its token's claim; the shop service, without a token;
# the service itself; an operator, of whom the console keeps who it was and why.
USER, SHOP, INTERNAL, SYSTEM, OPERATOR = (
    "user",
    "shop",
    "internal",
    "system",
    "operator",
)


class Entry(Struct, frozen=True):
    """One entry of an order's history, and the events that tell of it, if any must.

    `kind` as in `models.order_history`. They share an event id; each has other
    destinations. `from_status` None: the item was created.
    """

    kind: str
    item_id: int | None = None
    from_status: int | None = None
    to_status: int | None = None
    events: tuple[Event, ...] = ()
    from_quantity: int | None = None
    to_quantity: int | None = None


@dataclass(kw_only=True)
class Change:
    """What one request does to one order: saved whole or not at all.

    `order` is the order as it will be. `version` is the one it was decided on, 0 for a
    new order. What `history` says, and its events, are recorded in its order.
    """

    order: Order
    version: int
    at: str
    changed: list[Item] = field(default_factory=list)
    added: list[Item] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    history: list[Entry] = field(default_factory=list)
    is_complete: bool = False
    is_deletion: bool = False
    actor: UUID | None = None
    actor_kind: str = USER
    cart_id: int | None = None

    @property
    def events(self) -> list[Event]:
        """Answer what is to be told, in the order in which it happened."""
        return [event for entry in self.history for event in entry.events]


_CREATE = """
  INSERT INTO orders (id, user_id, created_at, is_complete, metadata, cart_id)
  SELECT n.order_id, d.user_id, n.at, d.is_complete, d.metadata, d.cart_id
  FROM change d, drawn n
  RETURNING id"""
_UPDATE = """
  UPDATE orders o
  SET version = o.version + 1, is_complete = d.is_complete, metadata = d.metadata,
    is_approved = d.is_approved,
    approved_at = CASE WHEN d.is_approved THEN coalesce(o.approved_at, d.at) END
  FROM change d, drawn n
  WHERE o.id = n.order_id AND o.version = d.version
  RETURNING o.id"""
_DELETE = """
  DELETE FROM orders o USING change d, drawn n
  WHERE o.id = n.order_id AND o.version = d.version
  RETURNING o.id"""

# Everything hangs on `target`: it is empty when the version has moved, or a key was
# answered before, and then so is the rest. It also holds the order's lock before the
# first outbox id is drawn, so that one order's events get ids in commit order.
_SAVE = """
WITH change AS MATERIALIZED (  -- all that the statement is told, as one document
  SELECT * FROM jsonb_to_record(CAST(:change AS jsonb)) AS d(
    order_id bigint, version bigint, user_id uuid, at timestamptz,
    is_complete boolean, is_approved boolean, metadata jsonb, actor uuid,
    actor_kind text, request_id text, traceparent text, cart_id bigint, changed jsonb,
    added jsonb, added_count int, removed bigint[], history jsonb, events jsonb,
    records jsonb)
),
earlier AS MATERIALIZED (  -- was one of the keys answered before?
  SELECT r.position, k.fingerprint, k.status, k.headers, k.body
  FROM change d, jsonb_to_recordset(d.records)
    AS r(position int, user_id uuid, scope text, key text)
  JOIN idempotency_records k USING (user_id, scope, key)
  ORDER BY r.position LIMIT 1
),
drawn AS MATERIALIZED (  -- what placeholders stand for; drawn only if it is needed
  SELECT at, order_id, item_ids, {values} AS texts
  FROM (
    SELECT coalesce(d.at, clock_timestamp()) AS at,
      coalesce(d.order_id, nextval('orders_id_seq')) AS order_id,
      ARRAY(SELECT nextval('order_items_id_seq')
        FROM generate_series(1, d.added_count)) AS item_ids
    FROM change d
    WHERE NOT EXISTS (SELECT FROM earlier)
    OFFSET 0  -- or each mention of an id would draw another
  ) n
),
target AS ({head}),
changed AS (  -- items that were there before
  UPDATE order_items i
  SET status = c.status, quantity = c.quantity, version = i.version + 1
  FROM target t, change d, jsonb_to_recordset(d.changed)
    AS c(id bigint, status smallint, quantity int)
  WHERE i.id = c.id AND i.order_id = t.id
),
added AS (  -- new ones, under the ids that were drawn
  INSERT INTO order_items (id, order_id, user_id, status, quantity,
    product_variation, product_id, shop_id, price)
  SELECT n.item_ids[a.position], t.id, d.user_id, a.status, a.quantity,
    a.product_variation, a.product_id, a.shop_id, a.price
  FROM target t, drawn n, change d, jsonb_to_recordset(d.added) AS a(
    position int, status smallint, quantity int, product_variation uuid,
    product_id uuid, shop_id uuid, price bigint)
),
removed AS (  -- and those that go
  DELETE FROM order_items i USING target t, change d
  WHERE i.order_id = t.id AND i.id = ANY(d.removed)
),
history AS (  -- what happened, and who has to be told
  INSERT INTO order_history (order_id, kind, item_id, from_status, to_status,
    changed_by, changed_at, request_id, event_id, destinations, actor_kind,
    from_quantity, to_quantity)
  SELECT t.id, h.kind, coalesce(h.item_id, n.item_ids[h.added]), h.from_status,
    h.to_status, d.actor, n.at, d.request_id, h.event_id, h.destinations,
    d.actor_kind, h.from_quantity, h.to_quantity
  FROM target t, drawn n, change d, jsonb_to_recordset(d.history) AS h(
    position int, kind text, item_id bigint, added int, from_status smallint,
    to_status smallint, event_id uuid, destinations text[], from_quantity int,
    to_quantity int)
  ORDER BY h.position
),
owed AS (  -- a row for each event and destination
  INSERT INTO outbox (destination, order_id, event_id, event_type, body, traceparent,
    created_at, available_at, sending_since, attempts)
  SELECT e.destination, t.id, e.event_id, e.event_type,
    format(e.body, VARIADIC n.texts), d.traceparent, n.at,
    CASE WHEN c.is_ours THEN now() + interval '{claim_seconds}s' ELSE now() END,
    CASE WHEN c.is_ours THEN now() END, CASE WHEN c.is_ours THEN 1 ELSE 0 END
  FROM target t, drawn n, change d,
    jsonb_to_recordset(d.events) AS e(position int, destination text, event_id uuid,
      event_type text, body text, is_claimed boolean),
    -- Claimed at once, unless others of the order have to go first.
    LATERAL (SELECT e.is_claimed AND (d.version = 0 OR NOT EXISTS (
      SELECT FROM outbox o
      WHERE o.destination = e.destination AND o.order_id = t.id)) AS is_ours) c
  ORDER BY e.position
  RETURNING id, event_id, destination, sending_since
),
remembered AS (  -- a key that is being taken right now undoes the whole statement
  INSERT INTO idempotency_records (user_id, scope, key, fingerprint, status, headers,
    body, order_id, expires_at)
  SELECT r.user_id, r.scope, r.key, r.fingerprint, r.status,
    CAST(format(r.headers, VARIADIC n.texts) AS jsonb),
    format(r.body, VARIADIC n.texts),
    CASE WHEN r.scope = 'cart' THEN t.id END,
    now() + make_interval(hours => r.keep_hours)
  FROM target t, drawn n, change d, jsonb_to_recordset(d.records) AS r(
    user_id uuid, scope text, key text, fingerprint text, status smallint,
    headers text, body text, keep_hours int)
)
-- Nothing in `ids` where nothing was written.
SELECT CAST(json_build_object(
  'ids', (
    SELECT json_build_object('order_id', t.id, 'item_ids', n.item_ids,
      'at', n.texts[1])
    FROM target t, drawn n),
  'claimed', (
    SELECT json_agg(json_build_array(id, event_id, destination))
    FROM owed WHERE sending_since IS NOT NULL),
  'earlier', (SELECT row_to_json(earlier) FROM earlier)) AS text)
"""


def _save_statement(name: str, head: str) -> Statement:
    values = VALUES.format(
        moment=MOMENT.format("at"), order_id="order_id", item_ids="item_ids"
    )
    sql = _SAVE.format(head=head, values=values, claim_seconds=outbox.CLAIM_SECONDS)
    return named(name, sql)


_SAVE_NEW = _save_statement("store.save_new", _CREATE)
_SAVE_CHANGED = _save_statement("store.save_changed", _UPDATE)
_SAVE_DELETED = _save_statement("store.save_deleted", _DELETE)


class Saved(Struct, frozen=True):
    """What a write came to: the ids it drew, and the events it leaves to be sent."""

    ids: Ids
    owed: Owed | None


class _Row(Struct):
    """What the statement answers; `claimed` is id, event and destination of each."""

    ids: Ids | None
    claimed: list[tuple[int, str, str]] | None
    earlier: idempotency.Earlier | None


def save(
    connection: Connection,
    change: Change,
    bus: Bus,
    records: Sequence[dict[str, Any]] = (),
) -> Saved | None:
    """Write the change with its history, events and idempotency records, atomically.

    One statement, which also draws what placeholders stand for. Answers None, with
    nothing written, when the order has moved on from `change.version`. Raises
    AlreadyAnsweredError where a record's key is taken, InFlightError where it is being
    taken right now and that takes long.
    """
    awake = bus.admit() if change.events else ()
    told = owed.rows(change.events, bus)
    statement = _SAVE_NEW if change.version == 0 else _SAVE_CHANGED
    statement = _SAVE_DELETED if change.is_deletion else statement
    document = encode(_document(change, bus, told, records, awake))
    try:
        found = connection.execute(statement, {"change": document}).value()
    except StatementError as error:
        if violated_constraint(error) == idempotency.CONSTRAINT:
            raise idempotency.AlreadyAnsweredError from error
        if records and sql_state(error) == LOCK_NOT_AVAILABLE:
            raise InFlightError from error
        raise
    row = json.decode(found, type=_Row)
    if row.earlier is not None:
        raise idempotency.AlreadyAnsweredError(row.earlier)
    if row.ids is None:
        return None
    left = owed.left(row.ids, told, row.claimed or [], awake) if told else None
    return Saved(row.ids, left)


def _document(
    change: Change,
    bus: Bus,
    told: Sequence[owed.Row],
    records: Sequence[dict[str, Any]],
    awake: Sequence[str],
) -> dict[str, Any]:
    """Answer all that the statement is told."""
    is_new = change.version == 0
    context = logs.current()
    return {
        "order_id": None if is_new else change.order.id,
        "version": change.version,
        "user_id": change.order.user_id,
        "at": None if is_new else change.at,
        "is_complete": change.is_complete,
        "is_approved": change.order.is_approved,
        "metadata": change.order.metadata,
        "actor": change.actor,
        "actor_kind": change.actor_kind,
        "request_id": context.request_id if context else None,
        "traceparent": context.traceparent if context else None,
        "cart_id": change.cart_id,
        "changed": change.changed,
        "added": [_added_row(item) for item in change.added],
        "added_count": len(change.added),
        "removed": change.removed,
        "history": [
            _history_row(position, entry, bus)
            for position, entry in enumerate(change.history)
        ],
        "events": [
            {
                "position": position,
                "destination": row.destination,
                "event_id": row.event.id,
                "event_type": row.event.type,
                "body": template(row.event.body),
                "is_claimed": bus.claims and row.destination in awake,
            }
            for position, row in enumerate(told)
        ],
        "records": records,
    }


def _added_row(item: Item) -> dict[str, Any]:
    return {
        "position": place(item.id),
        "status": item.status,
        "quantity": item.quantity,
        "product_variation": item.product_variation,
        "product_id": item.product_id,
        "shop_id": item.shop_id,
        "price": item.price,
    }


def _history_row(position: int, entry: Entry, bus: Bus) -> dict[str, Any]:
    told = [name for e in entry.events for name in owed.destinations(e, bus)]
    added = None if entry.item_id is None else place(entry.item_id)
    return {
        "position": position,
        "kind": entry.kind,
        "item_id": entry.item_id if added is None else None,
        "added": added,
        "from_status": entry.from_status,
        "to_status": entry.to_status,
        "event_id": entry.events[0].id if told else None,
        "destinations": told,
        "from_quantity": entry.from_quantity,
        "to_quantity": entry.to_quantity,
    }
