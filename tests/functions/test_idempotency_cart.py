"""The cart itself is a key: a double click orders once, with no header at all."""

from typing import Any

import pytest
from werkzeug.test import TestResponse

from infra.local.sandbox import catalogue
from tests.support.parallel import checkout_sender, in_background
from tests.support.service import Service

KEY = {"Idempotency-Key": "k"}


@pytest.fixture
def first(service: Service, user: str) -> TestResponse:
    """The response to the first checkout of a cart with two lines."""
    service.sandbox.add_to_cart(user, catalogue.TEAPOT, 5)  # all there are
    service.sandbox.add_to_cart(user, catalogue.MUG, 1)
    response = service.checkout(user)
    assert response.status_code == 201
    return response


def check_replay(first: TestResponse, second: TestResponse) -> None:
    """Check that the second response is the order that exists."""
    assert second.status_code == 200, second.get_data(as_text=True)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.get_data() == first.get_data()
    assert second.headers["Location"] == first.headers["Location"]
    assert second.headers["Content-Type"] == "application/json"


def lower_stock(service: Service, body: dict[str, Any]) -> None:
    """Do as product does when it hears of the order; the cart is emptied later."""
    service.sandbox.sink.pause("shopcart")
    service.sandbox.deliver()
    for item in body["order"]["items"]:
        variation, quantity = item["product_variation"], item["quantity"]
        left = {catalogue.TEAPOT: 0, catalogue.MUG: 999}[variation]
        assert service.sandbox.stock(variation) == left, quantity


def orders(service: Service) -> int:
    return len(service.rows("SELECT id FROM orders"))


def test_second_post_for_the_same_lines_answers_with_the_order_that_exists(
    service: Service, user: str, first: TestResponse
) -> None:
    for _ in range(3):
        check_replay(first, service.checkout(user))
    assert orders(service) == 1
    assert len(service.sandbox.events_of("order.created")) == 1


def test_second_post_does_so_although_stock_has_been_lowered_meanwhile(
    service: Service, user: str, first: TestResponse
) -> None:
    lower_stock(service, first.get_json())
    check_replay(first, service.checkout(user))
    assert service.sandbox.calls_to("shopcart", method="DELETE") == []


def test_second_post_does_so_although_the_order_has_moved_on(
    service: Service, user: str, first: TestResponse
) -> None:
    for item in first.get_json()["order"]["items"]:
        assert service.move(item["id"], 3).status_code == 200
    service.trigger_approval(first.get_json()["order_id"])
    check_replay(first, service.checkout(user))


@pytest.mark.parametrize("keys", [("a", "b"), (None, "b"), ("a", None)])
def test_second_post_does_so_whatever_key_the_header_names_and_keeps_it_under_that(
    service: Service, user: str, keys: tuple[str | None, str | None]
) -> None:
    service.sandbox.add_to_cart(user, catalogue.MUG)
    first, second = (checkout(service, user, key) for key in keys)
    assert first.status_code == 201
    check_replay(first, second)
    if keys[1] is not None:
        service.sandbox.deliver()  # empties the cart: only the key still finds it
        check_replay(first, checkout(service, user, keys[1]))
        other = service.call(
            "create_order_from_cart",
            "POST",
            "/api/orders-from-shopcart/",
            user=user,
            headers={"Idempotency-Key": keys[1]},
            json={"another": "body"},
        )
        assert other.status_code == 422


