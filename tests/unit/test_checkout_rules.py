"""A cart against stock: prices, the order of the checks, lines that share stock."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from common.domain.cart import CartLine, Variation
from common.domain.checkout import (
    MAX_PRICE_MINOR,
    Problem,
    Review,
    check_line,
    price,
    review,
    selling_price_minor,
)
from common.domain.commands import NewLine
from common.errors import ItemUnavailableError
from tests.support.bodies import VARIATION
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


def minor(text: str) -> int | None:
    """Return the price that the product service spells `text` in its JSON."""
    body = f'{{"id": "{VARIATION}", "amount": 1, "price": {text}}}'
    return selling_price_minor(msgspec.json.decode(body, type=Variation).price, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9.99", 999),
        ("10", 1000),
        ("10.0", 1000),
        ("1E+2", 10_000),
        ('"19.99"', 1999),
        ("0", 0),
        ("-0.0", 0),
        ("0.004", 0),
        ("0.0049999999999999999999999", 0),
        ("0.005", 1),
        ("0.015", 2),  # half even would say 2 as well ...
        ("0.025", 3),  # ... but 2 here
        ("1.005", 101),  # 1.00499999999999989 as a binary float
        ("9.995", 1000),
        ("4.35", 435),  # 434.99999999999994 as a binary float times 100
        ("1e-400", 0),
        ("0.1234567890123456789012345678901", 12),  # 31 digits
        ("12.34500000000000000000000000001", 1235),
        ("9.9949999999999999999999999999999", 999),
    ],
)
def test_price_is_rounded_half_up_from_decimals(text: str, expected: int) -> None:
    assert minor(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "-0.01",
        "-1e-400",
        "1e400",
        "90071992547409.915",  # rounds to 2^53
        "9007199254740991",
    ],
)
def test_what_cannot_be_a_price_is_none(text: str) -> None:
    assert minor(text) is None


def test_the_highest_price_is_what_every_json_reader_can_carry() -> None:
    assert minor("90071992547409.91") == MAX_PRICE_MINOR == 2**53 - 1


@pytest.mark.parametrize(
    ("own", "base", "expected"),
    [
        ("9.99", "10", 999),
        (None, "10", 1000),
        ("0", "10", 0),  # free, not absent
        (None, None, None),
        ("-1", "10", None),
    ],
)
def test_the_variations_own_price_wins_over_the_base_price(
    own: str | None, base: str | None, expected: int | None
) -> None:
    prices = [None if each is None else Decimal(each) for each in (own, base)]
    assert selling_price_minor(*prices) == expected
