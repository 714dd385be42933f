"""Approval: an order whose items are all final is approved once, and analytics told.

Lives here: the decision, and the sweep for what a lost trigger left behind. Not here:
decoding triggers (`functions/approval_handler`), delivery (`outbox.py`). Surprise:
analytics is told through the outbox like any broker, so an approval never waits for it.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from msgspec import UNSET, structs
from sqlalchemy import Engine, text

from common import envelopes, events, logs
from common.db import connect
from common.dead_letters import DeadLetter, bury
from common.errors import (
    BusyError,
    NotFoundError,
    OrderApprovedError,
    OrderNotCompleteError,
)
from common.orders import is_complete, set_metadata
from common.schemas import OrderPatch
from common.store import Change, Snapshot, Target, change_order

log = logs.get("approval")

SWEEP_BATCH = 500
_SECRET = ("authorization", "cookie")  # headers that nobody may read later


def decide(snapshot: Snapshot) -> Change | None:
    """Approve a complete order that is not approved; None for every other."""
    order = snapshot.order
    if order.is_approved or not is_complete(order.items):
        return None
    return Change(
        order=structs.replace(order, is_approved=True),
        version=snapshot.version,
        at=snapshot.read_at,
        is_complete=True,
        events=[
            events.order_approved(order, snapshot.read_at),
            events.analytics_notification(order),
        ],
    )


def patch_order(snapshot: Snapshot, patch: OrderPatch, actor: UUID) -> Change | None:
    """Do what an owner's patch asks for: metadata, and the approval where it is due.

    Raises OrderNotCompleteError or OrderApprovedError; then nothing is done.
    """
    changed = None
    if patch.metadata is not UNSET:
        changed = set_metadata(snapshot, patch.metadata, actor)
    if patch.is_approved is False and snapshot.order.is_approved:
        raise OrderApprovedError("An approved order stays approved.")
    if patch.is_approved is not True or snapshot.order.is_approved:
        return changed
    approved = decide(snapshot)
    if approved is None:
        raise OrderNotCompleteError
    if changed is not None:
        approved.order.metadata = changed.order.metadata
    return approved


def approve(engine: Engine, order_id: int, bus: Sequence[str]) -> bool:
    """Approve the order if it is due; tell whether this call did it.

    Of any number of calls at once exactly one answers True. Raises NotFoundError.
    """
    _, change = change_order(engine, Target(order_id=order_id), decide, bus)
    if change is not None:
        log.info("order approved", extra={"fields": {"order_id": order_id}})
    return change is not None


def take(
    engine: Engine, headers: Mapping[str, str], body: bytes, bus: Sequence[str]
) -> int | None:
    """Take one event that arrived; answer the order to hand over, if there is one.

    Returning acknowledges. Duplicates, latecomers, and events about deleted or unknown
    orders do no harm; what can never be understood becomes a dead letter. Raises
    BusyError or DatabaseUnavailableError where a redelivery will help.
    """
    try:
        incoming = envelopes.read(headers, body)
    except envelopes.UnreadableError as error:
        kept = {name: headers[name] for name in headers if name not in _SECRET}
        letter = DeadLetter("approval", str(error), body, kept)
        with connect(engine) as connection:
            bury(connection, letter)
        return None
    if incoming.order_id is None:
        return None
    logs.set_order_id(incoming.order_id)
    try:
        approve(engine, incoming.order_id, bus)
    except NotFoundError:
        log.info("the order is gone")
        return None
    return incoming.order_id


_FORGOTTEN = text("""
SELECT id FROM orders WHERE is_complete AND NOT is_approved
ORDER BY id LIMIT CAST(:limit AS int)
""")


def sweep(engine: Engine, bus: Sequence[str]) -> list[int]:
    """Approve complete orders that no trigger approved; answer their ids."""
    with connect(engine) as connection:
        found = connection.execute(_FORGOTTEN, {"limit": SWEEP_BATCH}).scalars().all()
    approved = []
    for order_id in found:
        try:
            if approve(engine, order_id, bus):
                approved.append(order_id)
        except NotFoundError:  # deleted since it was found
            continue
        except BusyError:  # somebody holds it: the next sweep's, and no other's loss
            log.warning("an order is busy", extra={"fields": {"order_id": order_id}})
    return approved
