"""What one order is and how it answers, if requests come one after the other.

A version is known only once an answer has told it: until then all that is known of it
is that it is greater than the one before, as the contract has it.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tests.support.history.record import Answer, Operation

PROCESSING, SHIPPED, DELIVERED, CANCELLED = 1, 2, 3, 4
MOVES = {PROCESSING: (2, 3, 4), SHIPPED: (3, 4), DELIVERED: (), CANCELLED: ()}


class Version(NamedTuple):
    """The last version that was told; nothing has changed since if `is_exact`."""

    number: int = 0
    is_exact: bool = False

    def changed(self) -> "Version":
        return Version(self.number)

    def fits(self, if_match: int | None) -> bool:
        """Return whether If-Match holds; nobody can have heard of a newer one."""
        return if_match is None or (self.is_exact and self.number == if_match)

    def told(self, number: int) -> "Version | None":
        """Return the version after an answer that names it, None if it cannot."""
        fits = number == self.number if self.is_exact else number > self.number
        return Version(number, is_exact=True) if fits else None


class Item(NamedTuple):
    """An item; whether its owner has cancelled it decides what its shop is told."""

    status: int = PROCESSING
    is_taken_back: bool = False
    version: Version = Version()


class Order(NamedTuple):
    """An order that exists; a deleted item is missing."""

    version: Version
    items: tuple[tuple[int, Item], ...]

    def item(self, item_id: int | None) -> Item | None:
        return dict(self.items).get(item_id or 0)

    def with_item(self, item_id: int, item: Item | None) -> "Order":
        """Return the order with one item changed, or deleted."""
        pairs = [(i, item if i == item_id else kept) for i, kept in self.items]
        items = tuple((i, kept) for i, kept in pairs if kept is not None)
        return Order(self.version.changed(), items)


State = Order | str
ABSENT, DELETED = "absent", "deleted"
# A state after a request, and what it is answered; a status, or several that would do.
Outcome = tuple[State, int]


def step(state: State, operation: Operation, born: Order) -> State | None:
    """Return the state after a request; None if its answer would be another one.

    Without an answer it is the state after the request has been carried out.
    """
    after, status = RULES[operation.kind](state, operation, born)
    answer = operation.answer
    if answer is None:
        return after
    if operation.kind in CREATIONS:
        return after if _is_fit_creation(state, after, operation, answer) else None
    if answer.status != status:
        return None
    if operation.kind in _OF_ORDERS and isinstance(after, Order):
        return _told_order(after, answer)
    if operation.kind in _OF_ITEMS and status == 200:
        return _told_item(after, operation.item_id or 0, answer)
    return after


def _create(state: State, operation: Operation, born: Order) -> Outcome:
    del operation
    return (born, 201) if state == ABSENT else (state, 200)


def _is_fit_creation(
    state: State, after: State, operation: Operation, answer: Answer
) -> bool:
    if state == ABSENT:
        return not answer.is_replayed and isinstance(after, Order)
    # The cart alone is remembered for as long as its order exists.
    return answer.is_replayed and (state != DELETED or bool(operation.key))


def _read(state: State, operation: Operation, born: Order) -> Outcome:
    del born
    if not isinstance(state, Order):
        return state, 404
    condition = operation.if_none_match
    return state, 304 if condition and state.version.fits(condition) else 200


def _read_item(state: State, operation: Operation, born: Order) -> Outcome:
    del born
    found = isinstance(state, Order) and state.item(operation.item_id)
    return state, 200 if found else 404


def _delete(state: State, operation: Operation, born: Order) -> Outcome:
    del born
    if not isinstance(state, Order):
        return state, 404
    if not state.version.fits(operation.if_match):
        return state, 412
    if any(item.status in (SHIPPED, DELIVERED) for _, item in state.items):
        return state, 409
    return DELETED, 204


def _cancel(state: State, operation: Operation, born: Order) -> Outcome:
    del born
    item = state.item(operation.item_id) if isinstance(state, Order) else None
    if item is None or not isinstance(state, Order):
        return state, 404
    if not item.version.fits(operation.if_match):
        return state, 412
    if item.status == CANCELLED:
        return state, 200
    if item.status != PROCESSING:
        return state, 409
    cancelled = Item(CANCELLED, is_taken_back=True, version=item.version.changed())
    return state.with_item(operation.item_id or 0, cancelled), 200


def _remove(state: State, operation: Operation, born: Order) -> Outcome:
    del born
    item = state.item(operation.item_id) if isinstance(state, Order) else None
    if item is None or not isinstance(state, Order):
        return state, 404
    if not item.version.fits(operation.if_match):
        return state, 412
    if item.status != PROCESSING:
        return state, 409
    return state.with_item(operation.item_id or 0, None), 204


def _ship(state: State, operation: Operation, born: Order) -> Outcome:
    del born
    if state == ABSENT:
        return state, 404
    item = state.item(operation.item_id) if isinstance(state, Order) else None
    if item is None or not isinstance(state, Order):  # the shop's row is to follow
        return state, 412 if operation.if_match else 200
    if not item.version.fits(operation.if_match):
        return state, 412
    status = operation.status or 0
    if status == item.status or item.is_taken_back:
        return state, 200
    if status not in MOVES[item.status]:
        return state, 409
    moved = Item(status, version=item.version.changed())
    return state.with_item(operation.item_id or 0, moved), 200


RULES: Mapping[str, Callable[[State, Operation, Order], Outcome]] = {
    "checkout": _create,
    "create": _create,
    "read": _read,
    "listed": _read,
    "read item": _read_item,
    "delete": _delete,
    "cancel": _cancel,
    "remove": _remove,
    "ship": _ship,
}
CREATIONS = ("checkout", "create")
_OF_ORDERS = ("read", "listed")
_OF_ITEMS = ("read item", "cancel", "ship")
CHANGES = (*CREATIONS, "delete", "cancel", "remove", "ship")


def statuses(order: Mapping[str, Any]) -> dict[int, int]:
    """Return the status of each item of an order in an answer."""
    return {item["id"]: item["status"] for item in order["items"]}


def _told_order(order: Order, answer: Answer) -> State | None:
    if answer.status == 200 and statuses(answer.body) != {
        item_id: item.status for item_id, item in order.items
    }:
        return None
    if answer.version is None:
        return order
    version = order.version.told(answer.version)
    return None if version is None else order._replace(version=version)


def _told_item(state: State, item_id: int, answer: Answer) -> State | None:
    item = state.item(item_id) if isinstance(state, Order) else None
    if item is None or not isinstance(state, Order):
        return state if answer.body["status"] == CANCELLED else None
    if answer.body["status"] != item.status or answer.version is None:
        return None
    version = item.version.told(answer.version)
    if version is None:
        return None
    items = dict(state.items) | {item_id: item._replace(version=version)}
    return state._replace(items=tuple(items.items()))
