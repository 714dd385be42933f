"""Change orders: load a snapshot, decide, write, and try again on a conflict.

Rules decide in Python on a snapshot, and a write succeeds only if that snapshot still
holds.
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
    connect,
    named,
    transaction,
)
from common.domain.model import Change, Snapshot
from common.errors import BusyError, InFlightError, PreconditionFailedError
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
    """Which order is meant: by its id or by one of its items', and whose it must be.

    `versions` are those of the order, or of the item, that will do; None for any.
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
        """Raise PreconditionFailedError where the snapshot shows another version."""
        version = snapshot.version
        if self.item_id is not None:
            version = snapshot.item_versions[self.item_id]
        if self.versions is not None and version not in self.versions:
            raise PreconditionFailedError


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


def load(connection: Connection, target: Target) -> Snapshot:
    """Return the order with its items as of one moment; raise NotFoundError."""
    where, parameters = target.condition()
    (body,) = unique(connection, _load_statement(where), parameters)
    return json.decode(body, type=Snapshot)


class Changed(Struct, frozen=True):
    """The order as it is after a change, the change, and what it leaves to be sent."""

    after: Snapshot
    change: Change | None = None
    pending: PendingEvents | None = None


def create_order(
    engine: Engine,
    change: Change,
    bus: Bus,
    claims: Sequence[Claim],
    answer: StoredResponse,
) -> PendingEvents | None:
    """Write a new order, keep `answer` under `claims`; return what is to be sent.

    One round trip. Raise AlreadyAnsweredError, with nothing written, if another write
    has taken one of the claims meanwhile.
    """
    with _same_request(engine, claims), connect(engine) as connection:
        saved = save(connection, change, bus, idempotency.rows(claims, answer))
    assert saved is not None, "a new order has no version to have moved on from"
    logs.set_order_id(change.order.id)
    return saved.pending


def add_item(  # noqa: PLR0913, PLR0917 one write's worth of facts
    engine: Engine,
    snapshot: Snapshot,
    rule: Callable[[Snapshot], Change],
    bus: Bus,
    claims: Sequence[Claim],
    answer: StoredResponse,
) -> PendingEvents | None:
    """Change the order of `snapshot` as `change_order`, keep `answer` as above."""
    records = idempotency.rows(claims, answer)
    target = Target(order_id=snapshot.order.id, user_id=snapshot.order.user_id)
    with _same_request(engine, claims):
        return change_order(engine, target, rule, bus, records, snapshot).pending


@contextlib.contextmanager
def _same_request(engine: Engine, claims: Sequence[Claim]) -> Iterator[None]:
    """Look the claims up again where another write was faster to take one of them."""
    try:
        yield
    except KeyTakenError as error:
        idempotency.check(engine, claims)
        raise InFlightError from error  # its order was deleted in between


def change_order(  # noqa: PLR0913, PLR0917 one write's worth of facts
    engine: Engine,
    target: Target,
    rule: Callable[[Snapshot], Change | None],
    bus: Bus,
    records: Sequence[dict[str, Any]] = (),
    snapshot: Snapshot | None = None,
) -> Changed:
    """Load the order, apply `rule`, save; return the order after that, and the change.

    First without a lock, two round trips; one on a `snapshot` that was loaded before.
    Where another write was faster, the rule is applied to what that left, and then with
    the order locked, so that it goes through however many compete. Raise what the rule
    does, or PreconditionFailedError; nothing is written then.
    """
    with connect(engine) as connection:
        if snapshot is None:
            snapshot = load(connection, target)
        if changed := _apply(connection, target, rule, bus, records, snapshot):
            return changed
    with transaction(engine) as connection:
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


def _apply(  # noqa: PLR0913, PLR0917 one write's worth of facts
    connection: Connection,
    target: Target,
    rule: Callable[[Snapshot], Change | None],
    bus: Bus,
    records: Sequence[dict[str, Any]],
    snapshot: Snapshot,
) -> Changed | None:
    """Apply the rule to a snapshot and save; None where another write was faster."""
    target.check(snapshot)
    change = rule(snapshot)
    if change is None:
        return Changed(snapshot)
    saved = save(connection, change, bus, records)
    if saved is None:
        return None
    return Changed(_after(snapshot, change), change, saved.pending)


def _after(snapshot: Snapshot, change: Change) -> Snapshot:
    """Return the snapshot that a saved change leaves behind."""
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
