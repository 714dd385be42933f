"""Save a change of one order with one statement.

It is a compare-and-swap on the order's version: if that is no longer the change's,
nothing is written.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from msgspec import Struct, json

from common.database.engine import Connection, StatementError, named
from common.domain.model import Change, Entry
from common.errors import BusyError
from common.json import encode
from common.messaging import outbox, pending
from common.messaging.pending import Bus, PendingEvents
from common.store import holds, idempotency
from common.telemetry import logs

DIGEST_BYTES = 16

# `change` is the document of all there is to write; each part below writes some of it.
# `wanted` locks the order; it is empty if the version is no longer the same. All parts
# join `target`, which is the same once the order holds what it takes from stock: so
# nothing is written then, and outbox ids are drawn last, so that one order's events get
# ids in commit order.
_CHANGE = """
change AS MATERIALIZED (
  SELECT * FROM jsonb_to_record(CAST(:change AS jsonb)) AS d(
    order_id bigint, version bigint, user_id uuid, at timestamptz,
    is_complete boolean, is_approved boolean, metadata jsonb, actor uuid,
    actor_kind text, request_id text, traceparent text, cart_id bigint, holds jsonb,
    released bigint[], changed jsonb, titles jsonb,
    added jsonb, removed bigint[], history jsonb, events jsonb, records jsonb)
)"""
_TARGET = f"""
target AS MATERIALIZED (
  SELECT w.id FROM wanted w, change d WHERE {holds.HOLD}
)"""  # noqa: S608 fragments of our own
_ADDED = """
added AS (
  INSERT INTO order_items (id, order_id, user_id, status, quantity,
    product_variation, product_id, shop_id, price, title)
  SELECT a.id, t.id, d.user_id, a.status, a.quantity, a.product_variation,
    a.product_id, a.shop_id, a.price, d.titles ->> CAST(a.id AS text)
  FROM target t, change d, jsonb_to_recordset(d.added) AS a(
    id bigint, status smallint, quantity int, product_variation uuid,
    product_id uuid, shop_id uuid, price bigint)
)"""
_REMEMBERED = """
remembered AS (  -- for their shops
  INSERT INTO deleted_items (id, order_id, quantity, product_variation, product_id,
    shop_id, price)
  SELECT i.id, i.order_id, i.quantity, i.product_variation, i.product_id, i.shop_id,
    i.price
  FROM removed i
)"""
_RELEASED_ITEMS = holds.RELEASED.format(condition="h.item_id = ANY(d.released)")
_RELEASED_ORDER = holds.RELEASED.format(condition="true")
_HISTORY = """
history AS (  -- the entries and the destinations of their events, in order
  INSERT INTO order_history (order_id, kind, item_id, from_status, to_status,
    changed_by, changed_at, request_id, event_id, destinations, actor_kind,
    from_quantity, to_quantity, event_digest)
  SELECT t.id, h.kind, h.item_id, h.from_status, h.to_status, d.actor, d.at,
    d.request_id, h.event_id, h.destinations, d.actor_kind, h.from_quantity,
    h.to_quantity, decode(h.event_digest, 'hex')
  FROM target t, change d, jsonb_to_recordset(d.history) AS h(
    position int, kind text, item_id bigint, from_status smallint,
    to_status smallint, event_id uuid, destinations text[], from_quantity int,
    to_quantity int, event_digest text)
  ORDER BY h.position
)"""
_PENDING = f"""
pending AS (  -- a row for each event and destination, in order
  INSERT INTO outbox (destination, order_id, event_id, event_type, body, traceparent,
    created_at, available_at, sending_since, attempts)
  SELECT e.destination, t.id, e.event_id, e.event_type, e.body, d.traceparent, d.at,
    CASE WHEN c.is_ours THEN now() + interval '{outbox.CLAIM_SECONDS}s' ELSE now() END,
    CASE WHEN c.is_ours THEN now() END, CASE WHEN c.is_ours THEN 1 ELSE 0 END
  FROM target t, change d,
    jsonb_to_recordset(d.events) AS e(position int, destination text, event_id uuid,
      event_type text, body text, is_claimed boolean),
    -- Claimed at once, unless earlier events of the order are still pending. NOT EXISTS
    -- could become a hash of the whole outbox; a scalar subquery stays a look-up.
    LATERAL (SELECT e.is_claimed AND (d.version = 0 OR (
      SELECT o.id FROM outbox o
      WHERE o.order_id = t.id AND o.destination = e.destination LIMIT 1) IS NULL)
      AS is_ours OFFSET 0) c
  ORDER BY e.position
  RETURNING id, event_id, destination, sending_since
)"""  # noqa: S608 fragments of our own
_RECORDS = f"""
recorded AS (  -- a conflict with another write on a key fails the whole statement
  INSERT INTO idempotency_records (user_id, scope, key, fingerprint, status, headers,
    body, order_id, expires_at)
  SELECT r.user_id, r.scope, r.key, r.fingerprint, r.status, r.headers, r.body,
    CASE WHEN r.scope = '{idempotency.CART}' THEN t.id END,
    now() + make_interval(hours => r.keep_hours)
  FROM target t, change d, jsonb_to_recordset(d.records) AS r(
    user_id uuid, scope text, key text, fingerprint text, status smallint,
    headers jsonb, body text, keep_hours int)
)"""  # noqa: S608 fragments of our own
_LINES = """
ordered AS (  -- in one order, so that no two writes wait for each other
  INSERT INTO ordered_lines (user_id, line_id, order_id)
  SELECT d.user_id, line.id, t.id
  FROM target t, change d, jsonb_to_recordset(d.records) AS r(lines bigint[]),
    unnest(r.lines) AS line(id)
  ORDER BY line.id
)"""
# No row if nothing was written, else the events that this process has claimed.
_WRITTEN = """
SELECT CAST((SELECT json_agg(json_build_array(id, event_id, destination))
  FROM pending WHERE sending_since IS NOT NULL) AS text)
