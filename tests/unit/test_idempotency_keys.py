"""Idempotency keys: what makes two requests the same."""

from typing import Any

import pytest

from common.store.idempotency import by_cart, by_header
from tests.support.bodies import VARIATION
from tests.support.factories import OWNER, STRANGER

PATH = "/api/orders"
LINES = [(7, VARIATION, 2), (8, VARIATION, 1)]


def test_a_path_and_a_body_are_told_apart_wherever_one_ends() -> None:
    first, other = (
        by_header(OWNER, "k", path, body)
        for path, body in ((PATH, b"{}"), (f"{PATH}{{", b"}"))
    )
    assert first.key == other.key
    assert first.fingerprint != other.fingerprint


def cart(
    *lines: tuple[Any, ...], cart_id: int = 42, user: Any = OWNER
) -> tuple[Any, str]:
    claim = by_cart(user, cart_id, lines or LINES)
    assert claim.scope == "cart"
    assert claim.key == claim.fingerprint  # never the same key for another request
    return claim.user_id, claim.key


def test_a_cart_is_a_key_in_whatever_order_its_lines_come() -> None:
    assert cart(*LINES) == cart(*reversed(LINES))


@pytest.mark.parametrize(
    "other",
    [
        cart(cart_id=43),
        cart(user=STRANGER),
        cart((7, VARIATION, 2)),
        cart((7, VARIATION, 2), (9, VARIATION, 1)),
        cart((7, VARIATION, 2), (8, VARIATION[:-1] + "2", 1)),
        cart((7, VARIATION, 2), (8, VARIATION, 2)),
        cart((7, VARIATION, 1), (8, VARIATION, 2)),
        cart(*LINES, (9, VARIATION, 1)),
    ],
    ids=[
        *("another cart", "another caller", "a line less", "a line added again"),
        *("another variation", "another quantity", "quantities swapped", "a line more"),
    ],
)
def test_another_cart_is_another_key(other: tuple[Any, str]) -> None:
    assert cart() != other


def test_lines_that_name_nothing_make_a_key_too() -> None:
    lines = [(7, None, None), (7, "x", 1), (7, None, 2)]
    assert cart(*lines) == cart(*reversed(lines))
