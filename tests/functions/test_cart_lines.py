"""A cart line is ordered once, whatever has become of its cart since."""

import json
from collections import Counter
from collections.abc import Callable

import pytest
import requests
from werkzeug.test import TestResponse

from infra.local.sandbox import catalogue
from tests.support.observed import nothing_written, problem
from tests.support.parallel import at_once, checkout_sender
from tests.support.service import Service, new_user

KEY = {"Idempotency_Key": "k"}
CALLERS = 12


def orders(service: Service) -> int:
    return len(service.rows("SELECT id FROM orders"))


def check_replay(first: TestResponse, second: TestResponse) -> None:
    assert second.status_code == 200, second.get_data(as_text=True)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.get_data() == first.get_data()
    assert second.headers["Location"] == first.headers["Location"]


def check_settling(response: TestResponse, lines: list[int], order_id: int) -> None:
    told = problem(response, 409, "cart-settling")
    assert told["ordered"] == [
        {"cart_item_id": line, "order_id": order_id} for line in lines
    ]
    assert int(response.headers["Retry-After"]) >= 1


def change(service: Service, user: str, method: str, line: int, quantity: int) -> None:
    url = f"{service.environ['SHOPCART_SERVICE']}/api/items/{line}"
    body = {"quantity": quantity}
    changed = requests.request(
        method, url, headers={"X-User-ID": user}, json=body, timeout=30
    )
    assert changed.ok


def age(service: Service, seconds: int) -> None:
    service.rows(
        "UPDATE orders SET created_at = now() - make_interval(secs => CAST(:s AS int))",
        s=seconds,
    )


@pytest.mark.parametrize("key", [{}, KEY], ids=["no key", "a key"])
def test_a_changed_cart_clicked_before_the_order_was_taken_out_of_it(
    service: Service, user: str, key: dict[str, str]
) -> None:
    """Three wanted: six were ordered once."""
    service.sandbox.sink.pause("shopcart")
    line = service.sandbox.add_to_cart(user, catalogue.MUG, 3)
    first = service.checkout(user)
    assert first.status_code == 201
    service.sandbox.add_to_cart(user, catalogue.TEAPOT)
    before = service.sandbox.cart(user)
    with nothing_written(service):
        second = service.checkout(user, **key)
    check_settling(second, [line], first.get_json()["order_id"])
    assert service.sandbox.cart(user) == before
    [ordered] = service.rows("SELECT sum(quantity) AS pieces FROM order_items")
    assert ordered["pieces"] == 3
    service.sandbox.sink.resume("shopcart")
    service.sandbox.deliver()
    check_replay(first, service.checkout(user, **key))  # not kept: the key is free
    service.sandbox.add_to_cart(user, catalogue.TEAPOT)
    assert service.checkout(user).status_code == 201


@pytest.mark.parametrize("key", [{}, KEY], ids=["no key", "a key"])
def test_a_real_double_click_is_one_order_although_the_cart_is_emptied_between(
    service: Service, user: str, key: dict[str, str]
) -> None:
    service.sandbox.add_to_cart(user, catalogue.MUG, 2)
    first = service.checkout(user)
    service.sandbox.deliver()
    cart = service.sandbox.cart(user)
    assert cart is not None
    assert cart["items"] == []
    check_replay(first, service.checkout(user, **key))
    assert orders(service) == 1
    age(service, 61)
    later = service.checkout(user, **key)
    if key:
        check_replay(first, later)  # kept under it
    else:
        problem(later, 400, "empty-cart")


def test_an_emptied_cart_stands_for_its_newest_order_for_a_minute_only(
    service: Service, user: str
) -> None:
    service.ordered(user, 1)
    age(service, 50)
    service.sandbox.empty_cart(user)
    service.sandbox.add_to_cart(user, catalogue.MUG)
    newest = service.checkout(user)
    service.sandbox.empty_cart(user)
    service.crud("POST", "/api/orders/", user, json={})  # from no cart
    check_replay(newest, service.checkout(user))
    age(service, 61)
    with nothing_written(service):
        problem(service.checkout(user), 400, "empty-cart")


def test_an_emptied_cart_of_a_deleted_order_or_of_another_caller_is_empty(
    service: Service, user: str
) -> None:
    order = service.ordered(user, 1)
    service.sandbox.empty_cart(user)
    other = new_user()
    service.sandbox.add_to_cart(other, catalogue.MUG)
    service.sandbox.empty_cart(other)
    problem(service.checkout(other), 400, "empty-cart")
    path = f"/api/orders/{order['id']}/"
    assert service.crud("DELETE", path, user).status_code == 204
    problem(service.checkout(user), 400, "empty-cart")


