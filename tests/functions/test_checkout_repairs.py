"""Checkout of a cart that cannot be ordered: 409, repaired, nothing written."""

from typing import Any

import pytest
from werkzeug.test import TestResponse

from infra.local.sandbox import catalogue
from tests.support.observed import nothing_written
from tests.support.service import Service


def repaired(response: TestResponse) -> dict[str, Any]:
    """Return the one detail of a 409."""
    assert response.status_code == 409, response.get_data(as_text=True)
    body = response.get_json()
    assert (body["issues_found"], body["items_fixed"]) == (1, 1)
    [detail] = body["details"]
    assert isinstance(detail, dict)
    return detail


def lines(service: Service, user: str) -> list[tuple[str, int]]:
    """Return what is in the cart."""
    cart = service.sandbox.cart(user)
    assert cart is not None
    return [(i["product_variation_id"], i["quantity"]) for i in cart["items"]]


def test_answer_is_the_contracts_to_the_letter(service: Service, user: str) -> None:
    sandbox = service.sandbox
    scarce = sandbox.add_article(amount=5, title="T1")
    fine = sandbox.add_article(amount=5)
    lowered = sandbox.add_to_cart(user, scarce, 9)
    sandbox.add_to_cart(user, fine, 1)
    removed = sandbox.add_to_cart(user, catalogue.UNKNOWN, 2)
    cart = sandbox.cart(user)
    assert cart is not None

    with nothing_written(service):
        response = service.checkout(user)

    message = "Your cart has been automatically updated. Please review and try again."
    assert response.status_code == 409
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "Location" not in response.headers
    assert response.get_json() == {
        "type": "/problems/cart-repaired",
        "title": "Cart updated due to stock issues",
        "status": 409,
        "detail": message,
        "instance": "/api/orders-from-shopcart/",
        "error": "Cart updated due to stock issues",
        "message": message,
        "issues_found": 2,
        "items_fixed": 2,
        "cart_id": cart["id"],
        "details": [
            {
                "cart_item_id": lowered,
                "product_variation_id": scarce,
                "product_title": "T1",
                "action": "quantity_updated",
                "old_quantity": 9,
                "new_quantity": 5,
                "reason": "insufficient_stock",
                "fixed": True,
            },
            {
                "cart_item_id": removed,
                "product_variation_id": catalogue.UNKNOWN,
                "product_title": None,
                "action": "removed",
                "reason": "not_found",
                "fixed": True,
            },
        ],
    }
    assert lines(service, user) == [(scarce, 5), (fine, 1)]


@pytest.mark.parametrize(
    ("article", "quantity", "told"),
    [
        ({}, 0, ("invalid_data", "Thing")),
        ({}, -1, ("invalid_data", "Thing")),
        ({"has_product_id": False}, 1, ("invalid_data", None)),
        ({"has_product": False}, 1, ("product_not_found", None)),
        ({"is_active": False}, 1, ("inactive", "Thing")),
        ({"shop_id": None}, 1, ("invalid_shop", "Thing")),
        ({"price": None, "base_price": None}, 1, ("invalid_data", "Thing")),
        ({"amount": 0}, 1, ("out_of_stock", "Thing")),
        # The first that hits wins: tests/unit/test_checkout_rules.py.
        ({"is_active": False}, 0, ("invalid_data", "Thing")),
    ],
)
def test_line_is_removed_for_the_first_thing_that_is_wrong_with_it(
    service: Service,
    user: str,
    article: dict[str, Any],
    quantity: int,
    told: tuple[str, str | None],
) -> None:
    reason, title = told
    variation = service.sandbox.add_article(**article)
    line = service.sandbox.add_to_cart(user, variation, quantity)

    detail = repaired(service.checkout(user))

    assert detail == {
        "cart_item_id": line,
        "product_variation_id": variation,
        "product_title": title,
        "action": "removed",
        "reason": reason,
        "fixed": True,
    }
    assert lines(service, user) == []


def test_unknown_variation_is_not_found_or_invalid(service: Service, user: str) -> None:
    service.sandbox.add_to_cart(user, catalogue.UNKNOWN, 1)
    assert repaired(service.checkout(user))["reason"] == "not_found"
    service.sandbox.add_to_cart(user, catalogue.UNKNOWN, 0)
    assert repaired(service.checkout(user))["reason"] == "invalid_data"


def test_variation_that_is_refused_is_not_found(service: Service, user: str) -> None:
    service.sandbox.add_to_cart(user, catalogue.MUG)
    service.sandbox.fault("product", status=422)
    assert repaired(service.checkout(user))["reason"] == "not_found"


@pytest.mark.parametrize("name", ["", "17", "not-a-uuid", "../../products", "a/b?c#d"])
def test_line_without_a_uuid_is_removed(service: Service, user: str, name: str) -> None:
    service.sandbox.add_to_cart(user, name, 1)
    detail = repaired(service.checkout(user))
    assert (detail["product_variation_id"], detail["action"]) == (name, "removed")
    assert detail["reason"] in {"not_found", "invalid_data"}
    assert lines(service, user) == []


