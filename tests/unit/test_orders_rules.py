"""What may happen to an order and its items, and the history and events it brings."""

import json
from itertools import product
from typing import Any

import pytest

from common import orders
from common.errors import (
    ForbiddenError,
    IllegalTransitionError,
    InvalidRequestError,
    ItemNotOpenError,
    NotFoundError,
    OrderApprovedError,
    OrderShippedError,
)
from common.schemas import (
    CANCELLED,
    DELIVERED,
    PROCESSING,
    SHIPPED,
    UNSET,
    Ids,
    ItemPatch,
    Status,
    decode,
)
from common.store import Snapshot
from tests.support.factories import (
    NOW,
    OWNER,
    STRANGER,
    item,
    line,
    order,
    snapshot,
    steps,
    told,
)

STATUSES = (PROCESSING, SHIPPED, DELIVERED, CANCELLED)
# The contract, by hand: what the shop may do, and what the owner may.
SHOP_MAY = {(1, 2), (1, 3), (1, 4), (2, 3), (2, 4)}
OWNER_MAY = {(1, 4)}


def patch(**fields: Any) -> ItemPatch:
    return decode(json.dumps(fields).encode(), ItemPatch)


# Transitions.


@pytest.mark.parametrize(("now", "wanted"), list(product(STATUSES, STATUSES)))
def test_a_shop_moves_an_item_only_as_the_contract_allows(
    now: Status, wanted: Status
) -> None:
    before = snapshot(now)
    if now == wanted:
        assert orders.set_status(before, 1, wanted, STRANGER) is None
    elif (now, wanted) in SHOP_MAY:
        change = orders.set_status(before, 1, wanted, STRANGER)
        assert change is not None
        assert [each.status for each in change.order.items] == [wanted]
    else:
        with pytest.raises(IllegalTransitionError):
            orders.set_status(before, 1, wanted, STRANGER)


@pytest.mark.parametrize("now", STATUSES)
def test_an_owner_cancels_only_what_is_processing(now: Status) -> None:
    before = snapshot(now)
    if now == CANCELLED:
        assert orders.cancel_item(before, 1, OWNER) is None
    elif (now, CANCELLED) in OWNER_MAY:
        change = orders.cancel_item(before, 1, OWNER)
        assert change is not None
        assert [each.status for each in change.changed] == [CANCELLED]
    else:
        with pytest.raises(IllegalTransitionError):
            orders.cancel_item(before, 1, OWNER)


def test_a_refused_transition_names_both_statuses() -> None:
    with pytest.raises(IllegalTransitionError, match="Delivered cannot become Shipp"):
        orders.set_status(snapshot(DELIVERED), 1, SHIPPED, STRANGER)


def test_a_status_change_is_one_step_one_event_and_nothing_else() -> None:
    change = orders.set_status(snapshot(PROCESSING, SHIPPED), 2, DELIVERED, STRANGER)
    assert change is not None
    assert change.changed == [item(id=2, status=DELIVERED)]
    assert steps(change) == [("item.moved", 2, SHIPPED, DELIVERED)]
    assert told(change) == [("order.item.status.updated", "2")]
    assert (change.added, change.removed, change.is_deletion) == ([], [], False)
    assert (change.version, change.at, change.actor) == (7, NOW, STRANGER)


def test_a_status_change_leaves_the_snapshot_as_it_was() -> None:
    before = snapshot(PROCESSING)
    orders.set_status(before, 1, SHIPPED, STRANGER)
    assert before == snapshot(PROCESSING)


@pytest.mark.parametrize(
    ("others", "status", "complete"),
    [
        ((), DELIVERED, True),
        ((), CANCELLED, True),
        ((), SHIPPED, False),
        ((DELIVERED, CANCELLED), CANCELLED, True),
        ((DELIVERED, SHIPPED), CANCELLED, False),
        ((PROCESSING,), DELIVERED, False),
    ],
)
def test_an_order_is_complete_once_every_item_is_final(
    others: tuple[int, ...], status: Status, complete: object
) -> None:
    change = orders.set_status(snapshot(PROCESSING, *others), 1, status, STRANGER)
    assert change is not None
    assert change.is_complete is complete


def test_an_order_without_items_is_never_complete() -> None:
    assert orders.is_complete([]) is False


ON_ONE_ITEM: list[Any] = [
    lambda before: orders.set_status(before, 99, SHIPPED, OWNER),
    lambda before: orders.cancel_item(before, 99, OWNER),
    lambda before: orders.set_quantity(before, 99, 1, OWNER),
    lambda before: orders.remove_item(before, 99, OWNER),
    lambda before: orders.patch_item(before, 99, ItemPatch(), OWNER),
]


