"""Orders on their way to a change: snapshots to decide on, and the one write.

Lives here: loading, reserving ids, saving. Not here: rules (`orders.py`) and replies to
reads (`reads.py`). Surprise: a write is a compare-and-swap on the order's version, so
rules decide in Python on a snapshot and go through only if that snapshot still holds.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from msgspec import Struct, json, structs
from sqlalchemy import Connection, Engine, TextClause, exc, text

from common import idempotency, logs, outbox
from common.db import (
    LOCK_NOT_AVAILABLE,
    connect,
    sql_state,
    transaction,
    violated_constraint,
)
from common.errors import BusyError, InFlightError, NotFoundError
from common.events import Event
from common.reads import MOMENT, ORDER_JSON, unique
from common.schemas import Item, Order, encode


class Snapshot(Struct, frozen=True):
    """An order with its items at one moment (`read_at`, RFC 3339), and its versions."""

    order: Order
    version: int
    item_versions: dict[int, int]
    read_at: str

    def item(self, item_id: int) -> Item:
        """Answer the item; raises NotFoundError."""
        for item in self.order.items:
            if item.id == item_id:
                return item
        raise NotFoundError


class Step(Struct, frozen=True):
    """One entry of an item's history; `from_status` None: it was created."""

    item_id: int
    from_status: int | None
    to_status: int


@dataclass(kw_only=True)
class Change:
    """What one request does to one order: saved whole or not at all.

    `order` is the order as it will be. `version` is the one it was decided on, 0 for a
    new order. `steps` go to the items' history.
    """

    order: Order
    version: int
    at: str
    changed: list[Item] = field(default_factory=list)
    added: list[Item] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    is_complete: bool = False
    is_deletion: bool = False
    actor: UUID | None = None


_BY_ORDER = "o.id = CAST(:id AS bigint)"
_BY_ITEM = "o.id = (SELECT order_id FROM order_items WHERE id = CAST(:id AS bigint))"
_OWNED = " AND o.user_id = CAST(:user_id AS uuid)"


@dataclass(frozen=True, kw_only=True)
class Target:
    """Which order is meant: by its id or by one of its items', and whose it must be."""

    order_id: int | None = None
    item_id: int | None = None
    user_id: UUID | None = None

    def condition(self) -> tuple[str, dict[str, Any]]:
        """Answer the SQL condition on `orders o` and its parameters."""
        by_item = self.order_id is None
        where = _BY_ITEM if by_item else _BY_ORDER
        parameters: dict[str, Any] = {"id": self.item_id if by_item else self.order_id}
        if self.user_id is None:
            return where, parameters
        return where + _OWNED, parameters | {"user_id": self.user_id}


@functools.cache
def _load_statement(where: str) -> TextClause:
    return text(f"""
SELECT CAST(json_build_object('order', {ORDER_JSON}, 'version', o.version,
  'read_at', {MOMENT.format("clock_timestamp()")}, 'item_versions', (
    SELECT coalesce(json_object_agg(i.id, i.version), '{{}}')
    FROM order_items i WHERE i.order_id = o.id)) AS text)
FROM orders o WHERE {where}""")  # noqa: S608 fragments of our own


@functools.cache
def _lock_statement(where: str) -> TextClause:
    return text(f"SELECT o.id FROM orders o WHERE {where} FOR UPDATE")  # noqa: S608


def load(connection: Connection, target: Target) -> Snapshot:
    """Answer the order with its items as of one moment; raises NotFoundError."""
    where, parameters = target.condition()
    (body,) = unique(connection, _load_statement(where), parameters)
    return json.decode(body, type=Snapshot)


class Reserved(Struct, frozen=True):
    """Ids that are nobody else's, and the moment (RFC 3339) they were reserved."""

    order_id: int | None
    item_ids: list[int]
    at: str


_RESERVE = text(f"""
SELECT CAST(json_build_object(
  'order_id', CASE WHEN CAST(:wants_order AS boolean)
    THEN nextval(pg_get_serial_sequence('orders', 'id')) END,
  'item_ids', (SELECT coalesce(json_agg(nextval(
      pg_get_serial_sequence('order_items', 'id'))), '[]')
    FROM generate_series(1, CAST(:items AS int))),
  'at', {MOMENT.format("clock_timestamp()")}) AS text)""")  # noqa: S608