FROM target
"""

_SAVE_NEW = named(
    "store.save_new",
    f"""
WITH {_CHANGE},
wanted AS (
  INSERT INTO orders (id, user_id, created_at, is_complete, metadata, cart_id)
  SELECT order_id, user_id, at, is_complete, metadata, cart_id FROM change
  RETURNING id
), {_TARGET}, {_ADDED}, {_HISTORY}, {_PENDING}, {_RECORDS}, {_LINES}
{_WRITTEN}""",  # noqa: S608 fragments of our own
)
_SAVE_CHANGED = named(
    "store.save_changed",
    f"""
WITH {_CHANGE},
wanted AS (
  UPDATE orders o
  SET version = o.version + 1, is_complete = d.is_complete, metadata = d.metadata,
    is_approved = d.is_approved,
    approved_at = CASE WHEN d.is_approved THEN coalesce(o.approved_at, d.at) END
  FROM change d
  WHERE o.id = d.order_id AND o.version = d.version
  RETURNING o.id
), {_TARGET},
changed AS (
  UPDATE order_items i
  SET status = c.status, quantity = c.quantity, version = i.version + 1
  FROM target t, change d, jsonb_to_recordset(d.changed)
    AS c(id bigint, status smallint, quantity int)
  WHERE i.id = c.id AND i.order_id = t.id
),
removed AS (
  DELETE FROM order_items i USING target t, change d
  WHERE i.order_id = t.id AND i.id = ANY(d.removed)
  RETURNING i.*
), {_RELEASED_ITEMS}, {_REMEMBERED}, {_ADDED}, {_HISTORY}, {_PENDING}, {_RECORDS}
{_WRITTEN}""",  # noqa: S608 fragments of our own
)
_SAVE_DELETED = named(
    "store.save_deleted",
    f"""
WITH {_CHANGE},
target AS (  -- items are deleted by cascade, after the statement
  DELETE FROM orders o USING change d
  WHERE o.id = d.order_id AND o.version = d.version
  RETURNING o.id
),
removed AS (SELECT i.* FROM target t JOIN order_items i ON i.order_id = t.id),
{_RELEASED_ORDER}, {_REMEMBERED}, {_HISTORY}, {_PENDING}
{_WRITTEN}""",  # noqa: S608 fragments of our own
)


class Saved(Struct, frozen=True):
    """The result of a write: the events to send, None if there are none."""

    pending: PendingEvents | None


def save(
    connection: Connection,
    change: Change,
    bus: Bus,
    records: Sequence[dict[str, Any]] = (),
) -> Saved | None:
    """Write the change with its history, events and idempotency records, atomically.

    One statement. Return None, with nothing written, if the order no longer has
    `change.version`. Raise StockSettlingError if other orders hold what it takes, or as
    `idempotency.reraise` does if a record's key or one of its lines is taken.
    """
    available = bus.available_destinations() if change.events else ()
    rows = pending.rows(change.events, bus)
    statement = _SAVE_NEW if change.version == 0 else _SAVE_CHANGED
    statement = _SAVE_DELETED if change.is_deletion else statement
    document = encode(_document(change, bus, rows, records, available))
    try:
        found = connection.execute(statement, {"change": document}).one_or_none()
    except (StatementError, BusyError) as error:
        holds.check(error, bus.settle_seconds)
        idempotency.reraise(error)
    if found is None:
        return None
    claimed = json.decode(found[0] or "[]", type=list[tuple[int, str, str]])
    return Saved(
        pending.after_write(change.order.id, change.at, rows, claimed, available)
    )


def _document(
    change: Change,
    bus: Bus,
    rows: Sequence[pending.PendingRow],
    records: Sequence[dict[str, Any]],
    available: Sequence[str],
) -> dict[str, Any]:
    """Return the statement's one parameter."""
    context = logs.current()
    return {
        "order_id": change.order.id,
        "version": change.version,
        "user_id": change.order.user_id,
        "at": change.at,
        "is_complete": change.is_complete,
        "is_approved": change.order.is_approved,
        "metadata": change.order.metadata,
        "actor": change.actor.id,
        "actor_kind": change.actor.kind,
        "request_id": context.request_id if context else None,
        "traceparent": context.traceparent if context else None,
        "cart_id": change.cart_id,
        "holds": holds.asked(change, bus),
        "released": holds.released(change),
        "changed": change.changed,
        "added": change.added,
        "titles": change.titles,
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
                "body": row.event.body,
                "is_claimed": bus.claims and row.destination in available,
            }
            for position, row in enumerate(rows)
        ],
        "records": records,
    }


def _history_row(position: int, entry: Entry, bus: Bus) -> dict[str, Any]:
    destinations = [
        name for event in entry.events for name in pending.destinations(event, bus)
    ]
    return {
        "position": position,
        "kind": entry.kind,
        "item_id": entry.item_id,
        "from_status": entry.from_status,
        "to_status": entry.to_status,
        "event_id": entry.events[0].id if destinations else None,
        "destinations": destinations,
        "from_quantity": entry.from_quantity,
        "to_quantity": entry.to_quantity,
        "event_digest": _digest(entry.events[0].body) if destinations else None,
    }


def _digest(body: str) -> str:
    """Return what the audit compares a body with, wherever the event is by then."""
    return hashlib.sha256(body.encode()).hexdigest()[: DIGEST_BYTES * 2]