def test_trap_negative_stock_is_never_a_quantity(service: Service, user: str) -> None:
    service.sandbox.add_to_cart(user, catalogue.VASE, 2)  # three too many were sold
    detail = repaired(service.checkout(user))
    assert (detail["reason"], detail["action"]) == ("out_of_stock", "removed")
    assert "new_quantity" not in detail
    assert service.sandbox.calls_to("shopcart", method="PUT") == []


def test_trap_stock_covers_all_lines_of_variation(service: Service, user: str) -> None:
    sandbox = service.sandbox
    article = sandbox.add_article(amount=7)
    sandbox.add_to_cart(user, article, 4)
    second = sandbox.add_to_cart(user, article, 4)
    third = sandbox.add_to_cart(user, article, 4)

    body = service.checkout(user).get_json()

    told = {detail["cart_item_id"]: detail for detail in body["details"]}
    assert set(told) == {second, third}
    assert told[second]["new_quantity"] == 3
    assert told[third]["action"] == "removed"
    assert {detail["reason"] for detail in told.values()} == {"insufficient_stock"}
    assert lines(service, user) == [(article, 4), (article, 3)]
    assert service.checkout(user).status_code == 201


def test_quantity_is_lowered_to_what_is_allowed(service: Service, user: str) -> None:
    article = service.sandbox.add_article(amount=50_000)
    service.sandbox.add_to_cart(user, article, 10_001)
    detail = repaired(service.checkout(user))
    assert (detail["old_quantity"], detail["new_quantity"]) == (10_001, 10_000)
    assert service.checkout(user).get_json()["total_quantity"] == 10_000


def test_fixes_are_the_calls_of_the_contract(service: Service, user: str) -> None:
    article = service.sandbox.add_article(amount=5)
    lowered = service.sandbox.add_to_cart(user, article, 9)
    removed = service.sandbox.add_to_cart(user, catalogue.RUG, 1)
    service.checkout(user)
    [put] = service.sandbox.calls_to("shopcart", method="PUT")
    [delete] = service.sandbox.calls_to("shopcart", method="DELETE")
    assert (put.path, put.json) == (f"/api/items/{lowered}", {"quantity": 5})
    assert put.headers["Content-Type"] == "application/json"
    assert (delete.path, delete.body) == (f"/api/items/{removed}", b"")
    assert put.headers["X-User-ID"] == delete.headers["X-User-ID"] == user


def test_fixes_are_made_side_by_side(service: Service, user: str) -> None:
    for _ in range(10):
        service.sandbox.add_to_cart(user, catalogue.RUG, 1)
        scarce = service.sandbox.add_article(amount=1)
        service.sandbox.add_to_cart(user, scarce, 2)
    service.sandbox.fault("shopcart", delay_seconds=0.4)
    service.sandbox.fault("product", delay_seconds=0.4)
    body = service.checkout(user).get_json()
    assert body["items_fixed"] == 20
    assert service.sandbox.waits() == 3


@pytest.mark.parametrize("status", [301, 401, 404, 422, 500, 503])
def test_failed_fix_is_listed_as_such(service: Service, user: str, status: int) -> None:
    article = service.sandbox.add_article(amount=5, title="T1")
    failed = service.sandbox.add_to_cart(user, article, 9)
    fixed = service.sandbox.add_to_cart(user, catalogue.RUG, 1)
    service.sandbox.fault("shopcart", method="PUT", status=status)
    response = service.checkout(user)
    assert response.status_code == 409
    body = response.get_json()
    told = {detail["cart_item_id"]: detail["fixed"] for detail in body["details"]}
    assert told == {failed: False, fixed: True}
    assert (body["issues_found"], body["items_fixed"]) == (2, 1)
    assert body["message"] == body["detail"]
    assert body["message"].endswith(f" try again: T1 (item {failed})")
    assert "automatically updated" not in body["message"]


@pytest.mark.parametrize(
    ("answer", "is_fixed"),
    [
        ({"status": 204, "body": ""}, True),
        ({"status": 200, "body": ""}, True),
        ({"status": 404, "body": '{"detail": "Cart item not found"}'}, True),
        # A front end's, who knows nothing of carts.
        ({"status": 404, "body": "<html>Not Found</html>"}, False),
        ({"status": 404, "body": ""}, False),
        ({"status": 404, "body": '{"message": "no Route matched"}'}, False),
        ({"status": 404, "body": '{"detail": null}'}, False),
        ({"status": 200, "body": "<html>Please log in</html>"}, False),
    ],
)
def test_removal_counts_when_the_shopcart_itself_says_so(
    service: Service, user: str, answer: dict[str, Any], *, is_fixed: bool
) -> None:
    service.sandbox.add_to_cart(user, catalogue.RUG, 1)
    service.sandbox.fault("shopcart", method="DELETE", **answer)
    [detail] = service.checkout(user).get_json()["details"]
    assert detail["fixed"] is is_fixed


def test_fixes_after_the_deadline_are_not_fixed(service: Service, user: str) -> None:
    service.set(UPSTREAM_DEADLINE_SECONDS="1")
    service.sandbox.add_to_cart(user, catalogue.RUG, 1)
    service.sandbox.fault("shopcart", method="DELETE", delay_seconds=3)
    response = service.checkout(user)
    assert response.status_code == 409
    [detail] = response.get_json()["details"]
    assert detail["fixed"] is False
