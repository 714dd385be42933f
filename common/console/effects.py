"""What an action will do, as its confirmation page shows it.

Changes of orders come from the rules themselves, so a page promises only what its form
can do.
"""

import time
from collections.abc import Mapping, Sequence
from uuid import UUID

from common.clients import product
from common.clients.batch import Upstream
from common.console.actions import read_quantity
from common.database.engine import Connection
from common.domain import checkout
from common.domain.model import Change, Entry, Snapshot, status_label
from common.messaging import dead_letters, pending
from common.messaging.pending import Bus
from common.operations import event_log
from common.store import paging


def describe_change(
    snapshot: Snapshot, change: Change | None, destinations: Sequence[str]
) -> list[str]:
    """Return what a change does to an order, a sentence each."""
    if change is None:
        return ["Nothing: it is so already."]
    before = {item.id: item for item in snapshot.order.items}
    sentences = []
    for item in change.changed:
        old, new = before[item.id].quantity, item.quantity
        if old != new:
            sentences.append(f"Item {item.id}: quantity {old} to {new}.")
    if change.order.metadata != snapshot.order.metadata:
        sentences.append("The metadata changes.")
    bus = Bus(tuple(destinations))
    for entry in change.history:
        if entry.kind != "item.changed":  # its quantity, above
            sentences.append(_entry(entry))
        sentences += _events(entry, bus)
    if change.is_complete and not change.order.is_approved and not change.is_deletion:
        sentences.append("The order is then complete, and is approved by itself.")
    return sentences


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
    """Return the state of the event or dead letter that an action is about.

    Raise NotFoundError.
    """
    if "letter" in values:
        return _dead_letter(connection, paging.parse_id(values["letter"]))
    rows = event_log.read(
        connection, UUID(values["event"]), paging.parse_id(values["order"])
    )
    return [
        f"{row.event_type} of order {row.order_id} to {row.destination}: {row.place}"
        f"; attempts: {row.attempts or 0}, in doubt: {row.doubts}."
        for row in rows
        if row.destination == values["destination"]
    ]


def _dead_letter(connection: Connection, dead_letter_id: int) -> list[str]:
    found = dead_letters.read(connection, dead_letter_id)
    state, what = found.settled_as or "open", found.event_type or "a message"
    order = f" of order {found.order_id}" if found.order_id else ""
    destination = f" to {found.destination}" if found.destination else ""
    return [
        f"Dead letter {found.id}, {state}: {what}{order}{destination}.",
        f"Reason: {found.reason}",
    ]


def check_stock(
    snapshot: Snapshot, values: Mapping[str, str], upstream: Upstream, seconds: float
) -> None:
    """Raise ItemUnavailableError where more cannot be had, as for an owner."""
    item = snapshot.item(paging.parse_id(values["item"]))
    if (quantity := read_quantity(values)) > item.quantity:
        deadline = time.monotonic() + seconds
        ids = [item.product_variation]
        found = product.get_variations(upstream, snapshot.order.user_id, ids, deadline)
        checkout.check_increase(item, quantity, found)
