"""One rule on stock for every way to order something: cart, by hand, item, more of it.

Each way is asked for so many more of a variation, in one line or in several.
"""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import pytest

from common.domain import orders
from common.domain.cart import Variation
from common.domain.checkout import price, review
from common.domain.commands import ItemPatch, NewItem, NewLine
from common.domain.model import MAX_QUANTITY, Actor
from common.domain.stock import NOT_READ, Stock
from common.errors import (
    BusyError,
    InvalidRequestError,
    ItemUnavailableError,
    ServiceError,
)
from tests.support.factories import OWNER, VARIATION, cart_line, item, snapshot
from tests.support.factories import product as make_product
from tests.support.factories import variation as make_variation

Variations = Mapping[UUID, Variation | None]
OWNED = 3  # how many the order has already, where there is one


def from_cart(variations: Variations, wanted: int) -> str | None:
    cart = [cart_line(1, id=1), cart_line(wanted - 1, id=2)]
    found = review(cart if wanted > 1 else cart[:1], variations)
    return found.fixes[-1].problem.reason if found.fixes else None


def refusal(error: ServiceError) -> str:
    if isinstance(error, InvalidRequestError):
        assert error.errors
        assert {path.rpartition(".")[2] for path in error.errors} == {
            "product_variation"
        }
        return "not_found"
    assert isinstance(error, ItemUnavailableError)
    assert error.extra.keys() == {"reason", "product_variation"}
    assert error.extra["product_variation"] == str(VARIATION)
    return str(error.extra["reason"])


def by_hand(variations: Variations, wanted: int) -> str | None:
    lines = [NewLine(VARIATION, 1)]
    lines += [NewLine(VARIATION, wanted - 1)] if wanted > 1 else []
    return reason_of(lambda: price(lines, variations))


def as_item(variations: Variations, wanted: int) -> str | None:
    return reason_of(lambda: price([NewItem(4, VARIATION, wanted)], variations))


def by_raise(variations: Variations, wanted: int) -> str | None:
    before = snapshot(item(id=1, quantity=OWNED), item(id=2, quantity=7))
    patch = ItemPatch(quantity=OWNED + wanted)
    actor, stock = Actor(OWNER), Stock(variations)
    return reason_of(lambda: orders.patch_item(before, 1, patch, actor, stock))


def reason_of(act: Callable[[], object]) -> str | None:
    """Return why it is refused, None if it is not."""
    try:
        act()
    except ServiceError as error:
        return refusal(error)
    return None


entrances = pytest.mark.parametrize(
    "entrance", [from_cart, by_hand, as_item, by_raise], ids=lambda each: each.__name__
)


@entrances
@pytest.mark.parametrize(
    ("amount", "wanted", "reason"),
    [
        (5, 5, None),
        (5, 6, "insufficient_stock"),
        (2, 2, None),  # 3 of 5 are ordered, and 2 are left: 3 to 5 is fine …
        (2, 3, "insufficient_stock"),  # … and 3 to 6 is not
        (1, 2, "insufficient_stock"),  # a line of 1 would have been fine
        (0, 1, "out_of_stock"),
        (-3, 1, "out_of_stock"),
    ],
)
def test_the_increase_must_be_there_and_what_the_order_has_is_its_own(
    entrance: Callable[[Variations, int], str | None],
    amount: int,
    wanted: int,
    reason: str | None,
) -> None:
    variations = {VARIATION: make_variation(amount=amount)}
    assert entrance(variations, wanted) == reason


@entrances
@pytest.mark.parametrize(
    ("of_variation", "of_product", "reason"),
    [
        ({"product_id": None}, {}, "invalid_data"),
        ({"product": None}, {}, "product_not_found"),
        ({}, {"is_active": False}, "inactive"),
        ({}, {"shop_id": None}, "invalid_shop"),
        ({}, {"base_price": None}, "invalid_data"),
    ],
)
def test_no_more_of_what_is_not_sold(
    entrance: Callable[[Variations, int], str | None],
    of_variation: dict[str, Any],
    of_product: dict[str, Any],
    reason: str,
) -> None:
    changes = {"product": make_product(**of_product)} | of_variation
    assert entrance({VARIATION: make_variation(**changes)}, 1) == reason


@entrances
def test_no_more_of_what_is_gone(
    entrance: Callable[[Variations, int], str | None],
) -> None:
    assert entrance({VARIATION: None}, 1) == "not_found"


@pytest.mark.parametrize("entrance", [from_cart, by_hand])
def test_lines_of_one_variation_are_one_item_and_have_its_limit(
    entrance: Callable[[Variations, int], str | None],
) -> None:
    variations = {VARIATION: make_variation(amount=2 * MAX_QUANTITY)}
    assert entrance(variations, MAX_QUANTITY) is None
    assert entrance(variations, MAX_QUANTITY + 1) == "insufficient_stock"


@pytest.mark.parametrize("less", [0, 1, 2])
@pytest.mark.parametrize(
    "variations", [{}, {VARIATION: None}, {VARIATION: make_variation(amount=-1)}]
)
def test_no_increase_needs_no_stock(variations: Variations, less: int) -> None:
    assert by_raise(variations, -less) is None


def test_increase_that_came_up_after_stock_was_read_is_not_granted_unseen() -> None:
    before = snapshot(item(id=1, quantity=OWNED))
    patch = ItemPatch(quantity=OWNED + 1)
    with pytest.raises(BusyError):
        orders.patch_item(before, 1, patch, Actor(OWNER), NOT_READ)
