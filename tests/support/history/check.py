"""Check a whole history: what holds for all answers, then each order by itself.

Orders are independent, so a history is linearizable if each order's is. A page of a
list is taken for one read of each order that it covers, present or absent. Every cart
line, and every line of an order by hand, has a variation of its own: it tells whether
something was ordered twice.

What it cannot see: whether a page shows its orders as of one moment; which of several
cut requests made an order; wrongly refused checkouts; lines that an order from a cart
lacks from the beginning. Approval, metadata and quantities stay out of it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.support.history.model import (
    CHANGES,
    CREATIONS,
    Item,
    Order,
    Version,
    statuses,
)
from tests.support.history.record import NEVER, Answer, Operation
from tests.support.history.search import is_explained, shortest


@dataclass(frozen=True)
class Violation:
    """A rule that a history breaks, and the operations that show it."""

    order_id: int
    rule: str
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class Sighting:
    """An order as an answer shows it."""

    operation: Operation
    order: dict[str, Any]


class History:
    """Operations, and where each order was seen."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = operations
        self.sightings: defaultdict[int, list[Sighting]] = defaultdict(list)
        for operation in operations:
            for order in orders_in(operation):
                self.sightings[order["id"]].append(Sighting(operation, order))
        self._by_hand = {line for each in operations for line in each.lines}
        self._by_user: defaultdict[str, list[Operation]] = defaultdict(list)
        self._by_order: defaultdict[int, list[Operation]] = defaultdict(list)
        for operation in operations:
            if operation.order_id is not None:
                self._by_order[operation.order_id].append(operation)
            else:
                self._by_user[operation.user_id].append(operation)

    def violations(self) -> list[Violation]:
        """Return all that is wrong, in no particular order."""
        found = [*self._of_answers(), *self._of_etags(), *self._of_lines()]
        for order_id in sorted(self.sightings):
            found += self._of_order(order_id)
        return found

    def owner(self, order_id: int) -> str:
        """Return whose order it is: who was told first that it was made."""
        first = self._first(order_id)
        owners = {o["id"]: o["user_id"] for o in orders_in(first)}
        return str(owners[order_id])

    def _first(self, order_id: int) -> Operation:
        """Return what showed an order first."""
        shown = (each.operation for each in self.sightings[order_id])
        return min(shown, key=lambda each: each.returned)

    # What holds for every answer.

    def _of_answers(self) -> Iterator[Violation]:
        for operation in self.operations:
            for order in orders_in(operation):
                if order["user_id"] != operation.user_id:
                    rule = "another user's order is shown"
                    yield Violation(order["id"], rule, (operation,))
                ordered = {item["product_variation"] for item in order["items"]}
                if operation.lines and ordered != set(operation.lines):
                    rule = "an order by hand has other lines than were asked for"
                    yield Violation(order["id"], rule, (operation,))
            ids = [o["id"] for o in orders_in(operation)]
            if ids != sorted(set(ids), reverse=True):
                rule = "a list has an order twice, or not the newest first"
                yield Violation(ids[0], rule, (operation,))
        for order_id, operations in self._by_order.items():
            owner = self.owner(order_id) if order_id in self.sightings else None
            for operation in operations:
                is_strange = operation.user_id != owner and operation.kind != "ship"
                answer = operation.answer
                if owner and is_strange and answer and answer.status != 404:
                    rule = "another user's request is not answered like an absent one"
                    yield Violation(order_id, rule, (operation,))

    def _of_etags(self) -> Iterator[Violation]:
        """Find versions that stand for two contents, and what may never change."""
        contents: dict[tuple[object, ...], tuple[Any, Operation]] = {}
        for order_id, kind, key, content, operation in self._contents():
            first, other = contents.setdefault((kind, key), (content, operation))
            if first != content:
                rule = f"{kind} stands for two contents"
                yield Violation(order_id, rule, (other, operation))

    def _contents(self) -> Iterator[tuple[int, str, object, Any, Operation]]:
        """Return what one key may have only one content of: order, kind, key, it."""
        for order_id, sightings in self.sightings.items():
            for sighting in sightings:
                operation, order = sighting.operation, sighting.order
                fixed = {k: v for k, v in order.items() if k != "items"}
                yield order_id, "an order's id", order_id, fixed, operation
                answer = operation.answer
                if answer and answer.version is not None:
                    key = (order_id, answer.version)
                    yield order_id, "an order's ETag", key, order, operation
                if operation.kind in CREATIONS and answer:
                    yield order_id, "a creation", order_id, answer.order, operation
        for operation, item in self._items():
            order_id = item["order"]
            fixed = {k: v for k, v in item.items() if k != "status"}
            yield order_id, "an item's id", item["id"], fixed, operation
            answer = operation.answer
            is_of_item = operation.item_id is not None
            if is_of_item and answer and answer.version is not None:
                key = (item["id"], answer.version)
                yield order_id, "an item's ETag", key, item, operation

    def _items(self) -> Iterator[tuple[Operation, dict[str, Any]]]:
        for sightings in self.sightings.values():
            for sighting in sightings:
                for item in sighting.order["items"]:
                    yield sighting.operation, item
        for operation in self.operations:
            answer = operation.answer
            if operation.item_id is not None and answer and answer.status == 200:
                yield operation, answer.body

    def _of_lines(self) -> Iterator[Violation]:
        """Find lines that were ordered twice.

        Those of a cart may be, once the first order has been deleted.
        """
        ordered: dict[str, int] = {}
        found: set[tuple[int, int]] = set()
        for later in sorted(self.sightings):
            for line in self._lines(later):
                earlier = ordered.get(line)
                ordered[line] = later
                if earlier is None or (earlier, later) in found:
                    continue
                found.add((earlier, later))
                first, second = self._first(earlier), self._first(later)
                is_free = any(
                    each.kind == "delete"
                    and each.invoked < second.returned
                    and (each.answer is None or each.answer.status == 204)
                    for each in self._by_order[earlier]
                )
                if line in self._by_hand or not is_free:
                    rule = f"its lines are ordered again as order {later}"
                    yield Violation(earlier, rule, (first, second))

    def _lines(self, order_id: int) -> set[str]:
        return {
            item["product_variation"]
            for each in self.sightings[order_id]
            for item in each.order["items"]
        }

    # One order by itself.

    def _of_order(self, order_id: int) -> Iterator[Violation]:
        operations = self.operations_of(order_id)
        born = self._born(order_id)
        if not is_explained(operations, born):
            rule = "nothing that could have happened explains these answers"
            yield Violation(order_id, rule, shortest(operations, born))

    def _born(self, order_id: int) -> Order:
        """Return the order as it was made, with all items that it ever had."""
        sightings = self.sightings[order_id]
        items = sorted({i for each in sightings for i in statuses(each.order)})
        told = [
            each.operation.answer.version
            for each in sightings
            if each.operation.kind in CREATIONS and each.operation.answer
        ]
        version = Version(told[0], is_exact=True) if told and told[0] else Version()
        return Order(version, tuple((item_id, Item()) for item_id in items))

    def operations_of(self, order_id: int) -> list[Operation]:
        """Return what was asked and heard of one order, pages among it."""
        owner = self.owner(order_id)
        found = [
            each
            for each in self._by_order[order_id]
            if (each.user_id == owner or each.kind == "ship") and _counts(each)
        ]
        creations = self._creations(order_id, owner)
        found += creations
        began = min((each.invoked for each in creations), default=0.0)
        for page in self._by_user[owner]:
            if page.kind == "list" and (seen := _listed(page, order_id)):
                is_absent = seen.answer is not None and seen.answer.status == 404
                if not (is_absent and seen.returned < began):
                    found.append(seen)
        return found

    def _creations(self, order_id: int, owner: str) -> list[Operation]:
        """Return what was answered with the order, and what may have made it, cut off.

        Of the latter the first is enough: it may have been carried out at any moment
        at which a later one may have been.
        """
        lines = self._lines(order_id)
        kind = "create" if lines & self._by_hand else "checkout"
        answered, cut = [], []
        for each in self._by_user[owner]:
            if each.kind in CREATIONS and orders_in(each):
                if orders_in(each)[0]["id"] == order_id:
                    answered.append(each)
            elif each.kind == kind and not each.is_known:
                if each.lines and lines.isdisjoint(each.lines):
                    continue
                cut.append(each)
        return answered + sorted(cut, key=lambda each: each.invoked)[:1]


def violations(operations: Sequence[Operation]) -> list[Violation]:
    """Return all that is wrong with a history."""
    return History(operations).violations()


def orders_in(operation: Operation) -> list[dict[str, Any]]:
    """Return the orders that an answer shows."""
    answer = operation.answer
    if answer is None or answer.status not in (200, 201):
        return []
    if operation.kind == "list":
        return list(answer.body)
    return [answer.order] if operation.kind in (*CREATIONS, "read") else []


def _counts(operation: Operation) -> bool:
    """Return whether the operation says or changes anything."""
    return operation.is_known or operation.kind in CHANGES


def _listed(page: Operation, order_id: int) -> Operation | None:
    """Return a page as a read of one order, None if it does not reach to it."""
    if page.answer is None or page.answer.status != 200:
        return None
    shown = {order["id"]: order for order in page.answer.body}
    last = min(shown, default=0) if page.answer.next else 0
    if order_id not in shown and (order_id < last or order_id >= (page.below or NEVER)):
        return None
    answer = Answer(200, shown[order_id]) if order_id in shown else Answer(404)
    return replace(page, kind="listed", order_id=order_id, answer=answer)
