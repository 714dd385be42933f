"""Idempotency keys: what makes two requests the same, and what is kept of an answer."""

import json
from typing import Any

import pytest

from common.idempotency import Answer, Claim, by_cart, by_header, rows
from tests.support.bodies import VARIATION
from tests.support.factories import OWNER, STRANGER

PATH = "/api/orders"
LINES = [(7, VARIATION, 2), (8, VARIATION, 1)]
ANSWER = Answer(201, {"Location": "/api/orders/4/"}, '{"id":4}')


# The caller's header.


def test_a_header_claims_its_key_for_its_caller() -> None:
    claim = by_header(OWNER, "k", PATH, b"{}")
    assert (claim.user_id, claim.scope, claim.key) == (OWNER, "key", "k")


def test_the_same_request_has_the_same_claim() -> None:
    assert by_header(OWNER, "k", PATH, b"{}") == by_header(OWNER, "k", PATH, b"{}")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, b"{ }"),
        (PATH, b""),
        ("/api/order-items", b"{}"),
        (f"{PATH}{{", b"}"),  # the same, end to end
    ],
)
def test_another_path_or_body_is_another_request(path: str, body: bytes) -> None:
    first, other = by_header(OWNER, "k", PATH, b"{}"), by_header(OWNER, "k", path, body)
    assert first.key == other.key
    assert first.fingerprint != other.fingerprint


def test_two_callers_may_use_the_same_key() -> None:
    mine, theirs = (by_header(user, "k", PATH, b"{}") for user in (OWNER, STRANGER))
    assert (mine.user_id, mine.key) != (theirs.user_id, theirs.key)


# The cart.


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
        "another cart",
        "another caller",
        "a line less",
        "a line added again",
        "another variation",
        "another quantity",
        "quantities swapped",
        "a line more",
    ],
)
def test_another_cart_is_another_key(other: tuple[Any, str]) -> None:
    assert cart() != other


def test_lines_that_name_nothing_make_a_key_too() -> None:
    lines = [(7, None, None), (7, "x", 1), (7, None, 2)]
    assert cart(*lines) == cart(*reversed(lines))


# Records.


def test_every_claim_keeps_the_same_answer() -> None:
    claims = [by_header(OWNER, "k", PATH, b"{}"), by_cart(OWNER, 42, LINES)]
    told = rows(claims, ANSWER)
    assert [(row["scope"], row["key"]) for row in told] == [
        ("key", "k"),
        ("cart", claims[1].key),
    ]
    for row in told:
        headers = json.loads(row["headers"])
        answer = Answer(row["status"], headers, row["body"])
        assert (row["user_id"], answer) == (OWNER, ANSWER)


@pytest.mark.parametrize(("scope", "hours"), [("key", 24), ("cart", None)])
def test_a_header_is_kept_for_a_day_and_a_cart_as_long_as_its_order(
    scope: str, hours: int | None
) -> None:
    [row] = rows([Claim(OWNER, scope, "k", "f")], ANSWER)
    assert row["keep_hours"] == hours


def test_without_claims_nothing_is_kept() -> None:
    assert rows([], ANSWER) == []
