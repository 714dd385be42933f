"""The shopcart refuses a quantity that is in stock: another way is found, or said."""

import json
from typing import Any

import pytest

from infra.local.sandbox import product
from tests.support.observed import captured, nothing_written
from tests.support.service import Service

UPDATED = "Your cart has been automatically updated. Please review and try again."


def checked_out(service: Service, user: str) -> dict[str, Any]:
    """Check out, and return the body of the 409; nothing is written."""
    with nothing_written(service):
        response = service.checkout(user)
    assert response.status_code == 409, response.get_data(as_text=True)
    body: dict[str, Any] = response.get_json()
    assert body["message"] == body["detail"]
    return body


def lines(service: Service, user: str) -> list[tuple[str, int]]:
    """Return what is in the cart."""
    cart = service.sandbox.cart(user)
    assert cart is not None
    return [(i["product_variation_id"], i["quantity"]) for i in cart["items"]]


def reads(service: Service) -> list[str]:
    """Return how each read of the product service went about its cache."""
    calls = service.sandbox.calls_to("product")
    return [call.headers["Cache-Control"] for call in calls]


def changes(service: Service) -> list[tuple[str, int | None]]:
    """Return each change of the cart that was tried: the method and the status."""
    calls = service.sandbox.calls_to("shopcart")
    return [(call.method, call.status) for call in calls if call.method != "GET"]


def stale(service: Service, user: str, quantity: int = 9, amount: int = 5) -> str:
    """Put into the cart what there is too little of, and less yet in the cache."""
    article = service.sandbox.add_article(amount=amount, title="T1")
    service.sandbox.cache_stock(article, 2)
    service.sandbox.add_to_cart(user, article, quantity)
    return article


def test_line_is_changed_after_the_cached_row_is_refreshed(
    service: Service, user: str
) -> None:
    article = stale(service, user)

    body = checked_out(service, user)

    [detail] = body["details"]
    assert (detail["action"], detail["new_quantity"]) == ("quantity_updated", 5)
    assert (detail["reason"], detail["fixed"]) == ("insufficient_stock", True)
    assert (body["issues_found"], body["items_fixed"]) == (1, 1)
    assert body["message"] == UPDATED
    assert lines(service, user) == [(article, 5)]
    assert changes(service) == [("PUT", 400), ("PUT", 200)]
    assert reads(service) == ["no-store", "no-cache"]
    assert service.checkout(user).status_code == 201


@pytest.mark.parametrize(
    ("amount", "action", "new_quantity", "reason"),
    [
        (3, "quantity_updated", 3, "insufficient_stock"),
        (20, "quantity_updated", 9, "insufficient_stock"),  # it fits now
        (0, "removed", None, "out_of_stock"),
    ],
)
def test_fresh_reading_decides_on_the_second_change(  # noqa: PLR0917 a row of the table
    service: Service,
    user: str,
    amount: int,
    action: str,
    new_quantity: int | None,
    reason: str,
) -> None:
    article = stale(service, user, amount=amount)
    row = product.find_variation(service.sandbox.store, article)
    earlier = json.dumps({**(row or {}), "amount": 5}, default=str)
    service.sandbox.fault("product", path=article, body=earlier, times=1)

    body = checked_out(service, user)

    [detail] = body["details"]
    assert (detail["action"], detail["reason"]) == (action, reason)
    assert detail.get("new_quantity") == new_quantity
    assert (detail["fixed"], body["message"]) == (True, UPDATED)
    expected = [] if new_quantity is None else [(article, new_quantity)]
    assert lines(service, user) == expected


