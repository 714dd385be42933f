"""What is sold is not sold again, however late the product service is to lower stock.

Its consumer waits for `sandbox.deliver()`: until then it answers with what there was.
"""

from collections import Counter
from typing import Any

import pytest
from werkzeug.test import TestResponse

from common import wiring
from common.messaging import dead_letters
from common.operations.lookup import letters
from infra.local.sandbox.catalogue import MUG
from tests.support import bodies
from tests.support.observed import announced, nothing_written
from tests.support.parallel import at_once, checkout_sender, sender
from tests.support.service import Service, new_user

BUYERS = 20
SETTLE = 5
KEY = {"Idempotency-Key": "k"}


def check_settling(response: TestResponse, article: str) -> None:
    body = response.get_json()
    assert (response.status_code, body["type"]) == (409, "/problems/stock-settling")
    assert body["product_variations"] == [article]
    assert int(response.headers["Retry-After"]) >= SETTLE


def buyers(service: Service, article: str, count: int, quantity: int = 1) -> list[str]:
    users = [new_user() for _ in range(count)]
    for user in users:
        service.sandbox.add_to_cart(user, article, quantity)
    return users


def held(service: Service) -> list[tuple[int, str]]:
    """Return the quantity and the state of each hold."""
    rows = service.rows(
        "SELECT quantity, CASE WHEN released_at IS NOT NULL THEN 'released'"
        " WHEN confirmed_at IS NOT NULL THEN 'confirmed' ELSE 'open' END AS state"
        " FROM stock_holds ORDER BY id"
    )
    return [(row["quantity"], row["state"]) for row in rows]


@pytest.mark.parametrize("stock", [1, 7])
def test_of_many_buyers_as_many_are_served_as_there_are_pieces(
    service: Service, stock: int
) -> None:
    article = service.sandbox.add_article(amount=stock)
    users = buyers(service, article, BUYERS)
    carts = {user: service.sandbox.cart(user) for user in users}
    service.sandbox.forget_calls()

    responses = at_once([checkout_sender(service, user) for user in users])

    counts = Counter(response.status_code for response in responses)
    assert counts == {201: stock, 409: BUYERS - stock}
    for response in responses:
        if response.status_code == 409:
            check_settling(response, article)
    assert {user: service.sandbox.cart(user) for user in users} == carts
    methods = {call.method for call in service.sandbox.calls_to("shopcart")}
    assert methods == {"GET"}
    assert len(service.rows("SELECT FROM orders")) == stock
    service.sandbox.deliver()
    assert service.sandbox.stock(article) == 0


def test_carts_with_their_lines_in_opposite_order_are_both_served(
    service: Service,
) -> None:
    articles = [service.sandbox.add_article(amount=1000) for _ in range(8)]
    users = [new_user() for _ in range(10)]
    for n, user in enumerate(users):
        for article in articles if n % 2 else reversed(articles):
            service.sandbox.add_to_cart(user, article)
    responses = at_once([checkout_sender(service, user) for user in users])
    assert [response.status_code for response in responses] == [201] * len(users)


@pytest.mark.parametrize("amount", [2, 3])
def test_a_double_click_with_just_enough_in_stock_is_one_order(
    service: Service, amount: int
) -> None:
    for _ in range(10):
        [user] = buyers(service, service.sandbox.add_article(amount=amount), 1, 2)
        send = checkout_sender(service, user)
        first, second = at_once([send, send])
        assert {first.status_code, second.status_code} == {200, 201}
        assert first.get_data() == second.get_data()


def test_what_is_left_can_be_bought_once_it_has_settled(service: Service) -> None:
    article = service.sandbox.add_article(amount=10)
    first, second = buyers(service, article, 2, 4)
    assert service.checkout(first, **KEY).status_code == 201
    service.sandbox.deliver()  # six are left
    with nothing_written(service):
        # They may be two: nobody knows yet whether the four are in the six.
        service.sandbox.add_to_cart(second, article, 2)
        check_settling(service.checkout(second, **KEY), article)
    service.age_holds()
    # What changed nothing is no answer to a key.
    assert service.checkout(second, **KEY).status_code == 201