def reserve(engine: Engine, items: int, *, wants_order: bool) -> Reserved:
    """Reserve ids, so that events and the stored answer can name rows unwritten yet."""
    parameters = {"items": items, "wants_order": wants_order}
    with connect(engine) as connection:
        body = connection.execute(_RESERVE, parameters).scalar_one()
    return json.decode(body, type=Reserved)


_CREATE = """
  INSERT INTO orders (id, user_id, created_at, is_complete, metadata)
  SELECT d.order_id, d.user_id, d.created_at, d.is_complete, d.metadata FROM change d
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
    actor uuid, request_id text, changed jsonb, added jsonb, removed bigint[],
    steps jsonb, events jsonb, records jsonb)
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
  INSERT INTO item_history
    (order_id, item_id, from_status, to_status, changed_by, changed_at, request_id)
  SELECT t.id, s.item_id, s.from_status, s.to_status, d.actor, d.at, d.request_id
  FROM target t, change d, jsonb_to_recordset(d.steps) AS s(
    item_id bigint, from_status smallint, to_status smallint)
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
_STATEMENTS = {
    head: text(_SAVE.format(head=head)) for head in (_CREATE, _UPDATE, _DELETE)
}


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
        "steps": change.steps,
        "events": outbox.rows(change.events, bus),
        "records": records,
    }
    head = _CREATE if change.version == 0 else _UPDATE
    head = _DELETE if change.is_deletion else head
    try:
        found = connection.execute(_STATEMENTS[head], {"change": encode(document)})
        return found.one_or_none() is not None
    except exc.DBAPIError as error:
        if violated_constraint(error) == idempotency.CONSTRAINT:
            raise idempotency.AlreadyAnsweredError from error
        if records and sql_state(error.orig) == LOCK_NOT_AVAILABLE:
            raise InFlightError from error
        raise


def create_order(
    engine: Engine,
    change: Change,
    bus: Sequence[str],
    claims: Sequence[idempotency.Claim],
    answer: idempotency.Answer,
) -> idempotency.Answer:
    """Write a new order and keep `answer` under `claims`; answer it.

    Where somebody was faster with one of the claims: nothing is written, and theirs is
    answered, marked as replayed. One round trip, two more for the slower.
    """

    def write(records: list[dict[str, Any]]) -> None:
        with connect(engine) as connection:
            save(connection, change, bus, records)

    return idempotency.once(engine, claims, answer, write)


def change_order(
    engine: Engine,
    target: Target,
    decide: Callable[[Snapshot], Change | None],
    bus: Sequence[str],
    records: Sequence[dict[str, Any]] = (),
) -> tuple[Snapshot, Change | None]:
    """Load the order, `decide`, save; answer the order as it is then, and the change.

    First without a lock, two round trips. Where somebody else was faster, `decide`
    runs once more on what they left, and then with the order locked, so that it goes
    through however many compete. `decide` may raise; nothing is written then.
    """
    with connect(engine) as connection:
        snapshot = load(connection, target)
        change = decide(snapshot)
        if change is None or save(connection, change, bus, records):
            return _after(snapshot, change), change
    with transaction(engine) as connection:
        where, parameters = target.condition()
        unique(connection, _lock_statement(where), parameters)
        snapshot = load(connection, target)
        change = decide(snapshot)
        if change is not None and not save(connection, change, bus, records):
            raise BusyError
        return _after(snapshot, change), change


def _after(snapshot: Snapshot, change: Change | None) -> Snapshot:
    """Answer the snapshot that a saved change leaves behind."""
    if change is None:
        return snapshot
    changed = {item.id for item in change.changed}
    versions = {
        item.id: snapshot.item_versions.get(item.id, 0) + (item.id in changed)
        for item in change.order.items
    }
    return structs.replace(
        snapshot,
        order=change.order,
        version=snapshot.version + 1,
        item_versions=versions | {item.id: 1 for item in change.added},
    )
