"""The page of one order: what can be done with it, and why something cannot.

The rules themselves are asked, so that every button that is shown would succeed now.
"""

from collections.abc import Iterator
from uuid import UUID

from msgspec import Struct

from common.console.actions import Action, Values, decide, title
from common.console.catalogue import ACTIONS
from common.database.engine import Connection, named
from common.domain.model import MAX_QUANTITY, Item, ItemStatus, Snapshot
from common.errors import ServiceError

_TITLES = named(
    "console.titles",
    """
SELECT id, title FROM order_items
WHERE order_id = CAST(:order_id AS bigint) AND title IS NOT NULL
""",
)


class Choice(Struct, frozen=True):
    """An action on the order: its button, or the reason why there is none."""

    action: str
    label: str
    values: dict[str, str]
    refusal: str | None = None


class Choices(Struct, frozen=True):
    """What can be done with the order and, by its id, with each item."""

    order: list[Choice]
    items: dict[int, list[Choice]]


def titles(connection: Connection, order_id: int) -> dict[int, str]:
    """Return the titles of an order's items, as they were when they were ordered."""
    rows = connection.execute(_TITLES, {"order_id": order_id})
    return {row.id: row.title for row in rows}


def total_minor(snapshot: Snapshot) -> int:
    """Return the sum of all items that are not cancelled, in minor units."""
    return sum(
        item.quantity * item.price
        for item in snapshot.order.items
        if item.status != ItemStatus.CANCELLED
    )


def choices(snapshot: Snapshot, operator_id: UUID) -> Choices:
    """Return what an operator may try, and what is refused, with its reason."""
    base = {"order": str(snapshot.order.id), "version": str(snapshot.version)}

    def choose(name: str, **values: str) -> Choice:
        return _choice(ACTIONS[name], base | values, snapshot, operator_id)

    return Choices(
        order=[
            choose("add-item"),
            choose("set-metadata", key="?", value="?"),
            choose("approve"),
            choose("delete-order"),
        ],
        items={
            item.id: list(_of_item(item, base, snapshot, operator_id))
            for item in snapshot.order.items
        },
    )


def _of_item(
    item: Item, base: Values, snapshot: Snapshot, operator_id: UUID
) -> Iterator[Choice]:
    own = {**base, "item": str(item.id)}
    for status in (ItemStatus.SHIPPED, ItemStatus.DELIVERED, ItemStatus.CANCELLED):
        if status != item.status:
            values = own | {"status": str(int(status))}
            yield _choice(ACTIONS["move-item"], values, snapshot, operator_id)
    other = item.quantity + (1 if item.quantity < MAX_QUANTITY else -1)
    values = own | {"quantity": str(other)}
    yield _choice(ACTIONS["set-quantity"], values, snapshot, operator_id)
    yield _choice(ACTIONS["remove-item"], own, snapshot, operator_id)


def _choice(
    action: Action, values: dict[str, str], snapshot: Snapshot, operator_id: UUID
) -> Choice:
    refusal = None
    try:
        change = decide(action, values, operator_id, snapshot)
        if change is None and action.name == "approve":
            refusal = "It is approved already."
    except ServiceError as error:
        refusal = error.detail
    return Choice(action.name, title(action, values), values, refusal)