def test_line_that_is_refused_again_is_removed(service: Service, user: str) -> None:
    stale(service, user)
    service.sandbox.fault("shopcart", method="PUT", status=400)

    body = checked_out(service, user)

    [detail] = body["details"]
    assert (detail["action"], detail["fixed"]) == ("removed", True)
    assert "new_quantity" not in detail
    assert "old_quantity" not in detail
    assert (body["items_fixed"], body["message"]) == (1, UPDATED)
    assert lines(service, user) == []
    assert changes(service) == [("PUT", 400), ("PUT", 400), ("DELETE", 200)]
    assert reads(service).count("no-cache") == 1


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"status": 404, "body": "<html>"}, {"body": "{}"}]
)
def test_line_is_changed_again_although_the_refresh_cannot_be_read(
    service: Service, user: str, fault: dict[str, Any]
) -> None:
    article = stale(service, user)
    row = product.find_variation(service.sandbox.store, article)
    first = json.dumps(row, default=str)
    service.sandbox.fault("product", path=article, body=first, times=1)
    service.sandbox.fault("product", path=article, **fault)
    service.sandbox.fault("shopcart", method="PUT", status=400, times=1)
    service.sandbox.cache_stock(article, 5)

    [detail] = checked_out(service, user)["details"]

    assert (detail["new_quantity"], detail["fixed"]) == (5, True)
    assert lines(service, user) == [(article, 5)]


def test_what_could_not_be_fixed_is_said_and_logged_in_the_shopcarts_words(
    service: Service, user: str
) -> None:
    stale(service, user)
    unnamed = service.sandbox.add_article(amount=5, title=None)
    service.sandbox.add_to_cart(user, unnamed, 9)
    long = service.sandbox.add_article(amount=0, title="Long " * 100)
    service.sandbox.add_to_cart(user, long, 1)
    fine = service.sandbox.add_article(amount=5)
    service.sandbox.add_to_cart(user, fine, 1)
    cart = service.sandbox.cart(user)
    assert cart is not None
    ids = [line["id"] for line in cart["items"]]
    service.sandbox.fault("shopcart", method="PUT", status=400)
    refusal = {"status": 400, "body": '{"detail": "Not today."}'}
    service.sandbox.fault("shopcart", method="DELETE", **refusal)

    with captured() as log:
        body = checked_out(service, user)

    assert (body["issues_found"], body["items_fixed"]) == (3, 0)
    assert [detail["fixed"] for detail in body["details"]] == [False] * 3
    named = f"T1 (item {ids[0]}); {unnamed} (item {ids[1]}); {('Long ' * 16)[:80]}"
    assert f"{named} (item {ids[2]})" in body["message"]
    assert "automatically updated" not in body["message"]
    warned = [
        tuple(line.get(name) for name in FIELDS)
        for line in log
        if line["severity"] == "WARNING"
    ]
    for line_id in ids[:2]:
        path = f"/api/items/{line_id}"
        assert warned.count(("shopcart", "PUT", path, 400, "on purpose")) == 2
    for line_id in ids[:3]:
        path = f"/api/items/{line_id}"
        assert warned.count(("shopcart", "DELETE", path, 400, "Not today.")) == 1


FIELDS = ("sibling", "method", "path", "status", "detail")


def test_refused_lines_are_helped_side_by_side(service: Service, user: str) -> None:
    for _ in range(10):
        stale(service, user)
    service.sandbox.fault("shopcart", method="PUT", status=400, delay_seconds=0.3)
    service.sandbox.fault("shopcart", delay_seconds=0.3)
    service.sandbox.fault("product", delay_seconds=0.3)
    assert checked_out(service, user)["items_fixed"] == 10
    # The cart, stock; the change, stock, the change, the removal.
    assert service.sandbox.waits() == 6


def test_all_of_it_is_within_one_deadline(service: Service, user: str) -> None:
    service.set(UPSTREAM_DEADLINE_SECONDS="1.5")
    stale(service, user)
    service.sandbox.fault("shopcart", method="PUT", status=400, delay_seconds=1)
    service.sandbox.fault("product", path="variations", delay_seconds=0.1)
    body = checked_out(service, user)
    assert [detail["fixed"] for detail in body["details"]] == [False]
    assert [method for method, _ in changes(service)].count("DELETE") == 0
