"""PATCH and DELETE /api/order-items/{id}/: an owner changes, cancels or removes."""

from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.support import bodies
from tests.support.observed import (
    announced,
    check_moved,
    history,
    nothing_written,
    problem,
)
from tests.support.parallel import in_background, sender
from tests.support.service import Service, new_user
from tests.support.shared import service_of_file

service = pytest.fixture(service_of_file, scope="module")


def ordered_item(service: Service, user: str, quantity: int = 2) -> dict[str, Any]:
    [item] = service.ordered(user, quantity)["items"]
    return dict(item)


def patched(
    service: Service, user: str, item: dict[str, Any], **kwargs: Any
) -> TestResponse:
    return service.crud("PATCH", f"/api/order-items/{item['id']}/", user, **kwargs)


@pytest.mark.parametrize("quantity", [1, 3, 10_000])
def test_an_owner_changes_the_quantity_while_an_item_is_processing(
    service: Service, user: str, quantity: int
) -> None:
    item = ordered_item(service, user)
    told = announced(service, item["order"])
    steps = history(service, item["order"])
    response = patched(service, user, item, json={"quantity": quantity})
    expected = item | {"quantity": quantity}
    assert (response.status_code, response.get_json()) == (200, expected)
    path = f"/api/order-items/{item['id']}/"
    assert service.crud("GET", path, user).get_json() == expected
    assert response.headers["ETag"] == '"2"'
    more = quantity - item["quantity"]
    lowering = bodies.order_created(
        user, [(item["product_variation"], more)], order_id=item["order"], cart_id=None
    )
    # No event gives back what is less.
    expected_events = [lowering] if more > 0 else []
    assert announced(service, item["order"]) == told + expected_events
    *before, step = history(service, item["order"])
    assert (before, step[:4]) == (steps, (item["id"], 1, 1, user))


def test_price_stays_when_the_quantity_changes(service: Service, user: str) -> None:
    variation = service.sandbox.add_article(price="9.99")
    service.sandbox.add_to_cart(user, variation, 1)
    [item] = service.checkout(user).get_json()["order"]["items"]
    service.sandbox.add_article(id=variation, price="99.99")
    response = patched(service, user, item, json={"quantity": 2})
    assert response.get_json()["price"] == 999


def ordered_of_five(service: Service, user: str, quantity: int = 3) -> dict[str, Any]:
    """Order some of five, of which the product service has taken its note."""
    article = service.sandbox.add_article(amount=5)
    service.sandbox.add_to_cart(user, article, quantity)
    [item] = service.checkout(user).get_json()["order"]["items"]
    service.sandbox.restock(article, 5 - quantity)
    service.age_holds()
    return dict(item)


def test_only_the_increase_of_an_item_must_be_in_stock(
    service: Service, user: str
) -> None:
    item = ordered_of_five(service, user)
    for quantity, left in ((6, 2), (10_000, 2)):
        service.sandbox.restock(item["product_variation"], left)
        with nothing_written(service):
            response = patched(service, user, item, json={"quantity": quantity})
            body = problem(response, 409, "item-unavailable")
            assert body["reason"] == "insufficient_stock"
            assert body["product_variation"] == item["product_variation"]
    assert patched(service, user, item, json={"quantity": 5}).status_code == 200


def test_second_item_is_checked_with_the_first(service: Service, user: str) -> None:
    item = ordered_of_five(service, user)
    more = {"order": item["order"], "product_variation": item["product_variation"]}
    with nothing_written(service):
        body = more | {"quantity": 3}
        response = service.crud("POST", "/api/order-items/", user, json=body)
        problem(response, 409, "item-unavailable")
    body = more | {"quantity": 2}
    response = service.crud("POST", "/api/order-items/", user, json=body)
    assert response.status_code == 201
    service.sandbox.restock(item["product_variation"], 0)
    with nothing_written(service):
        response = patched(service, user, item, json={"quantity": 4})
        assert problem(response, 409, "item-unavailable")["reason"] == "out_of_stock"


