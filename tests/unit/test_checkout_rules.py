"""A cart against stock: the checks in their order, merged lines, what is told."""

from typing import Any
from uuid import UUID

import msgspec
import pytest

from common.checkout import (
    Fix,
    Problem,
    Review,
    check_line,
    check_stock,
    describe,
    price,
    review,
)
from common.clients.product import Product, Variation
from common.clients.shopcart import CartLine
from common.errors import InvalidRequestError, ItemUnavailableError
from common.orders import Line
from common.schemas import MAX_QUANTITY, NewLine
from tests.support.bodies import PRODUCT, SHOP, VARIATION
from tests.support.factories import VARIATION as MUG
from tests.support.factories import cart_line, line, product, variation

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


@pytest.mark.parametrize("fault", BROKEN, ids=lambda fault: fault[0])
def test_each_fault_of_a_line_has_its_reason(fault: Any) -> None:
    found = check_line(broken(fault), 2)
    assert isinstance(found, Problem)
    assert found.reason == fault[0]


@pytest.mark.parametrize("first", range(len(BROKEN)))
def test_the_first_fault_in_the_contracts_order_wins(first: int) -> None:
    found = check_line(broken(*BROKEN[first:]), 2)
    assert isinstance(found, Problem)
    assert found.reason == BROKEN[first][0]


@pytest.mark.parametrize("quantity", [0, -1, None])
def test_a_quantity_below_one_wins_over_everything_else(quantity: int | None) -> None:
    [fix] = review([cart_line(quantity)], {MUG: None}).fixes
    assert (fix.problem.reason, fix.new_quantity) == ("invalid_data", None)


def test_a_variation_that_product_does_not_know_is_not_found() -> None:
    assert check_line(None, 1) == Problem("not_found")


def test_a_line_whose_variation_is_no_uuid_is_not_found() -> None:
    found = fixes(cart_line(product_variation_id="42"))
    assert found == [(7, "not_found", None)]


def test_a_line_without_fault_is_what_product_says_it_is() -> None:
    checked = check_line(variation(amount=2), 2)
    assert checked == line(quantity=2, price=1999)


def test_trap_a_missing_is_active_counts_as_active() -> None:
    answered = msgspec.json.encode(
        {"id": PRODUCT, "shop_id": SHOP, "title": "Mug", "base_price": 10.0}
    )
    sold = msgspec.json.decode(answered, type=Product)
    assert isinstance(check_line(variation(product=sold), 1), Line)
    assert isinstance(check_line(variation(product=product(is_active=True)), 1), Line)


def test_trap_stock_is_amount_whatever_count_and_amount_limit_say() -> None:
    told = {"id": VARIATION, "product_id": PRODUCT, "count": 99, "amount_limit": 99}
    told |= {"product": {"id": PRODUCT, "shop_id": SHOP, "base_price": 1}, "amount": 3}
    answered = msgspec.json.decode(msgspec.json.encode(told), type=Variation)
    assert check_line(answered, 4) == Problem("insufficient_stock", None, 3)


@pytest.mark.parametrize("amount", [0, -1, -(2**70)])
def test_trap_negative_stock_is_out_of_stock_and_never_a_quantity(amount: int) -> None:
    assert fixes(cart_line(1), amount=amount) == [(7, "out_of_stock", None)]


def test_stock_below_the_quantity_lowers_the_line_to_the_stock() -> None:
    assert fixes(cart_line(9), amount=5) == [(7, "insufficient_stock", 5)]


def test_stock_that_is_just_enough_is_enough() -> None:
    assert ordered(cart_line(5), amount=5).lines == [line(quantity=5)]


def test_a_line_is_lowered_to_the_most_that_one_order_may_hold() -> None:
    found = fixes(cart_line(MAX_QUANTITY + 1), amount=1_000_000)
    assert found == [(7, "insufficient_stock", MAX_QUANTITY)]
    assert fixes(cart_line(MAX_QUANTITY), amount=1_000_000) == []


# Several lines.


def test_trap_same_variation_twice_is_summed_against_stock() -> None:
    found = fixes(cart_line(3, id=1), cart_line(4, id=2), amount=5)
    assert found == [(2, "insufficient_stock", 2)]


def test_trap_same_variation_twice_becomes_one_item() -> None:
    upper = cart_line(2, id=2, product_variation_id=VARIATION.upper())
    result = ordered(cart_line(3, id=1), upper, amount=5)
    assert result == Review([], [line(quantity=5)])


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


# What the caller is told of a fix.


def test_a_lowered_line_is_told_with_both_quantities() -> None:
    fix = Fix(cart_line(9), Problem("insufficient_stock", "Mug", 5), 5)
    assert list(describe(fix, is_fixed=True).items()) == [
        ("cart_item_id", 7),
        ("product_variation_id", VARIATION),
        ("product_title", "Mug"),
        ("action", "quantity_updated"),
        ("old_quantity", 9),
        ("new_quantity", 5),
        ("reason", "insufficient_stock"),
        ("fixed", True),
    ]


def test_a_removed_line_is_told_without_quantities() -> None:
    fix = Fix(cart_line(9), Problem("not_found"))
    assert list(describe(fix, is_fixed=False).items()) == [
        ("cart_item_id", 7),
        ("product_variation_id", VARIATION),
        ("product_title", None),
        ("action", "removed"),
        ("reason", "not_found"),
        ("fixed", False),
    ]


@pytest.mark.parametrize("fault", BROKEN[2:], ids=lambda fault: fault[0])
def test_the_title_is_told_as_soon_as_there_is_a_product(fault: Any) -> None:
    found = check_line(broken(fault), 2)
    assert isinstance(found, Problem)
    assert found.title == "Mug"


# Orders without a cart.


def test_the_same_variation_ordered_twice_by_hand_becomes_one_line() -> None:
    found = price([NewLine(MUG, 2), NewLine(MUG, 3)], {MUG: variation(amount=5)})
    assert found == [line(quantity=5)]


def test_an_order_by_hand_for_an_unknown_variation_is_a_bad_request() -> None:
    with pytest.raises(InvalidRequestError, match=VARIATION) as raised:
        price([NewLine(MUG)], {MUG: None})
    assert raised.value.errors == {"product_variation": [f"{VARIATION} does not exist"]}


@pytest.mark.parametrize("fault", BROKEN, ids=lambda fault: fault[0])
def test_an_order_by_hand_for_what_cannot_be_sold_is_a_conflict(fault: Any) -> None:
    with pytest.raises(ItemUnavailableError) as raised:
        price([NewLine(MUG, 2)], {MUG: broken(fault)})
    told = {"reason": fault[0], "product_variation": VARIATION}
    assert raised.value.extra == told


def test_more_than_one_order_may_hold_cannot_be_ordered_in_two_lines() -> None:
    stock = {MUG: variation(amount=20_000)}
    with pytest.raises(ItemUnavailableError):
        price([NewLine(MUG, 6000), NewLine(MUG, 6000)], stock)


@pytest.mark.parametrize("stock", [None, variation(amount=4), variation(amount=-1)])
def test_a_quantity_that_stock_does_not_cover_is_refused(
    stock: Variation | None,
) -> None:
    with pytest.raises(ItemUnavailableError) as raised:
        check_stock(stock, 5)
    assert raised.value.errors == {"quantity": ["stock does not cover it"]}


def test_a_quantity_that_stock_just_covers_is_accepted() -> None:
    check_stock(variation(amount=5), 5)
