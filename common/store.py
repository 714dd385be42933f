"""Orders on their way to a change: snapshots to decide on, and the second try.

Lives here: loading, reserving ids, deciding and saving. Not here: rules (`orders.py`),
the write itself (`changes.py`), replies to reads (`reads.py`). Surprise: rules decide
in Python on a snapshot, and go through only if that snapshot still holds.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from msgspec import Struct, json, structs
from sqlalchemy import Connection, Engine, TextClause

from common import idempotency
from common.changes import Change, save
from common.db import (
    connect,
    named,
    transaction,
)
from common.errors import BusyError, NotFoundError
from common.reads import MOMENT, ORDER_JSON, unique
from common.schemas import Item, Order


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
    return named(
        "store.load",
        f"""
SELECT CAST(json_build_object('order', {ORDER_JSON}, 'version', o.version,
  'read_at', {MOMENT.format("clock_timestamp()")}, 'item_versions', (
    SELECT coalesce(json_object_agg(i.id, i.version), '{{}}')
    FROM order_items i WHERE i.order_id = o.id)) AS text)
FROM orders o WHERE {where}""",  # noqa: S608 fragments of our own
    )


@functools.cache
def _lock_statement(where: str) -> TextClause:
    sql = f"SELECT o.id FROM orders o WHERE {where} FOR UPDATE"  # noqa: S608
    return named("store.lock", sql)


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


_RESERVE = named(
    "store.reserve",
    f"""
SELECT CAST(json_build_object(
  'order_id', CASE WHEN CAST(:wants_order AS boolean)
    THEN nextval(pg_get_serial_sequence('orders', 'id')) END,
  'item_ids', (SELECT coalesce(json_agg(nextval(
      pg_get_serial_sequence('order_items', 'id'))), '[]')
    FROM generate_series(1, CAST(:items AS int))),
  'at', {MOMENT.format("clock_timestamp()")}) AS text)""",  # noqa: S608 fragments of our own
)


def reserve(engine: Engine, items: int, *, wants_order: bool) -> Reserved:
    """Reserve ids, so that events and the stored answer can name rows unwritten yet."""
    parameters = {"items": items, "wants_order": wants_order}
    with connect(engine) as connection:
        body = connection.execute(_RESERVE, parameters).scalar_one()
    return json.decode(body, type=Reserved)


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