CHANGES: dict[str, Callable[[Service, str, list[int]], list[int]]] = {
    # What is done to a cart of two ordered lines, and which of them are in it then.
    "a line is added": lambda service, user, lines: (
        service.sandbox.add_to_cart(user, catalogue.MUG),
        lines,
    )[1],
    "one is raised": lambda service, user, lines: (
        change(service, user, "PUT", lines[0], 4),
        lines,
    )[1],
    "one is lowered": lambda service, user, lines: (
        change(service, user, "PUT", lines[0], 1),
        lines,
    )[1],
    "one is removed": lambda service, user, lines: (
        change(service, user, "DELETE", lines[0], 1),
        lines[1:],
    )[1],
    "a repair is needed": lambda service, user, lines: (
        service.sandbox.add_to_cart(user, catalogue.RUG, 2),
        lines,
    )[1],
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("key", [{}, KEY], ids=["no key", "a key"])
def test_a_cart_that_is_ordered_in_part_is_settling_and_left_as_it_is(
    service: Service, user: str, what: str, key: dict[str, str]
) -> None:
    service.sandbox.sink.pause("shopcart")
    # Two lines of one variation are one item, and two lines.
    lines = [service.sandbox.add_to_cart(user, catalogue.MUG, 2) for _ in range(2)]
    first = service.checkout(user)
    assert first.status_code == 201
    left = CHANGES[what](service, user, lines)
    before = service.sandbox.cart(user)
    with nothing_written(service):
        response = service.checkout(user, **key)
    check_settling(response, left, first.get_json()["order_id"])
    assert service.sandbox.cart(user) == before


def test_a_deleted_order_frees_its_lines(service: Service, user: str) -> None:
    service.sandbox.sink.pause("shopcart")
    service.sandbox.add_to_cart(user, catalogue.MUG)
    first = service.checkout(user).get_json()["order"]
    service.sandbox.add_to_cart(user, catalogue.MUG)
    problem(service.checkout(user), 409, "cart-settling")
    path = f"/api/orders/{first['id']}/"
    assert service.crud("DELETE", path, user).status_code == 204
    assert service.rows("SELECT 1 FROM ordered_lines") == []
    assert service.checkout(user).status_code == 201
    assert len(service.rows("SELECT 1 FROM ordered_lines")) == 2


def test_lines_of_two_callers_with_the_same_ids_are_two(
    service: Service, user: str
) -> None:
    line = service.sandbox.add_to_cart(user, catalogue.MUG)
    other = service.ordered(new_user(), 1)
    service.rows(
        "UPDATE ordered_lines SET line_id = :line WHERE order_id = :id",
        line=line,
        id=other["id"],
    )
    assert service.checkout(user).status_code == 201


@pytest.mark.parametrize("has_keys", [False, True], ids=["no keys", "a key each"])
def test_of_checkouts_at_once_that_share_a_line_one_makes_an_order(
    service: Service, user: str, *, has_keys: bool
) -> None:
    """Each reads the cart with another quantity of its line, or with a line more."""
    article = service.sandbox.add_article(amount=1000)
    shared = service.sandbox.add_to_cart(user, article)
    cart = service.sandbox.cart(user)
    assert cart is not None
    for extra in range(CALLERS):  # whichever comes gets the next body
        lines = [dict(cart["items"][0])]
        if extra % 2:
            lines[0]["quantity"] = 1 + extra
        else:
            more = {"id": 10_000 + extra, "product_variation_id": article}
            lines.append(more | {"quantity": 1})
        body = cart | {"items": lines}
        service.sandbox.fault("shopcart", body=json.dumps(body), times=1)
    keys = [{"Idempotency-Key": f"k-{n}"} if has_keys else {} for n in range(CALLERS)]
    responses = at_once([checkout_sender(service, user, **key) for key in keys])
    counts = Counter(response.status_code for response in responses)
    assert counts == {201: 1, 409: CALLERS - 1}
    for response in responses:
        if response.status_code == 409:
            told = response.get_json()
            assert told["type"] == "/problems/cart-settling"
            assert [each["cart_item_id"] for each in told["ordered"]] == [shared]
    assert orders(service) == 1