def test_a_consumer_that_is_down_does_not_oversell(service: Service) -> None:
    article = service.sandbox.add_article(amount=10)
    first, second = buyers(service, article, 2, 6)
    assert service.checkout(first).status_code == 201
    service.age_holds(10 * 60)
    check_settling(service.checkout(second), article)
    service.sandbox.deliver()
    service.age_holds()
    # The product service's own word is certain: the cart is repaired.
    refused = service.checkout(second)
    assert refused.get_json()["type"] == "/problems/cart-repaired"
    assert service.checkout(second).status_code == 201


def test_a_broker_that_is_away_keeps_holds_and_nobody_waiting(
    service: Service,
) -> None:
    service.sandbox.fault("sink", status=503)
    article = service.sandbox.add_article(amount=10)
    first, second, third = buyers(service, article, 3, 4)
    assert service.checkout(first).status_code == 201
    service.age_holds(24 * 3600)
    assert service.checkout(second).status_code == 201
    check_settling(service.checkout(third), article)
    assert held(service) == [(4, "open"), (4, "open")]


# What becomes of a hold.


def test_a_hold_is_confirmed_with_its_event(service: Service) -> None:
    service.ordered(new_user(), 3, 5)
    assert held(service) == [(3, "confirmed"), (5, "confirmed")]


def test_a_sweep_confirms_what_a_request_could_not_send(service: Service) -> None:
    service.sandbox.fault("sink", status=503)
    service.ordered(new_user(), 3)
    service.ordered(new_user(), 5)
    assert held(service) == [(3, "open"), (5, "open")]
    service.sandbox.mend()
    service.rows("UPDATE outbox SET available_at = now()")
    service.restart()
    service.sweep()
    assert held(service) == [(3, "confirmed"), (5, "confirmed")]


def test_a_cancelled_item_is_released(service: Service, user: str) -> None:
    first, second, third, _ = service.ordered(user, 1, 2, 3, 4)["items"]
    path = f"/api/order-items/{first['id']}/"
    assert service.crud("PATCH", path, user, json={"status": 4}).status_code == 200
    assert service.move(second["id"], 4).status_code == 200
    path = f"/api/order-items/{third['id']}/"
    assert service.crud("DELETE", path, user).status_code == 204
    assert held(service) == [
        (1, "released"),
        (2, "released"),
        (3, "released"),
        (4, "confirmed"),
    ]


def test_a_deleted_order_is_released(service: Service, user: str) -> None:
    other = service.ordered(new_user(), 7)
    order = service.ordered(user, 1, 2)
    path = f"/api/orders/{order['id']}/"
    assert service.crud("DELETE", path, user).status_code == 204
    assert held(service) == [(7, "confirmed"), (1, "released"), (2, "released")]
    assert other["items"]


def test_other_changes_release_nothing(service: Service, user: str) -> None:
    [first, second] = service.ordered(user, 5, 6)["items"]
    path = f"/api/order-items/{second['id']}/"
    assert service.crud("PATCH", path, user, json={"quantity": 1}).status_code == 200
    for status in (2, 3):
        assert service.move(first["id"], status).status_code == 200
    # No event gives back what is less.
    assert held(service) == [(5, "confirmed"), (6, "confirmed")]


def test_what_was_cancelled_can_be_bought_though_the_broker_is_away(
    service: Service, user: str
) -> None:
    article = service.sandbox.add_article(amount=4)
    service.sandbox.add_to_cart(user, article, 4)
    service.sandbox.fault("sink", status=503)
    [item] = service.checkout(user).get_json()["order"]["items"]
    assert service.move(item["id"], 4).status_code == 200
    [other] = buyers(service, article, 1, 4)
    check_settling(service.checkout(other), article)
    service.age_holds()
    assert service.checkout(other).status_code == 201


