"""Change orders: load a snapshot, apply a rule, save, and try again on a conflict.

A save succeeds only if the order still has the version of the snapshot.
"""

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from msgspec import Struct, json, structs

from common.database.engine import (
    Connection,
    Engine,
    Statement,
    begin,
    connect,
    named,
)
from common.domain.model import Change, Snapshot
from common.errors import (
    BusyError,
    InFlightError,
    PreconditionFailedError,
    StockSettlingError,
)
from common.messaging.pending import Bus, PendingEvents
from common.store import idempotency
from common.store.idempotency import Claim, KeyTakenError, StoredResponse
from common.store.reads import MOMENT, ORDER_JSON, unique
from common.store.save import save
from common.telemetry import logs

_BY_ORDER = "o.id = CAST(:id AS bigint)"
_BY_ITEM = "o.id = (SELECT order_id FROM order_items WHERE id = CAST(:id AS bigint))"
_OWNED = " AND o.user_id = CAST(:user_id AS uuid)"


@dataclass(frozen=True, kw_only=True)
class Target:
    """An order by its own id or by an item's, and by its owner if `user_id` is set.

    `versions` are those that If-Match allows, of the order or the item; None for any.
    """

    order_id: int | None = None
    item_id: int | None = None
    user_id: UUID | None = None
    versions: Collection[int] | None = None

    def condition(self) -> tuple[str, dict[str, Any]]:
        """Return the SQL condition on `orders o` and its parameters."""
        by_item = self.order_id is None
        where = _BY_ITEM if by_item else _BY_ORDER
        parameters: dict[str, Any] = {"id": self.item_id if by_item else self.order_id}
        if self.user_id is None:
            return where, parameters
        return where + _OWNED, parameters | {"user_id": self.user_id}

    def check(self, snapshot: Snapshot) -> None:
        """Raise PreconditionFailedError if the snapshot's version is not allowed."""
        version = snapshot.version
        if self.item_id is not None:
            version = snapshot.item_versions[self.item_id]
        if self.versions is not None and version not in self.versions:
            raise PreconditionFailedError


class Changed(Struct, frozen=True):
    """The order after a change, the change if any, and the events to send."""

    snapshot: Snapshot
    change: Change | None = None
    pending: PendingEvents | None = None


def create_order(
    engine: Engine,
    change: Change,
    bus: Bus,
    claims: Sequence[Claim],
    response: StoredResponse,
) -> PendingEvents | None:
    """Write a new order and store `response` under `claims`; return the events to send.

    One round trip. Raise AlreadyProcessedError or CartSettlingError, with nothing
    written, if another write has used one of the claims, or of their lines, meanwhile.
    """
    with _replaying(engine, claims), connect(engine) as connection:
        saved = save(connection, change, bus, idempotency.records(claims, response))
    assert saved is not None, "nothing can have changed a new order"
    logs.set_order_id(change.order.id)
    return saved.pending


def change_order(  # noqa: PLR0913, PLR0917 one write's worth of facts
    connection: Connection,
    target: Target,
    rule: Callable[[Snapshot], Change | None],
    bus: Bus,
    records: Sequence[dict[str, Any]] = (),
    snapshot: Snapshot | None = None,
) -> Changed:
    """Load the order, apply `rule`, save; return the order after that, and the change.

    The first try takes no lock and two round trips, or one if `snapshot` is the order
    as loaded before. If another write was faster, the order is locked and loaded again,
    so the second try succeeds however many compete. Raise what the rule raises, or
    PreconditionFailedError; then nothing is written.
    """
    if snapshot is None:
        snapshot = load(connection, target)
    if changed := _apply(connection, target, rule, bus, records, snapshot):
        return changed
    with begin(connection):
        return change_locked(connection, target, rule, bus, records)


def change_locked(
    connection: Connection,
    target: Target,
    rule: Callable[[Snapshot], Change | None],
    bus: Bus,
    records: Sequence[dict[str, Any]] = (),
) -> Changed:
    """Do what `change_order` does within a transaction, with the order locked."""
    where, parameters = target.condition()
    unique(connection, _lock_statement(where), parameters)
    snapshot = load(connection, target)
    changed = _apply(connection, target, rule, bus, records, snapshot)
    if changed is None:
        raise BusyError
    return changed


def add_item(  # noqa: PLR0913, PLR0917 one write's worth of facts
    engine: Engine,
    snapshot: Snapshot,
    rule: Callable[[Snapshot], Change],
    bus: Bus,
    claims: Sequence[Claim],
    response: StoredResponse,
) -> PendingEvents | None:
    """Do what `change_order` does, and store `response` as `create_order` does."""
    records = idempotency.records(claims, response)
    target = Target(order_id=snapshot.order.id, user_id=snapshot.order.user_id)
    with _replaying(engine, claims), connect(engine) as connection:
        changed = change_order(connection, target, rule, bus, records, snapshot)
    return changed.pending


def load(connection: Connection, target: Target) -> Snapshot:
    """Return the order with its items, read in one statement; raise NotFoundError."""
    where, parameters = target.condition()
    (body,) = unique(connection, _load_statement(where), parameters)
    return json.decode(body, type=Snapshot)


@functools.cache
def _load_statement(where: str) -> Statement:
    return named(
        "store.load",
        f"""
SELECT concat('{{"order":', {ORDER_JSON}, ',"version":', o.version,
  ',"read_at":"', {MOMENT.format("clock_timestamp()")}, '","item_versions":{{', (
    SELECT string_agg(concat('"', i.id, '":', i.version), ',')
    FROM order_items i WHERE i.order_id = o.id), '}}}}')
FROM orders o WHERE {where}""",  # noqa: S608 fragments of our own
    )


@functools.cache
def _lock_statement(where: str) -> Statement:
    sql = f"SELECT o.id FROM orders o WHERE {where} FOR UPDATE"  # noqa: S608
    return named("store.lock", sql)


def _apply(  # noqa: PLR0913, PLR0917 one write's worth of facts
    connection: Connection,
    target: Target,
    rule: Callable[[Snapshot], Change | None],
    bus: Bus,
    records: Sequence[dict[str, Any]],
    snapshot: Snapshot,
) -> Changed | None:
    """Apply the rule to a snapshot and save; None if another write was faster."""
    target.check(snapshot)
    change = rule(snapshot)
    if change is None:
        return Changed(snapshot)
    saved = save(connection, change, bus, records)
    if saved is None:
        return None
    return Changed(_after(snapshot, change), change, saved.pending)


def _after(snapshot: Snapshot, change: Change) -> Snapshot:
    """Return the snapshot as it is once the change is saved."""
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


@contextlib.contextmanager
def _replaying(engine: Engine, claims: Sequence[Claim]) -> Iterator[None]:
    """Raise as `idempotency.check` does if another write has used a claim first.

    It may be what holds the stock that is missing.
    """
    try:
        yield
    except StockSettlingError:
        idempotency.check(engine, claims)
        raise
    except KeyTakenError as error:
        idempotency.check(engine, claims)
        raise InFlightError from error  # its order has been deleted since
