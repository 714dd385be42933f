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

from msgspec import Struct
from sqlalchemy import Connection, exc

from common import idempotency, logs, outbox
from common.db import LOCK_NOT_AVAILABLE, named, sql_state, violated_constraint
from common.errors import InFlightError
from common.events import Event
from common.schemas import Item, Order, encode


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
    cart_id: int | None = None

    @property
    def events(self) -> list[Event]:
        """Answer what is to be told, in the order in which it happened."""
        return [event for entry in self.history for event in entry.events]


_CREATE = """
  INSERT INTO orders (id, user_id, created_at, is_complete, metadata, cart_id)
  SELECT d.order_id, d.user_id, d.created_at, d.is_complete, d.metadata, d.cart_id
  FROM change d
  RETURNING id"""
_UPDATE = """
  UPDATE orders o
  SET version = o.version + 1, is_complete = d.is_complete, metadata = d.metadata,
    is_approved = d.is_approved,
    approved_at = CASE WHEN d.is_approved THEN coalesce(o.approved_at, d.at) END
  FROM change d
  WHERE o.id = d.order_id AND o.version = d.version
  RETURNING o.id"""
_DELETE = """
  DELETE FROM orders o USING change d
  WHERE o.id = d.order_id AND o.version = d.version
  RETURNING o.id"""

# Everything hangs on `target`: it is empty when the version has moved, and then so is
# the rest. It also holds the order's lock before the first outbox id is drawn, so that
# one order's events get ids in commit order.
_SAVE = """
WITH change AS MATERIALIZED (
  SELECT * FROM jsonb_to_record(CAST(:change AS jsonb)) AS d(
    order_id bigint, version bigint, user_id uuid, created_at timestamptz,
    at timestamptz, is_complete boolean, is_approved boolean, metadata jsonb,
    actor uuid, request_id text, cart_id bigint, changed jsonb, added jsonb,
    removed bigint[], history jsonb, events jsonb, records jsonb)
),
target AS ({head}),
changed AS (
  UPDATE order_items i
  SET status = c.status, quantity = c.quantity, version = i.version + 1
  FROM target t, change d, jsonb_to_recordset(d.changed)
    AS c(id bigint, status smallint, quantity int)
  WHERE i.id = c.id AND i.order_id = t.id
),
added AS (
  INSERT INTO order_items (id, order_id, user_id, status, quantity,
    product_variation, product_id, shop_id, price)
  SELECT a.id, t.id, d.user_id, a.status, a.quantity,
    a.product_variation, a.product_id, a.shop_id, a.price
  FROM target t, change d, jsonb_to_recordset(d.added) AS a(
    id bigint, status smallint, quantity int, product_variation uuid,
    product_id uuid, shop_id uuid, price bigint)
),
removed AS (
  DELETE FROM order_items i USING target t, change d
  WHERE i.order_id = t.id AND i.id = ANY(d.removed)
),
history AS (
  INSERT INTO order_history (order_id, kind, item_id, from_status, to_status,
    changed_by, changed_at, request_id, event_id, destinations)
  SELECT t.id, h.kind, h.item_id, h.from_status, h.to_status, d.actor, d.at,
    d.request_id, h.event_id, h.destinations
  FROM target t, change d, jsonb_to_recordset(d.history) AS h(
    position int, kind text, item_id bigint, from_status smallint, to_status smallint,
    event_id uuid, destinations text[])
  ORDER BY h.position
),
owed AS (
  INSERT INTO outbox
    (destination, order_id, event_id, event_type, body, traceparent)
  SELECT e.destination, t.id, e.event_id, e.event_type, e.body, e.traceparent
  FROM target t, change d, jsonb_to_recordset(d.events) AS e(
    position int, destination text, event_id uuid, event_type text, body text,
    traceparent text)
  ORDER BY e.position
),
remembered AS (  -- a key that is taken already undoes the whole statement
  INSERT INTO idempotency_records (user_id, scope, key, fingerprint, status, headers,
    body, order_id, expires_at)
  SELECT r.user_id, r.scope, r.key, r.fingerprint, r.status, r.headers, r.body,
    CASE WHEN r.scope = 'cart' THEN t.id END,
    now() + make_interval(hours => r.keep_hours)
  FROM target t, change d, jsonb_to_recordset(d.records) AS r(
    user_id uuid, scope text, key text, fingerprint text, status smallint,
    headers jsonb, body text, keep_hours int)
)
SELECT id FROM target
"""
_SAVE_NEW = named("store.save_new", _SAVE.format(head=_CREATE))
_SAVE_CHANGED = named("store.save_changed", _SAVE.format(head=_UPDATE))
_SAVE_DELETED = named("store.save_deleted", _SAVE.format(head=_DELETE))


def save(
    connection: Connection,
    change: Change,
    bus: Sequence[str],
    records: Sequence[dict[str, Any]] = (),
) -> bool:
    """Write the change with its history, events and idempotency records, atomically.

    One statement. Answers False, with nothing written, when the order has moved on
    from `change.version`. Raises AlreadyAnsweredError where a record's key is taken,
    InFlightError where it is being taken right now and that takes long.
    """
    context = logs.current()
    document = {
        "order_id": change.order.id,
        "version": change.version,
        "user_id": change.order.user_id,
        "created_at": change.order.created_at,
        "at": change.at,
        "is_complete": change.is_complete,
        "is_approved": change.order.is_approved,
        "metadata": change.order.metadata,
        "actor": change.actor,
        "request_id": context.request_id if context else None,
        "changed": change.changed,
        "added": change.added,
        "removed": change.removed,
        "cart_id": change.cart_id,
        "history": [
            _history_row(position, entry, bus)
            for position, entry in enumerate(change.history)
        ],
        "events": outbox.rows(change.events, bus),
        "records": records,
    }
    statement = _SAVE_NEW if change.version == 0 else _SAVE_CHANGED
    statement = _SAVE_DELETED if change.is_deletion else statement
    try:
        found = connection.execute(statement, {"change": encode(document)})
        return found.one_or_none() is not None
    except exc.DBAPIError as error:
        if violated_constraint(error) == idempotency.CONSTRAINT:
            raise idempotency.AlreadyAnsweredError from error
        if records and sql_state(error.orig) == LOCK_NOT_AVAILABLE:
            raise InFlightError from error
        raise


def _history_row(position: int, entry: Entry, bus: Sequence[str]) -> dict[str, Any]:
    told = [name for e in entry.events for name in outbox.destinations(e, bus)]
    return {
        "position": position,
        "kind": entry.kind,
        "item_id": entry.item_id,
        "from_status": entry.from_status,
        "to_status": entry.to_status,
        "event_id": entry.events[0].id if told else None,
        "destinations": told,
    }
