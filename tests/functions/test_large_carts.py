"""Carts of many lines: what they ask of the product service, and of this one."""

import sys
from types import FrameType

import pytest

from common.clients.connections import MAX_CONNECTIONS
from common.domain.model import MAX_ITEMS
from tests.support.service import Service, new_user

PATH = "/api/orders-from-shopcart/"


@pytest.mark.timeout(120)
def test_a_cart_of_as_many_products_as_an_order_holds_is_ordered(
    service: Service, user: str
) -> None:
    service.set(UPSTREAM_DEADLINE_SECONDS="60")
    service.fill_cart(user, MAX_ITEMS)
    service.sandbox.forget_calls()
    response = service.checkout(user)
    assert response.status_code == 201, response.get_data(as_text=True)[:500]
    assert response.get_json()["items_count"] == MAX_ITEMS
    assert len(service.sandbox.calls_to("product")) == MAX_ITEMS
    assert service.sandbox.most_at_once("product") <= MAX_CONNECTIONS


def test_two_waits_are_enough_for_a_cart_of_128_lines(
    service: Service, user: str
) -> None:
    service.fill_cart(user, MAX_CONNECTIONS)
    service.set(UPSTREAM_DEADLINE_SECONDS="60")
    service.sandbox.fault("shopcart", delay_seconds=0.5)
    # Long enough for all calls to arrive before the first is answered.
    service.sandbox.fault("product", delay_seconds=4)
    assert service.checkout(user).status_code == 201
    assert service.sandbox.waits("shopcart", "product") == 2
    assert service.sandbox.most_at_once("product") == MAX_CONNECTIONS


@pytest.mark.parametrize("query", ["", "?validate_only=true"])
def test_four_times_the_lines_are_about_four_times_the_work(
    service: Service, query: str
) -> None:
    def work(lines: int) -> int:
        """Return how many functions are called to check such a cart out."""
        user, calls = new_user(), 0
        service.fill_cart(user, lines)

        def count(_frame: FrameType, event: str, _argument: object) -> None:
            nonlocal calls
            calls += event in {"call", "c_call"}

        client = service.client("create_order_from_cart")
        sys.setprofile(count)
        try:
            response = client.post(PATH + query, headers={"X-User-ID": user})
        finally:
            sys.setprofile(None)
        assert response.status_code in {200, 201}
        return calls

    service.set(UPSTREAM_DEADLINE_SECONDS="60")
    work(100)  # connects, and prepares statements
    assert work(400) < 6 * work(100)  # squares would be 16 times
