"""Rules of orders that no request can reach: items without a shop, too few ids."""

import pytest

from common.domain import orders
from common.domain.model import Actor, Ids, ItemStatus, Snapshot
from common.domain.stock import NOT_READ
from tests.support.factories import (
    NOW,
    OWNER,
    STRANGER,
    item,
    line,
    published,
    snapshot,
    steps,
)


def test_more_lines_than_reserved_ids_are_never_written_by_halves() -> None:
    with pytest.raises(ValueError, match="longer"):
        orders.new_order(OWNER, [line(), line()], Ids(4, [11], NOW))


@pytest.mark.parametrize("missing", ["shop_id", "product_id"])
def test_trap_no_shop_is_told_of_items_without_shop_or_product(missing: str) -> None:
    bare = {missing: None}
    created = orders.new_order(OWNER, [line(**bare)], Ids(4, [11], NOW))
    before = snapshot(item(**bare))
    changes = [
        created,
        orders.add_item(snapshot(), item(**bare), Actor(OWNER), NOT_READ),
        orders.set_status(before, 9, ItemStatus.SHIPPED, Actor(STRANGER)),
        orders.remove_item(before, 9, Actor(OWNER)),
    ]
    assert [published(change) for change in changes] == [
        [("order.created", None)],
        [("order.created", None)],
        [],
        [],
    ]


def test_an_item_without_shop_still_has_its_history() -> None:
    change = orders.set_status(
        snapshot(item(shop_id=None)), 9, ItemStatus.SHIPPED, Actor(STRANGER)
    )
    assert change is not None
    assert steps(change) == [
        ("item.moved", 9, ItemStatus.PROCESSING, ItemStatus.SHIPPED)
    ]


@pytest.mark.parametrize("before", [snapshot(), snapshot(item(shop_id=None))])
def test_a_deleted_order_is_announced_whatever_was_in_it(before: Snapshot) -> None:
    assert published(orders.delete_order(before, Actor(OWNER))) == [
        ("order.deleted", None)
    ]
