"""Orders on their way to a change: snapshots to decide on, and the second try.

Lives here: loading, deciding and saving. Not here: rules (`orders.py`),
the write itself (`changes.py`), replies to reads (`reads.py`). Surprise: rules decide
in Python on a snapshot, and go through only if that snapshot still holds.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from msgspec import Struct, json, structs

from common import idempotency, logs
from common.changes import Change, Saved, save
from common.db import Connection, Engine, Statement, connect, named, transaction
from common.errors import BusyError, NotFoundError
from common.idempotency import AlreadyAnsweredError, Answer, Claim
from common.owed import Bus, Owed
from common.placeholders import Ids
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
def _load_statement(where: str) -> Statement:
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
def _lock_statement(where: str) -> Statement:
    sql = f"SELECT o.id FROM orders o WHERE {where} FOR UPDATE"  # noqa: S608
    return named("store.lock", sql)


def load(connection: Connection, target: Target) -> Snapshot:
    """Answer the order with its items as of one moment; raises NotFoundError."""
    where, parameters = target.condition()
    (body,) = unique(connection, _load_statement(where), parameters)
    return json.decode(body, type=Snapshot)


class Changed(Struct, frozen=True):
    """The order as it is after a change, the change, what it drew and what it owes."""

    after: Snapshot
    change: Change | None = None
    ids: Ids | None = None
    owed: Owed | None = None


def create_order(
    engine: Engine,
    change: Change,
    bus: Bus,
    claims: Sequence[Claim],
    answer: Answer,
) -> tuple[Answer, Owed | None]:
    """Write a new order, keep `answer` under `claims`; answer it and what is owed.

    Placeholders in the answer are filled. Where one of the claims was answered before:
    nothing is written, and that is answered, marked as replayed. One round trip; two
    more where the other is writing at this moment.
    """
    records = idempotency.rows(claims, answer)
    try:
        with connect(engine) as connection:
            saved = save(connection, change, bus, records)
    except AlreadyAnsweredError as error:
        return idempotency.earlier(engine, claims, error), None
    assert saved is not None, "a new order has no version to have moved on from"
    logs.set_order_id(saved.ids.order_id)
    return answer.filled(saved.ids), saved.owed


def add_item(  # noqa: PLR0913, PLR0917 one write's worth of facts
    engine: Engine,
    target: Target,
    decide: Callable[[Snapshot], Change | None],
    bus: Bus,
    claims: Sequence[Claim],
    answer: Answer,
) -> tuple[Answer, Owed | None]:
    """Change an order as `change_order` does, keeping `answer` as `create_order`."""
    records = idempotency.rows(claims, answer)
    try:
        changed = change_order(engine, target, decide, bus, records)
    except AlreadyAnsweredError as error:
        return idempotency.earlier(engine, claims, error), None
    assert changed.ids is not None, "an item that is added is a change"
    return answer.filled(changed.ids), changed.owed


def change_order(
    engine: Engine,
    target: Target,
    decide: Callable[[Snapshot], Change | None],
    bus: Bus,
    records: Sequence[dict[str, Any]] = (),
) -> Changed:
    """Load the order, `decide`, save; answer the order as it is then, and the change.

    First without a lock, two round trips. Where somebody else was faster, `decide`
    runs once more on what they left, and then with the order locked, so that it goes
    through however many compete. `decide` may raise; nothing is written then.
    """
    with connect(engine) as connection:
        snapshot = load(connection, target)
        change = decide(snapshot)
        if change is None:
            return Changed(snapshot)
        if saved := save(connection, change, bus, records):
            return _changed(snapshot, change, saved)
    with transaction(engine) as connection:
        return change_locked(connection, target, decide, bus, records)


def change_locked(
    connection: Connection,
    target: Target,
    decide: Callable[[Snapshot], Change | None],
    bus: Bus,
    records: Sequence[dict[str, Any]] = (),
) -> Changed:
    """Do what `change_order` does within a transaction, with the order locked."""
    where, parameters = target.condition()
    unique(connection, _lock_statement(where), parameters)
    snapshot = load(connection, target)
    change = decide(snapshot)
    if change is None:
        return Changed(snapshot)
    saved = save(connection, change, bus, records)
    if saved is None:
        raise BusyError
    return _changed(snapshot, change, saved)


def _changed(snapshot: Snapshot, change: Change, saved: Saved) -> Changed:
    return Changed(_after(snapshot, change), change, saved.ids, saved.owed)


def _after(snapshot: Snapshot, change: Change) -> Snapshot:
    """Answer the snapshot that a saved change leaves behind."""
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
