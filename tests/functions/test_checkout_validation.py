"""Checkout with `validate_only`: the same checks, and nothing changed anywhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from werkzeug.test import TestResponse

from common.domain.model import MAX_ITEMS
from infra.local.sandbox import catalogue
from tests.support.observed import nothing_written, problem
from tests.support.service import Service, new_user

PATH = "/api/orders-from-shopcart/"
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def validate(
    service: Service, user: str, query: str = "validate_only=true", **headers: str
) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.call(
        "create_order_from_cart", "POST", f"{PATH}?{query}", user=user, headers=named
    )


@contextmanager
def nothing_changed(service: Service, user: str) -> Iterator[None]:
    """Check that no row, event, cart or stock changes, nor is anything asked for it."""
    cart, catalog = service.sandbox.cart(user), catalogue_of(service)
    service.sandbox.forget_calls()
    with nothing_written(service):
        yield
    assert {call.method for call in service.sandbox.calls} <= {"GET"}
    assert service.sandbox.cart(user) == cart
    assert catalogue_of(service) == catalog


def catalogue_of(service: Service) -> Any:
    variations = (catalogue.MUG, catalogue.TEAPOT, catalogue.NAIL, catalogue.RUG)
    return [service.sandbox.stock(variation) for variation in variations]


def test_a_cart_that_can_be_ordered_is_shown_as_the_order_that_it_would_be(
    service: Service, user: str
) -> None:
    first = service.sandbox.add_to_cart(user, catalogue.MUG, 2)
    other = service.sandbox.add_to_cart(user, catalogue.NAIL, 5)
    again = service.sandbox.add_to_cart(user, catalogue.MUG, 1)
    with nothing_changed(service, user):
        response = validate(service, user)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert not {"Location", "ETag", "Idempotency-Replayed"} & set(response.headers)
    assert response.get_json() == {
        "valid": True,
        "items_count": 2,
        "total_quantity": 8,
        "total": 3 * 1999 + 5 * 101,
        "items": [
            {
                "product_variation": catalogue.MUG,
                "product_id": "b" + catalogue.MUG[1:],
                "shop_id": catalogue.POTTERY,
                "product_title": "Mug, blue",
                "quantity": 3,
                "price": 1999,
                "cart_item_ids": [first, again],
            },
            {
                "product_variation": catalogue.NAIL,
                "product_id": "b" + catalogue.NAIL[1:],
                "shop_id": catalogue.WORKSHOP,
                "product_title": "Nail, by hand",
                "quantity": 5,
                "price": 101,
                "cart_item_ids": [other],
            },
        ],
    }
    made = service.checkout(user).get_json()
    shown = response.get_json()
    assert made["items_count"] == shown["items_count"]
    assert made["total_quantity"] == shown["total_quantity"]
    for item, expected in zip(made["order"]["items"], shown["items"], strict=True):
        assert all(item[name] == expected[name] for name in item.keys() & expected)


def test_what_a_checkout_would_repair_is_listed_and_left_as_it_is(
    service: Service, user: str
) -> None:
    scarce = service.sandbox.add_article(amount=5, title="T1")
    service.sandbox.add_to_cart(user, scarce, 9)
    service.sandbox.add_to_cart(user, catalogue.MUG)
    service.sandbox.add_to_cart(user, catalogue.RUG)
    service.sandbox.add_to_cart(user, catalogue.UNKNOWN, 2)
    with nothing_changed(service, user):
        told = problem(validate(service, user), 409, "cart-repaired")
    assert told["message"] == told["detail"]
    assert "Nothing was changed" in told["message"]
    assert "automatically" not in told["message"]
    assert (told["issues_found"], told["items_fixed"]) == (3, 0)
    assert {each["fixed"] for each in told["details"]} == {False}

    repaired = service.checkout(user).get_json()

    as_done = [each | {"fixed": True} for each in told["details"]]
    assert repaired["details"] == as_done
    for name in ("type", "title", "status", "error", "cart_id", "issues_found"):
        assert repaired[name] == told[name]


def test_an_idempotency_key_is_neither_taken_nor_looked_up(
    service: Service, user: str
) -> None:
    service.sandbox.add_to_cart(user, catalogue.MUG)
    with nothing_changed(service, user):
        assert validate(service, user, Idempotency_Key="k").status_code == 200
    assert service.checkout(user, Idempotency_Key="k").status_code == 201
    shown = validate(service, user, Idempotency_Key="k")
    assert shown.get_json()["valid"] is True
    assert "Idempotency-Replayed" not in shown.headers
    problem(validate(service, user, Idempotency_Key=""), 400, "invalid-request")


def test_nothing_is_asked_of_the_database(service: Service, user: str) -> None:
    service.set(DATABASE_URL=NOWHERE)
    service.sandbox.add_to_cart(user, catalogue.MUG)
    assert validate(service, user).status_code == 200
    service.sandbox.add_to_cart(user, catalogue.RUG)
    assert validate(service, user).status_code == 409


def test_what_a_checkout_refuses_is_refused(service: Service, user: str) -> None:
    with nothing_changed(service, user):
        problem(validate(service, user), 404, "cart-not-found")
    line = service.sandbox.add_to_cart(user, catalogue.MUG)
    with service.sandbox.store.transaction() as connection:
        connection.execute("DELETE FROM cart_line WHERE id = ?", (line,))
    with nothing_changed(service, user):
        problem(validate(service, user), 400, "empty-cart")
    problem(validate(service, "nobody"), 401, "unauthenticated")
    service.sandbox.add_to_cart(user, catalogue.MUG)
    service.sandbox.fault("product", status=503)
    with nothing_changed(service, user):
        problem(validate(service, user), 503, "upstream-unavailable")


def test_a_cart_of_too_many_products_is_refused_before_any_is_read(
    service: Service, user: str
) -> None:
    for _ in range(MAX_ITEMS + 1):
        service.sandbox.add_to_cart(user, new_user())
    with nothing_changed(service, user):
        problem(validate(service, user), 409, "order-full")
    assert service.sandbox.calls_to("product") == []


@pytest.mark.parametrize(
    "query",
    [
        "validate_only=",
        "validate_only=yes",
        "validate_only=1",
        "validate_only=true&validate_only=true",
        "limit=0&validate_only=no",
    ],
)
def test_a_value_that_is_none_is_named_and_nothing_is_ordered(
    service: Service, user: str, query: str
) -> None:
    service.sandbox.add_to_cart(user, catalogue.MUG)
    with nothing_changed(service, user):
        told = problem(validate(service, user, query), 400, "invalid-request")
    assert told["errors"].keys() == {"validate_only"}


@pytest.mark.parametrize("query", ["validate_only=false", "validate=true&limit=0", ""])
def test_without_it_the_cart_is_ordered(
    service: Service, user: str, query: str
) -> None:
    service.sandbox.add_to_cart(user, catalogue.MUG)
    assert validate(service, user, query).status_code == 201


def test_a_total_may_be_larger_than_what_fits_64_bits(
    service: Service, user: str
) -> None:
    dear = service.sandbox.add_article(amount=10_000, price="90071992547409.91")
    service.sandbox.add_to_cart(user, dear, 10_000)
    assert validate(service, user).get_json()["total"] == (2**53 - 1) * 10_000