@pytest.mark.parametrize("change", ON_ONE_ITEM)
def test_an_item_that_is_not_there_is_not_found(change: Any) -> None:
    with pytest.raises(NotFoundError):
        change(snapshot(PROCESSING))


# A new order.

RESERVED = Ids(4, [11, 12, 13], NOW)


def test_an_order_from_a_cart_announces_its_items_before_itself() -> None:
    change = orders.new_order(OWNER, [line(), line()], RESERVED, cart_id=42)
    assert told(change) == [
        ("order.item.created", "11"),
        ("order.item.created", "12"),
        ("order.created", None),
    ]


def test_an_order_by_hand_announces_its_items_only() -> None:
    change = orders.new_order(OWNER, [line(), line()], RESERVED)
    assert told(change) == [("order.item.created", "11"), ("order.item.created", "12")]


def test_a_new_order_is_what_was_ordered_under_the_reserved_ids() -> None:
    lines = [line(quantity=3), line(price=0)]
    change = orders.new_order(OWNER, lines, RESERVED, metadata={"note": "x"})
    items = [item(id=11, quantity=3), item(id=12, price=0)]
    assert change.order == order(*items, created_at=NOW, metadata={"note": "x"})
    assert change.added == items
    assert (change.version, change.at, change.actor) == (0, NOW, OWNER)
    assert change.is_complete is False


def test_a_new_orders_history_says_that_each_item_was_created() -> None:
    change = orders.new_order(OWNER, [line(), line()], RESERVED, cart_id=42)
    created = [("item.created", id_, None, PROCESSING) for id_ in (11, 12)]
    assert steps(change) == created


def test_more_lines_than_reserved_ids_are_never_written_by_halves() -> None:
    with pytest.raises(ValueError, match="longer"):
        orders.new_order(OWNER, [line(), line()], Ids(4, [11], NOW))


# Items without a shop.


@pytest.mark.parametrize("missing", ["shop_id", "product_id"])
def test_trap_items_without_shop_or_product_publish_nothing(missing: str) -> None:
    bare = {missing: None}
    created = orders.new_order(OWNER, [line(**bare)], Ids(4, [11], NOW))
    before = snapshot(item(**bare))
    changes = [
        created,
        orders.add_item(snapshot(), item(**bare), OWNER),
        orders.set_status(before, 9, SHIPPED, STRANGER),
        orders.remove_item(before, 9, OWNER),
    ]
    assert [told(change) for change in changes] == [[]] * len(changes)


def test_an_item_without_shop_still_has_its_history() -> None:
    change = orders.set_status(snapshot(item(shop_id=None)), 9, SHIPPED, STRANGER)
    assert change is not None
    assert steps(change) == [("item.moved", 9, PROCESSING, SHIPPED)]


# Adding and removing items.


def test_an_added_item_is_announced_and_keeps_the_order_open() -> None:
    added = item(id=10)
    change = orders.add_item(snapshot(DELIVERED), added, OWNER)
    assert change.added == [added]
    assert change.order.items == [item(id=1, status=DELIVERED), added]
    assert steps(change) == [("item.created", 10, None, PROCESSING)]
    assert told(change) == [("order.item.created", "10")]
    assert change.is_complete is False


def test_nothing_is_added_to_an_approved_order() -> None:
    with pytest.raises(OrderApprovedError):
        orders.add_item(snapshot(DELIVERED, is_approved=True), item(id=10), OWNER)


def test_a_removed_item_is_announced_as_cancelled() -> None:
    change = orders.remove_item(snapshot(PROCESSING, PROCESSING), 1, OWNER)
    assert change.removed == [1]
    assert change.order.items == [item(id=2)]
    assert change.changed == []
    assert steps(change) == [("item.removed", 1, PROCESSING, CANCELLED)]
    [event] = change.events
    body = json.loads(event.body)
    assert (body["status"], body["previous_status"]) == (CANCELLED, PROCESSING)


@pytest.mark.parametrize(
    ("others", "complete"),
    [((DELIVERED, CANCELLED), True), ((SHIPPED,), False), ((), False)],
)
def test_deleting_the_last_open_item_completes_the_order(
    others: tuple[int, ...], complete: object
) -> None:
    change = orders.remove_item(snapshot(PROCESSING, *others), 1, OWNER)
    assert change.is_complete is complete