@pytest.mark.parametrize(
    ("of", "change", "reason"),
    [
        ("product_id", "UPDATE product SET is_active = 0", "inactive"),
        ("product_id", "UPDATE product SET shop_id = NULL", "invalid_shop"),
        ("product_id", "DELETE FROM product", "product_not_found"),
        (
            "product_variation",
            "UPDATE variation SET product_id = NULL",
            "invalid_data",
        ),
        ("product_variation", "UPDATE variation SET amount = 0", "out_of_stock"),
        ("product_variation", "DELETE FROM variation", "not_found"),
    ],
)
def test_no_more_of_what_is_no_longer_sold(
    service: Service, user: str, of: str, change: str, reason: str
) -> None:
    item = ordered_item(service, user, quantity=2)
    with service.sandbox.store.transaction() as connection:
        connection.execute(f"{change} WHERE id = ?", (item[of],))
    with nothing_written(service):
        response = patched(service, user, item, json={"quantity": 3})
        body = problem(response, 409, "item-unavailable")
        assert body["reason"] == reason
        assert body["product_variation"] == item["product_variation"]
    assert patched(service, user, item, json={"quantity": 1}).status_code == 200


def test_increase_is_counted_from_what_the_item_has_when_it_is_written(
    service: Service, user: str
) -> None:
    item = ordered_item(service, user, quantity=4)
    service.sandbox.restock(item["product_variation"], 1)
    service.sandbox.forget_calls()
    service.sandbox.fault("product", delay_seconds=1, times=1)
    path = f"/api/order-items/{item['id']}/"
    body = {"quantity": 5}
    raising = sender(service, "orders_crud", "PATCH", path, user, json=body)
    with in_background(raising) as raised:
        service.sandbox.wait_until(lambda: service.sandbox.most_at_once("product"))
        lowered = patched(service, user, item, json={"quantity": 1})
        assert lowered.status_code == 200
    problem(raised.result(), 409, "item-unavailable")
    assert service.crud("GET", path, user).get_json()["quantity"] == 1


def test_a_smaller_quantity_needs_no_stock(service: Service, user: str) -> None:
    item = ordered_item(service, user, quantity=5)
    service.sandbox.restock(item["product_variation"], -1)
    response = patched(service, user, item, json={"quantity": 4})
    assert (response.status_code, response.get_json()["quantity"]) == (200, 4)


@pytest.mark.parametrize("status", [2, 3, 4])
def test_the_quantity_is_fixed_once_an_item_is_no_longer_processing(
    service: Service, user: str, status: int
) -> None:
    item = ordered_item(service, user, quantity=2)
    service.move(item["id"], status)
    with nothing_written(service):
        for quantity in (1, 2, 3):
            response = patched(service, user, item, json={"quantity": quantity})
            problem(response, 409, "item-not-open")


def test_owners_cancellation_is_a_status_change(service: Service, user: str) -> None:
    item = ordered_item(service, user)
    told = len(announced(service, item["order"]))
    headers = {"X-Request-ID": "changed-my-mind"}
    response = patched(service, user, item, json={"status": 4}, headers=headers)
    assert (response.status_code, response.get_json()) == (200, item | {"status": 4})
    assert response.headers["ETag"] == '"2"'
    [event] = announced(service, item["order"])[told:]
    check_moved(event, item, 1, 4)
    last = history(service, item["order"])[-1]
    assert last == (item["id"], 1, 4, user, "changed-my-mind")


def test_cancelling_again_is_200_writes_nothing(service: Service, user: str) -> None:
    item = ordered_item(service, user)
    first = patched(service, user, item, json={"status": 4})
    with nothing_written(service):
        again = patched(service, user, item, json={"status": 4})
        assert (again.status_code, again.get_json()) == (200, first.get_json())
        assert again.headers["ETag"] == first.headers["ETag"]


