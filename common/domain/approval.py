"""Rules of approval: an order is approved once, when all of its items are final."""

from msgspec import UNSET, structs

from common.domain import events
from common.domain.commands import OrderPatch
from common.domain.model import SERVICE, Actor, Change, Entry, Snapshot
from common.domain.orders import is_complete, set_metadata
from common.errors import OrderApprovedError, OrderNotCompleteError


def decide(snapshot: Snapshot, actor: Actor = SERVICE) -> Change | None:
    """Return the approval of an order that is complete and not approved, else None."""
    order = snapshot.order
    if order.is_approved or not is_complete(order.items):
        return None
    approved = events.order_approved(order, snapshot.read_at)
    published = (approved, events.analytics_notification(order, approved))
    return Change(
        order=structs.replace(order, is_approved=True),
        version=snapshot.version,
        at=snapshot.read_at,
        is_complete=True,
        history=[Entry("order.approved", events=published)],
        actor=actor,
    )


def patch_order(snapshot: Snapshot, patch: OrderPatch, actor: Actor) -> Change | None:
    """Return the change of an owner's patch: metadata, and the approval if requested.

    Raise OrderNotCompleteError or OrderApprovedError.
    """
    changed = None
    if patch.metadata is not UNSET:
        changed = set_metadata(snapshot, patch.metadata, actor)
    if patch.is_approved is False and snapshot.order.is_approved:
        raise OrderApprovedError("An approved order stays approved.")
    if patch.is_approved is not True or snapshot.order.is_approved:
        return changed
    if changed is not None:
        snapshot = structs.replace(snapshot, order=changed.order)
    approved = decide(snapshot, actor)
    if approved is None:
        raise OrderNotCompleteError
    return approved