@pytest.mark.parametrize("status", [SHIPPED, DELIVERED, CANCELLED])
@pytest.mark.parametrize(
    "change",
    [
        lambda before: orders.remove_item(before, 1, OWNER),
        lambda before: orders.set_quantity(before, 1, 3, OWNER),
        lambda before: orders.set_quantity(before, 1, 2, OWNER),
    ],
    ids=["delete", "other quantity", "same quantity"],
)
def test_an_item_that_is_not_processing_any_more_stays(
    change: Any, status: int
) -> None:
    with pytest.raises(ItemNotOpenError):
        change(snapshot(status))


# An owner's patch.


def test_a_new_quantity_changes_the_item_and_tells_nobody() -> None:
    change = orders.patch_item(snapshot(PROCESSING), 1, patch(quantity=3), OWNER)
    assert change is not None
    assert change.changed == change.order.items == [item(id=1, quantity=3)]
    assert (change.history[0].to_quantity, change.events) == (3, [])


@pytest.mark.parametrize("asked", [{}, {"quantity": 2}, {"unknown": 1}])
def test_a_patch_that_changes_nothing_is_no_change(asked: dict[str, int]) -> None:
    assert orders.patch_item(snapshot(PROCESSING), 1, patch(**asked), OWNER) is None


def test_an_owners_cancellation_entails_all_that_a_status_change_does() -> None:
    change = orders.patch_item(snapshot(PROCESSING), 1, patch(status=4), OWNER)
    assert change is not None
    assert steps(change) == [("item.moved", 1, PROCESSING, CANCELLED)]
    assert told(change) == [("order.item.status.updated", "1")]
    assert (change.is_complete, change.actor) == (True, OWNER)


@pytest.mark.parametrize(
    "field", ["order", "product_variation", "product_id", "shop_id", "price"]
)
@pytest.mark.parametrize("value", [None, 1, "x"])
def test_an_owner_cannot_touch_what_is_not_theirs(field: str, value: object) -> None:
    with pytest.raises(ForbiddenError, match=rf"^{field}:"):
        orders.check_item_patch(patch(**{field: value}))


@pytest.mark.parametrize("status", [PROCESSING, SHIPPED, DELIVERED])
def test_an_owner_can_ask_for_no_status_but_cancelled(status: int) -> None:
    with pytest.raises(ForbiddenError, match=r"^status:"):
        orders.check_item_patch(patch(status=status))


@pytest.mark.parametrize("asked", [{}, {"quantity": 1}, {"status": 4}, {"id": 9}])
def test_an_owner_may_ask_for_a_quantity_or_a_cancellation(
    asked: dict[str, int],
) -> None:
    orders.check_item_patch(patch(**asked))


def test_a_quantity_and_a_status_at_once_are_refused() -> None:
    with pytest.raises(InvalidRequestError) as raised:
        orders.check_item_patch(patch(quantity=1, status=4))
    assert raised.value.errors == {"quantity": ["cannot be changed with a status"]}


def test_only_oneself_can_be_named_as_the_owner() -> None:
    for named in (UNSET, None, OWNER):
        orders.check_owner(named, OWNER)
    with pytest.raises(ForbiddenError):
        orders.check_owner(STRANGER, OWNER)


# Deleting an order.


def test_a_deleted_order_cancels_its_open_items_then_says_goodbye() -> None:
    change = orders.delete_order(snapshot(PROCESSING, CANCELLED, PROCESSING), OWNER)
    assert change.is_deletion
    assert steps(change) == [("item.moved", id_, 1, CANCELLED) for id_ in (1, 3)]
    assert told(change) == [
        ("order.item.status.updated", "1"),
        ("order.item.status.updated", "3"),
        ("order.deleted", None),
    ]


@pytest.mark.parametrize("before", [snapshot(), snapshot(item(shop_id=None))])
def test_a_deleted_order_is_announced_whatever_was_in_it(before: Snapshot) -> None:
    assert told(orders.delete_order(before, OWNER)) == [("order.deleted", None)]


@pytest.mark.parametrize("status", [SHIPPED, DELIVERED])
def test_an_order_of_which_something_has_shipped_stays(status: int) -> None:
    with pytest.raises(OrderShippedError):
        orders.delete_order(snapshot(PROCESSING, status), OWNER)


def test_an_approved_order_stays_also_when_all_was_cancelled() -> None:
    with pytest.raises(OrderApprovedError):
        orders.delete_order(snapshot(CANCELLED, is_approved=True), OWNER)
