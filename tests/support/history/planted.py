"""Faults planted in a history that was recorded, in each place that has room for one.

Each function yields an order's id and the history in which something is wrong with it.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

from tests.support.history.check import History, orders_in
from tests.support.history.model import DELIVERED, PROCESSING, SHIPPED
from tests.support.history.record import Answer, Operation

Planted = Iterator[tuple[int, list[Operation]]]
UNHEARD_OF = 1_000_000_000  # added to ids and versions, it makes such as nobody has


def lost_creation(history: History) -> Planted:
    """An order that nobody deleted is missing from the last list."""
    for page in _last_pages(history):
        for order in orders_in(page):
            if not _deletions(history, order["id"]):
                kept = [each for each in _body(page) if each["id"] != order["id"]]
                yield order["id"], _instead(history, page, kept)


def lost_write(history: History) -> Planted:
    """An item that was moved is shown in the last list as if it never had been."""
    moved = {
        each.item_id
        for each in history.operations
        if each.kind in ("ship", "cancel") and _status(each) not in (None, PROCESSING)
    }
    for page in _last_pages(history):
        for row, order in enumerate(orders_in(page)):
            for column, item in enumerate(order["items"]):
                if item["id"] in moved:
                    body = _body(page)
                    body[row]["items"][column]["status"] = PROCESSING
                    yield order["id"], _instead(history, page, body)


def doubled_creation(history: History) -> Planted:
    """A creation that is sent again makes another order."""
    for each in history.operations:
        for order in orders_in(each) if each.answer and each.answer.is_replayed else ():
            if not _deletions(history, order["id"]):
                body = _body(each)
                made = body.get("order", body) if "items_count" in body else body
                made["id"] += UNHEARD_OF
                for item in made["items"]:
                    item["id"] += UNHEARD_OF
                    item["order"] += UNHEARD_OF
                yield order["id"], _instead(history, each, body, is_replayed=False)


def lost_line(history: History) -> Planted:
    """A creation by hand is answered without its last item."""
    for each in history.operations:
        for order in orders_in(each) if each.kind == "create" else ():
            body = _body(each) | {"items": order["items"][:-1]}
            yield order["id"], _instead(history, each, body)


def stale_read(history: History) -> Planted:
    """An order is read as it was before somebody has read it changed."""
    for old, _ in _changed_reads(history):
        yield _id(old), _again(history, old)


def status_going_back(history: History) -> Planted:
    """An item that was Delivered is Shipped, in a version of its own."""
    for each in history.operations:
        if each.kind == "read item" and _status(each) == DELIVERED:
            body = _body(each) | {"status": SHIPPED}
            yield _id(each), _again(history, each, body=body, is_newer=True)


def resurrected_order(history: History) -> Planted:
    """An order that was deleted is read again."""
    deleted = {
        each.order_id
        for each in history.operations
        if each.kind == "delete" and each.answer and each.answer.status == 204
    }
    for each in history.operations:
        if each.kind == "read" and each.order_id in deleted and orders_in(each):
            yield _id(each), _again(history, each)


def vanished_order(history: History) -> Planted:
    """An order that nobody deleted is not found."""
    for each in history.operations:
        is_read = each.kind == "read" and orders_in(each)
        if is_read and not _deletions(history, _id(each)):
            yield _id(each), _again(history, replace(each, answer=Answer(404)))


def another_users_order(history: History) -> Planted:
    """A list begins with an order of somebody else."""
    pages = list(_last_pages(history))
    for page, other in pairwise(pages):
        for first in orders_in(other)[:1]:
            yield first["id"], _instead(history, page, [first])


def etag_reused(history: History) -> Planted:
    """A changed order keeps its version."""
    for old, new in _changed_reads(history):
        assert old.answer
        body = _body(new)
        yield _id(old), _instead(history, new, body, version=old.answer.version)


def order_twice_in_a_list(history: History) -> Planted:
    """A list has its last order twice."""
    for page in _last_pages(history):
        if orders_in(page):
            last = _body(page)[-1]
            yield _body(page)[0]["id"], _instead(history, page, [*_body(page), last])


def oldest_first(history: History) -> Planted:
    """A list has its orders the wrong way round."""
    for page in _last_pages(history):
        if len(orders_in(page)) > 1:
            body = _body(page)[::-1]
            yield body[0]["id"], _instead(history, page, body)


FAULTS = (
    lost_creation,
    lost_write,
    doubled_creation,
    lost_line,
    stale_read,
    status_going_back,
    resurrected_order,
    vanished_order,
    another_users_order,
    etag_reused,
    order_twice_in_a_list,
    oldest_first,
)


def _last_pages(history: History) -> Iterator[Operation]:
    return (each for each in history.operations if each.client == "last")


def _changed_reads(history: History) -> Iterator[tuple[Operation, Operation]]:
    """Yield reads of an order of which the second came later, and saw it changed."""
    earlier: dict[int, Operation] = {}
    for each in history.operations:
        if each.kind == "read" and orders_in(each):
            before = earlier.setdefault(_id(each), each)
            if before.returned < each.invoked and _statuses(before) != _statuses(each):
                yield before, each


def _statuses(read: Operation) -> list[int]:
    [order] = orders_in(read)
    return [item["status"] for item in order["items"]]


def _deletions(history: History, order_id: int) -> list[Operation]:
    """Return the deletions of an order that may have been carried out."""
    return [
        each
        for each in history.operations
        if (each.kind, each.order_id) == ("delete", order_id)
        and (each.answer is None or each.answer.status == 204)
    ]


def _id(operation: Operation) -> int:
    assert operation.order_id
    return operation.order_id


def _body(operation: Operation) -> Any:
    assert operation.answer
    return copy.deepcopy(operation.answer.body)


def _status(operation: Operation) -> int | None:
    """Return the status of the item that the answer shows, if it does."""
    answer = operation.answer
    is_shown = answer is not None and answer.status == 200
    return int(_body(operation)["status"]) if is_shown else None


def _instead(
    history: History, operation: Operation, body: Any, **others: Any
) -> list[Operation]:
    """Return the history with another body in one answer."""
    assert operation.answer
    answer = replace(operation.answer, body=body, **others)
    other = replace(operation, answer=answer)
    return [other if each is operation else each for each in history.operations]


def _again(
    history: History,
    operation: Operation,
    body: Any = None,
    *,
    is_newer: bool = False,
) -> list[Operation]:
    """Return the history with the operation once more, after all others."""
    answer = operation.answer
    assert answer
    if body is not None:
        answer = replace(answer, body=body)
    if is_newer:
        answer = replace(answer, version=(answer.version or 0) + UNHEARD_OF)
    ended = max(each.returned for each in history.operations if each.is_known)
    added = replace(
        operation, client="planted", invoked=ended, returned=ended + 1, answer=answer
    )
    return [*history.operations, added]
