"""What an action will do, as its confirmation page shows it.

Changes of orders come from the rules themselves, so a page promises only what its form
can do.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from common.clients import product
from common.clients.batch import Upstream
from common.console.actions import (
    Action,
    Added,
    Values,
    decide,
    read_order,
    read_quantity,
)
from common.console.catalogue import group
from common.database.engine import Connection, Engine, connect
from common.domain import checkout, orders
from common.domain.cart import Variation
from common.domain.commands import NewItem
from common.domain.model import Change, Entry, Snapshot, status_label
from common.errors import NotFoundError
from common.messaging import dead_letters, pending
from common.messaging.pending import Bus
from common.operations import event_log
from common.operations.lookup import events, letters
from common.store import idempotency, paging


@dataclass(frozen=True)
class Siblings:
    """The product service, and how long it may take."""

    product: Upstream
    seconds: float


def describe(  # noqa: PLR0913, PLR0917 all that it depends on
    engine: Engine,
    siblings: Siblings,
    destinations: Sequence[str],
    action: Action,
    values: Values,
    operator_id: UUID,
) -> list[str]:
    """Return what the action would do, a sentence each; raise what it would raise."""
    if action.rule is None:
        with connect(engine) as connection:
            return describe_event(connection, values)
    snapshot = read_order(engine, values)
    added = _read_added(snapshot, values, 1, siblings) if _adds(action) else None
    change = decide(action, values, operator_id, snapshot, added)
    if action.name == "set-quantity":
        _check_stock(snapshot, values, siblings)
    return describe_change(snapshot, change, destinations)


def prepare(
    engine: Engine, siblings: Siblings, action: Action, values: Values
) -> Added | None:
    """Ask the product service again, right before an action is done.

    Return the item to add, if the action adds one. Raise what `describe` raises.
    """
    if _adds(action):
        snapshot = read_order(engine, values)
        ids = idempotency.begin(engine, (), 1, snapshot.order.id)
        return _read_added(snapshot, values, ids.item_ids[0], siblings)
    if action.name == "set-quantity":
        _check_stock(read_order(engine, values), values, siblings)
    return None


def _adds(action: Action) -> bool:
    return action.name == "add-item"


def describe_change(
    snapshot: Snapshot, change: Change | None, destinations: Sequence[str]
) -> list[str]:
    """Return what a change does to an order, a sentence each."""
    if change is None:
        return ["Nothing: it is so already."]
    before = {item.id: item for item in snapshot.order.items}
    sentences = []
    for item in change.added:
        title = change.titles.get(item.id, str(item.product_variation))
        sentences.append(
            f"{item.quantity} of {title} are added, at {item.price / 100:.2f} each."
        )
    for item in change.changed:
        old, new = before[item.id].quantity, item.quantity
        if old != new:
            sentences.append(f"Item {item.id}: quantity {old} to {new}.")
    if change.order.metadata != snapshot.order.metadata:
        sentences.append("The metadata changes.")
    bus = Bus(tuple(destinations))
    for entry in change.history:
        if entry.kind not in _DESCRIBED:
            sentences.append(_entry(entry))
        sentences += _events(entry, bus)
    if change.is_complete and not change.order.is_approved and not change.is_deletion:
        sentences.append("The order is then complete, and is approved by itself.")
    return sentences


_DESCRIBED = ("item.changed", "item.created", "item.taken")  # by their items


def _entry(entry: Entry) -> str:
    if entry.item_id is None:
        return {
            "order.approved": "The order is approved.",
            "order.deleted": "The order is deleted.",
        }.get(entry.kind, entry.kind)
    old, new = status_label(entry.from_status), status_label(entry.to_status)
    if entry.kind == "item.removed":
        return f"Item {entry.item_id} is removed; other services see {old} to {new}."
    return f"Item {entry.item_id} goes from {old} to {new}."


def _events(entry: Entry, bus: Bus) -> list[str]:
    return [
        f"{event.type} is sent to {', '.join(pending.destinations(event, bus))}."
        for event in entry.events
    ]


def describe_event(connection: Connection, values: Mapping[str, str]) -> list[str]:
    """Return the state of the events or dead letters that an action is about.

    Raise NotFoundError.
    """
    if "letter" in values:
        return _dead_letter(connection, paging.parse_id(values["letter"]))
    if "cause" in values:
        return _group(connection, values)
    if "event" not in values:
        return _waiting(connection, values["destination"])
    rows = event_log.read(
        connection, UUID(values["event"]), paging.parse_id(values["order"])
    )
    return [
        f"{row.event_type} of order {row.order_id} to {row.destination}: {row.place}"
        f"; attempts: {row.attempts or 0}, in doubt: {row.doubts}."
        for row in rows
        if row.destination == values["destination"]
    ]


_NAMED = 10  # of many, in a sentence


def _group(connection: Connection, values: Mapping[str, str]) -> list[str]:
    query = group(values)
    found = letters.read_many(connection, query)
    if not found:
        raise NotFoundError("No such dead letter is open any more.")
    more = " or more" if len(found) == query.limit else ""
    orders = dict.fromkeys(each.order_id for each in found if each.order_id)
    return [
        f"{len(found)}{more} dead letters: {_listed([each.id for each in found])}.",
        f"They are of {len(orders)} orders: {_listed(list(orders))}.",
        f"Reason: {values['cause']}",
    ]


def _listed(ids: Sequence[int]) -> str:
    if not ids:
        return "none"
    shown = ", ".join(map(str, ids[:_NAMED]))
    return f"{shown} and {len(ids) - _NAMED} more" if len(ids) > _NAMED else shown


def _waiting(connection: Connection, destination: str) -> list[str]:
    query = events.Query(limit=1, place="failed", destination=destination)
    counted = events.count(connection, query)
    more = "" if counted.is_whole else " or more"
    return [f"{counted.number}{more} failed events for {destination} are tried now."]


def _dead_letter(connection: Connection, dead_letter_id: int) -> list[str]:
    found = dead_letters.read(connection, dead_letter_id)
    state, what = found.settled_as or "open", found.event_type or "a message"
    order = f" of order {found.order_id}" if found.order_id else ""
    destination = f" to {found.destination}" if found.destination else ""
    return [
        f"Dead letter {found.id}, {state}: {what}{order}{destination}.",
        f"Reason: {found.reason}",
    ]


def _check_stock(snapshot: Snapshot, values: Values, siblings: Siblings) -> None:
    """Raise ItemUnavailableError where more cannot be had, as for an owner."""
    item = snapshot.item(paging.parse_id(values["item"]))
    if (quantity := read_quantity(values)) > item.quantity:
        found = _variation(snapshot, item.product_variation, siblings)
        checkout.check_increase(item, quantity, found)


def _read_added(
    snapshot: Snapshot, values: Values, item_id: int, siblings: Siblings
) -> Added:
    """Return the item to add, checked and priced as for an owner.

    Raise InvalidRequestError or ItemUnavailableError.
    """
    orders.check_not_approved(snapshot)
    asked = NewItem(
        order=snapshot.order.id,
        product_variation=UUID(values["variation"]),
        quantity=read_quantity(values),
    )
    found = _variation(snapshot, asked.product_variation, siblings)
    [line] = checkout.price([asked], found, "variation")
    return Added(orders.new_item(snapshot.order.id, item_id, line), line.title)


def _variation(
    snapshot: Snapshot, variation: UUID, siblings: Siblings
) -> Mapping[UUID, Variation | None]:
    deadline = time.monotonic() + siblings.seconds
    owner = snapshot.order.user_id
    return product.get_variations(siblings.product, owner, [variation], deadline)
