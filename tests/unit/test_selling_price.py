"""Selling prices: from the decimal text to minor units, rounded half up."""

from decimal import Decimal

import msgspec
import pytest

from common.checkout import MAX_PRICE_MINOR, selling_price_minor
from common.clients.product import Variation
from tests.support.bodies import VARIATION


def minor(text: str) -> int | None:
    """Answer the price that the product service spells `text` in its JSON."""
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
def test_a_price_is_rounded_half_up_from_its_decimal_text(
    text: str, expected: int
) -> None:
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