@pytest.mark.parametrize(
    ("settle", "state"), [("replay", "confirmed"), ("discard", "released")]
)
def test_a_dead_letter_keeps_its_hold_until_an_operator_decides(
    service: Service, settle: str, state: str
) -> None:
    service.sandbox.fault("sink", status=422)
    service.ordered(new_user(), 3)
    for _ in range(2):
        service.rows("UPDATE outbox SET attempts = 19, available_at = now()")
        service.sweep()
    ids = letters.open_ids(wiring.engine())
    assert len(ids) == 2
    assert held(service) == [(3, "open")]
    service.sandbox.mend()
    for letter in ids:
        if settle == "discard":
            assert dead_letters.discard(wiring.engine(), letter)
        else:
            assert dead_letters.replay(wiring.engine(), letter, lambda *_: None)
    service.restart()
    service.sweep()
    assert held(service) == [(3, state)]


# What is ordered other than from a cart.


def lowered(service: Service, order_id: int) -> list[dict[str, Any]]:
    found = announced(service, order_id)
    return [body for body in found if body["event_type"] == "order.created"]


def test_an_order_by_hand_lowers_stock_and_leaves_the_cart(
    service: Service, user: str
) -> None:
    article = service.sandbox.add_article(amount=10)
    service.sandbox.add_to_cart(user, MUG)
    line = {"product_variation": article}
    body = {"items": [line | {"quantity": 3}, line | {"quantity": 1}]}
    order = service.crud("POST", "/api/orders/", user, json=body).get_json()
    [event] = lowered(service, order["id"])
    assert event == bodies.order_created(
        user, [(article, 4)], order_id=order["id"], cart_id=None
    )

    more = line | {"order": order["id"], "quantity": 2}
    assert service.crud("POST", "/api/order-items/", user, json=more).status_code == 201
    path = f"/api/order-items/{order['items'][0]['id']}/"
    for quantity in (6, 5):
        body = {"quantity": quantity}
        assert service.crud("PATCH", path, user, json=body).status_code == 200
    quantities = [
        event["data"]["items"][0]["quantity"] for event in lowered(service, order["id"])
    ]
    assert quantities == [4, 2, 2]
    service.sandbox.deliver()
    assert service.sandbox.stock(article) == 10 - 4 - 2 - 2
    cart = service.sandbox.cart(user)
    assert cart is not None
    assert len(cart["items"]) == 1


def test_an_empty_order_lowers_nothing(service: Service, user: str) -> None:
    order = service.crud("POST", "/api/orders/", user, json={}).get_json()
    assert announced(service, order["id"]) == []
    assert held(service) == []


@pytest.mark.parametrize("way", ["order", "item", "quantity"])
def test_by_hand_no_more_is_taken_than_others_have_left(
    service: Service, user: str, way: str
) -> None:
    article = service.sandbox.add_article(amount=5)
    line = {"product_variation": article, "quantity": 1}
    body = {"items": [line]}
    order = service.crud("POST", "/api/orders/", user, json=body).get_json()
    [other] = buyers(service, article, 1, 3)
    assert service.checkout(other).status_code == 201
    path, item = "/api/order-items/", order["items"][0]["id"]
    method, where, body = {
        "order": ("POST", "/api/orders/", {"items": [line | {"quantity": 2}]}),
        "item": ("POST", path, line | {"order": order["id"], "quantity": 2}),
        "quantity": ("PATCH", f"{path}{item}/", {"quantity": 3}),
    }[way]
    with nothing_written(service):
        check_settling(service.crud(method, where, user, json=body), article)
    less = {"order": {"items": [line]}, "item": {**body, "quantity": 1}}
    body = less.get(way, {"quantity": 2})
    assert service.crud(method, where, user, json=body).status_code in (200, 201)


def test_of_many_raises_at_once_no_more_is_taken_than_there_is(
    service: Service,
) -> None:
    article = service.sandbox.add_article(amount=10 + 4)
    sends = []
    for user in (new_user() for _ in range(10)):
        body = {"items": [{"product_variation": article, "quantity": 1}]}
        order = service.crud("POST", "/api/orders/", user, json=body).get_json()
        path = f"/api/order-items/{order['items'][0]['id']}/"
        json = {"quantity": 2}
        sends.append(sender(service, "orders_crud", "PATCH", path, user, json=json))
    counts = Counter(response.status_code for response in at_once(sends))
    assert counts == {200: 4, 409: 6}
