"""Checkouts and other POSTs at the same moment: one order, one set of events."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest
from werkzeug.test import TestResponse

from common import wiring
from infra.local.sandbox import catalogue
from tests.support.parallel import at_once, checkout_sender, sender
from tests.support.service import Service, new_user

ROUNDS = 10
CALLERS = 20
KEY = {"Idempotency-Key": "the-same"}


def check_equal_or_in_flight(responses: Sequence[TestResponse]) -> TestResponse:
    """Check for one first answer and replays of it, or honest 409s; return the first.

    Honest: the very same request is in flight, try again soon.
    """
    [first] = [
        response
        for response in responses
        if response.status_code == 201
        and "Idempotency-Replayed" not in response.headers
    ]
    for response in responses:
        if response.status_code == 409:
            assert response.get_json()["type"] == "/problems/request-in-flight"
            assert int(response.headers["Retry-After"]) >= 1
            continue
        assert response.status_code == 201, response.get_data(as_text=True)
        assert response.get_data() == first.get_data()
        assert response.headers["Location"] == first.headers["Location"]
    return first


def count(service: Service, table: str) -> int:
    return len(service.rows(f"SELECT 1 FROM {table}"))


def test_two_checkouts_of_one_cart_make_one_order(service: Service) -> None:
    for number in range(1, ROUNDS + 1):
        user = new_user()
        for _ in range(3):
            service.sandbox.add_to_cart(user, service.sandbox.add_article())
        send = checkout_sender(service, user)

        first, second = at_once([send, send])

        assert {first.status_code, second.status_code} == {200, 201}
        assert first.get_data() == second.get_data()
        assert count(service, "orders") == number
        assert count(service, "order_items") == 3 * number
        assert count(service, "order_history") == (3 + 1) * number
    service.sweep()
    told = Counter(event.type for event in service.sandbox.events)
    assert told == {"order.item.created": 3 * ROUNDS, "order.created": ROUNDS}


@pytest.mark.parametrize("has_keys", [False, True], ids=["no keys", "a key each"])
def test_many_checkouts_are_one(service: Service, user: str, *, has_keys: bool) -> None:
    service.sandbox.add_to_cart(user, catalogue.MUG)
    keys = [{"Idempotency-Key": f"k-{n}"} if has_keys else {} for n in range(CALLERS)]
    calls = [checkout_sender(service, user, **key) for key in keys]
    responses = at_once(calls)
    statuses = Counter(response.status_code for response in responses)
    assert statuses == {201: 1, 200: CALLERS - 1}
    assert len({response.get_data() for response in responses}) == 1
    assert count(service, "orders") == 1
    again = at_once(calls)
    assert {response.get_data() for response in again} == {responses[0].get_data()}
    service.sweep()
    assert len(service.sandbox.events_of("order.created")) == 1


def test_different_callers_do_not_hold_each_other_up(service: Service) -> None:
    users = [new_user() for _ in range(CALLERS)]
    for user in users:
        service.sandbox.add_to_cart(user, catalogue.MUG)
    responses = at_once([checkout_sender(service, user) for user in users])
    assert [response.status_code for response in responses] == [201] * CALLERS
    assert len({response.get_json()["order_id"] for response in responses}) == CALLERS


@pytest.mark.parametrize(
    ("kind", "items", "events"), [("checkout", 1, 2), ("order", 1, 2), ("item", 2, 4)]
)
def test_twenty_requests_with_one_key_are_done_once_and_answered_alike(
    service: Service, user: str, kind: str, items: int, events: int
) -> None:
    line = {"product_variation": catalogue.MUG, "quantity": 2}
    if kind == "checkout":
        service.sandbox.add_to_cart(user, catalogue.MUG)
        send = checkout_sender(service, user, **KEY)
    else:
        path, body = "/api/orders/", {"items": [line]}
        if kind == "item":
            path = "/api/order-items/"
            body = {"order": service.ordered(user, 1)["id"], **line}
        function = "orders_crud"
        send = sender(service, function, "POST", path, user, headers=KEY, json=body)
    check_equal_or_in_flight(at_once([send] * CALLERS))
    assert count(service, "orders") == 1
    assert count(service, "order_items") == items
    service.sweep()
    assert len(service.sandbox.events) == events


def test_one_key_for_two_different_requests_at_once_serves_one_and_refuses_the_other(
    service: Service, user: str
) -> None:
    path = "/api/orders/"
    for number in range(ROUNDS):
        headers = {"Idempotency-Key": f"k-{number}"}
        first, second = at_once(
            [
                sender(
                    service,
                    "orders_crud",
                    "POST",
                    path,
                    user,
                    headers=headers,
                    json={"metadata": {"name": name}},
                )
                for name in ("one", "other")
            ]
        )
        assert sorted([first.status_code, second.status_code]) == [201, 422]
    assert count(service, "orders") == ROUNDS


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Have the interpreter change threads as often as it can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("restless_threads")
@pytest.mark.parametrize(
    "build", [wiring.engine, wiring.relay, wiring.product, wiring.shopcart]
)
def test_first_callers_of_an_instance_share_what_is_built_for_them(
    service: Service, build: Callable[[], object]
) -> None:
    service.client("create_order_from_cart")
    for _ in range(ROUNDS):
        service.restart()
        service.client("create_order_from_cart")
        assert len({id(built) for built in at_once([build] * CALLERS)}) == 1