@pytest.mark.parametrize("is_expired", [False, True])
def test_answer_found_by_the_cart_outlives_it_under_its_key(
    service: Service, user: str, first: TestResponse, *, is_expired: bool
) -> None:
    if is_expired:  # the key was used before, for longer than it is kept
        path, key = "/api/orders/", {"Idempotency-Key": "late"}
        service.crud("POST", path, user, json={}, headers=key)
        expire = "UPDATE idempotency_records SET expires_at = now() WHERE scope = 'key'"
        service.rows(expire)
    check_replay(first, checkout(service, user, "late"))
    order = f"/api/orders/{first.get_json()['order_id']}/"
    assert service.crud("DELETE", order, user).status_code == 204
    assert service.rows("SELECT 1 FROM idempotency_records WHERE scope = 'cart'") == []

    check_replay(first, checkout(service, user, "late"))

    service.sandbox.deliver()
    check_replay(first, checkout(service, user, "late"))
    path, key = "/api/orders-from-shopcart/", {"Idempotency-Key": "late"}
    function = "create_order_from_cart"
    sent = {"user": user, "headers": key, "json": {"another": "body"}}
    assert service.call(function, "POST", path, **sent).status_code == 422


def checkout(service: Service, user: str, key: str | None) -> TestResponse:
    return service.checkout(user, **({"Idempotency_Key": key} if key else {}))


def test_second_post_after_stock_fell_is_same(service: Service, user: str) -> None:
    # Both find no order yet; the slower one asks product when the faster one's order
    # has lowered the very stock that it would need.
    service.sandbox.add_to_cart(user, catalogue.TEAPOT, 5)
    service.sandbox.fault("product", delay_seconds=1.5, times=1)
    with in_background(checkout_sender(service, user)) as slower:
        service.sandbox.wait_until(
            lambda: not service.sandbox.traffic.faults()["product"]
        )
        first = service.checkout(user)
        assert first.status_code == 201
        service.sandbox.sink.pause("shopcart")
        service.sandbox.deliver()
        assert service.sandbox.stock(catalogue.TEAPOT) == 0
    check_replay(first, slower.result())
    cart = service.sandbox.cart(user)
    assert cart is not None
    assert len(cart["items"]) == 1


def test_same_key_after_cart_was_emptied_replays(service: Service, user: str) -> None:
    service.sandbox.add_to_cart(user, catalogue.MUG)
    service.sandbox.fault("shopcart", delay_seconds=1.5, times=1)
    with in_background(checkout_sender(service, user, **KEY)) as slower:
        service.sandbox.wait_until(
            lambda: not service.sandbox.traffic.faults()["shopcart"]
        )
        first = service.checkout(user, **KEY)
        assert first.status_code == 201
        service.sandbox.deliver()
    second = slower.result()
    assert second.status_code == 201
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.get_data() == first.get_data()


def test_new_lines_new_order(service: Service, user: str, first: TestResponse) -> None:
    service.sandbox.deliver()  # empties the cart
    service.sandbox.restock(catalogue.TEAPOT, 10)
    service.sandbox.add_to_cart(user, catalogue.TEAPOT, 5)
    service.sandbox.add_to_cart(user, catalogue.MUG, 1)
    second = service.checkout(user)
    assert second.status_code == 201
    assert "Idempotency-Replayed" not in second.headers
    assert second.get_json()["order_id"] != first.get_json()["order_id"]


def test_deleted_is_made_anew(service: Service, user: str, first: TestResponse) -> None:
    path = f"/api/orders/{first.get_json()['order_id']}/"
    assert service.crud("DELETE", path, user).status_code == 204
    service.age_holds()  # what is cancelled is free once it has settled
    second = service.checkout(user)
    assert second.status_code == 201
    assert second.get_json()["order_id"] != first.get_json()["order_id"]
    check_replay(second, service.checkout(user))


def test_cart_is_kept_longer(service: Service, user: str, first: TestResponse) -> None:
    # A header's key is forgotten then; the order that exists is not.
    service.rows(
        "UPDATE idempotency_records SET created_at = created_at - interval '9 days',"
        " expires_at = expires_at - interval '9 days'"
    )
    service.sweep()
    check_replay(first, service.checkout(user))


def test_cart_that_was_repaired_is_no_key(service: Service, user: str) -> None:
    service.sandbox.add_to_cart(user, catalogue.TEAPOT, 6)
    assert service.checkout(user).status_code == 409
    assert service.rows("SELECT 1 FROM idempotency_records") == []
    assert service.checkout(user).status_code == 201