@pytest.mark.parametrize("status", [2, 3])
def test_shipped_is_not_cancelled(service: Service, user: str, status: int) -> None:
    item = ordered_item(service, user)
    service.move(item["id"], status)
    with nothing_written(service):
        response = patched(service, user, item, json={"status": 4})
        problem(response, 409, "illegal-transition")


def test_any_other_change_by_the_owner_is_403(service: Service, user: str) -> None:
    item = ordered_item(service, user)
    with nothing_written(service):
        bodies: list[dict[str, Any]] = [
            *({"status": status} for status in (1, 2, 3)),
            *({"price": 1}, {"price": None}, {"order": 1}, {"shop_id": None}),
            *({"product_variation": new_user()}, {"product_id": new_user()}),
            *({"quantity": 1, "price": 1}, {"status": 4, "shop_id": new_user()}),
        ]
        for body in bodies:
            detail = problem(patched(service, user, item, json=body), 403, "forbidden")
            assert any(name in detail["detail"] for name in body)


def test_quantity_and_cancelling_together_is_400(service: Service, user: str) -> None:
    item = ordered_item(service, user)
    with nothing_written(service):
        response = patched(service, user, item, json={"quantity": 1, "status": 4})
        assert set(problem(response, 400, "invalid-request")["errors"]) == {"quantity"}


def test_item_patch_of_nothing_writes_nothing(service: Service, user: str) -> None:
    item = ordered_item(service, user, quantity=2)
    service.sandbox.restock(item["product_variation"], 0)
    with nothing_written(service):
        for body in ({}, {"id": 7}, {"unknown": [1]}, {"quantity": 2}):
            response = patched(service, user, item, json=body)
            assert (response.status_code, response.get_json()) == (200, item)


def test_deleted_item_is_gone_and_the_rest_stays(service: Service, user: str) -> None:
    order = service.ordered(user, 1, 2)
    first, second = order["items"]
    path = f"/api/order-items/{first['id']}/"
    response = service.crud("DELETE", path, user)
    assert (response.status_code, response.data) == (204, b"")
    for method in ("GET", "DELETE"):
        problem(service.crud(method, path, user), 404, "not-found")
    found = service.crud("GET", f"/api/orders/{order['id']}/", user).get_json()
    assert found == order | {"items": [second]}


def test_a_deleted_item_is_announced_as_cancelled(service: Service, user: str) -> None:
    order = service.ordered(user, 1, 2)
    item = order["items"][0]
    told = len(announced(service, order["id"]))
    headers = {"X-Request-ID": "away-with-it"}
    path = f"/api/order-items/{item['id']}/"
    service.crud("DELETE", path, user, headers=headers)
    [event] = announced(service, order["id"])[told:]
    check_moved(event, item, 1, 4)
    last = history(service, order["id"])[-1]
    assert last == (item["id"], 1, 4, user, "away-with-it")


@pytest.mark.parametrize("status", [2, 3, 4])
def test_shipped_item_is_not_deleted(service: Service, user: str, status: int) -> None:
    order = service.ordered(user, 1)
    [item] = order["items"]
    service.move(item["id"], status)
    with nothing_written(service):
        response = service.crud("DELETE", f"/api/order-items/{item['id']}/", user)
        problem(response, 409, "item-not-open")


def test_deleting_last_open_item_completes_order(service: Service, user: str) -> None:
    order = service.ordered(user, 1, 1)
    delivered, open_item = order["items"]
    service.move(delivered["id"], 3)
    service.crud("DELETE", f"/api/order-items/{open_item['id']}/", user)
    assert service.sweep()["approved"]
    found = service.crud("GET", f"/api/orders/{order['id']}/", user).get_json()
    assert found["is_approved"] is True


def test_order_without_items_left_is_not_approved(service: Service, user: str) -> None:
    order = service.ordered(user, 1)
    [item] = order["items"]
    service.crud("DELETE", f"/api/order-items/{item['id']}/", user)
    service.trigger_approval(order["id"])
    service.sweep()
    found = service.crud("GET", f"/api/orders/{order['id']}/", user).get_json()
    assert found == order | {"items": []}
