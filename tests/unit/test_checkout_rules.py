"""A cart against stock: the order of the checks, and lines that share stock."""

from typing import Any
from uuid import UUID

import pytest

from common.checkout import (
    Problem,
    Review,
    check_line,
    price,
    review,
)
from common.clients.product import Variation
from common.clients.shopcart import CartLine
from common.errors import ItemUnavailableError
from common.schemas import NewLine
from tests.support.factories import VARIATION as MUG
from tests.support.factories import cart_line, product, variation

TEAPOT = UUID("a0000000-0000-4000-8000-000000000002")


def ordered(*cart: CartLine, **stock: Any) -> Review:
    """Review a cart of which every line is about the mug."""
    return review(cart, {MUG: variation(**stock)})


def fixes(*cart: CartLine, **stock: Any) -> list[tuple[int, str, int | None]]:
    return [
        (fix.line.id, fix.problem.reason, fix.new_quantity)
        for fix in ordered(*cart, **stock).fixes
    ]


# The checks of one line.

BROKEN: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # In the contract's order: reason, what is wrong with the variation, its product.
    ("invalid_data", {"product_id": None}, {}),
    ("product_not_found", {"product": None}, {}),
    ("inactive", {}, {"is_active": False}),
    ("invalid_shop", {}, {"shop_id": None}),
    ("invalid_data", {"price": None}, {"base_price": None}),
    ("out_of_stock", {"amount": 0}, {}),
    ("insufficient_stock", {"amount": 1}, {}),
]


def broken(*faults: tuple[str, dict[str, Any], dict[str, Any]]) -> Variation:
    of_variation: dict[str, Any] = {"product": product()}
    of_product: dict[str, Any] = {}
    for _, about_variation, about_product in reversed(faults):
        of_variation |= about_variation
        of_product |= about_product
    if of_variation["product"] is not None:
        of_variation["product"] = product(**of_product)
    return variation(**of_variation)


@pytest.mark.parametrize("first", range(len(BROKEN)))
def test_the_first_fault_in_the_contracts_order_wins(first: int) -> None:
    found = check_line(broken(*BROKEN[first:]), 2)
    assert isinstance(found, Problem)
    assert found.reason == BROKEN[first][0]


# Several lines.


def test_a_line_that_finds_nothing_left_is_removed_not_set_to_zero() -> None:
    found = fixes(cart_line(5, id=1), cart_line(1, id=2), amount=5)
    assert found == [(2, "insufficient_stock", None)]


def test_a_lowered_line_takes_its_share_from_the_next_one() -> None:
    found = fixes(cart_line(9, id=1), cart_line(1, id=2), amount=5)
    assert found == [(1, "insufficient_stock", 5), (2, "insufficient_stock", None)]


def test_a_broken_line_takes_nothing_from_the_next_one() -> None:
    found = fixes(cart_line(-5, id=1), cart_line(5, id=2), amount=5)
    assert found == [(1, "invalid_data", None)]


def test_the_cap_holds_for_the_sum_of_lines_too() -> None:
    cart = [cart_line(6000, id=1), cart_line(6000, id=2)]
    assert fixes(*cart, amount=20_000) == [(2, "insufficient_stock", 4000)]


def test_lines_keep_the_order_of_their_first_appearance() -> None:
    cart = [
        cart_line(1, id=3, product_variation_id=str(TEAPOT)),
        cart_line(1, id=2),
        cart_line(1, id=1, product_variation_id=str(TEAPOT)),
    ]
    found = review(cart, {MUG: variation(), TEAPOT: variation(id=TEAPOT)})
    assert [each.product_variation for each in found.lines] == [TEAPOT, MUG]


def test_stock_of_one_variation_is_not_lent_to_another() -> None:
    cart = [cart_line(5, id=1), cart_line(5, id=2, product_variation_id=str(TEAPOT))]
    stock = {MUG: variation(amount=5), TEAPOT: variation(id=TEAPOT, amount=5)}
    assert review(cart, stock).fixes == []


@pytest.mark.parametrize("amount", [-3, 0, 1, 4, 7, 12, 20_000])
@pytest.mark.parametrize("quantities", [(1, 1), (3, 4), (9, 2, 0), (6000, 6000)])
def test_a_repaired_cart_passes(quantities: tuple[int, ...], amount: int) -> None:
    cart = [cart_line(each, id=id_) for id_, each in enumerate(quantities)]
    new_quantities = {
        fix.line.id: fix.new_quantity for fix in ordered(*cart, amount=amount).fixes
    }
    repaired = [
        cart_line(quantity, id=each.id)
        for each in cart
        if (quantity := new_quantities.get(each.id, each.quantity)) is not None
    ]
    assert fixes(*repaired, amount=amount) == []


def test_more_than_one_order_may_hold_cannot_be_ordered_in_two_lines() -> None:
    stock = {MUG: variation(amount=20_000)}
    with pytest.raises(ItemUnavailableError):
        price([NewLine(MUG, 6000), NewLine(MUG, 6000)], stock)
