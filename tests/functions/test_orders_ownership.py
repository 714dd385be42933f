"""Somebody else's order answers like an absent one, to the byte."""

from typing import Any

import pytest

from tests.support.observed import everything, problem
from tests.support.service import Service, new_user

# On an empty database the first order is 1, and its items are 1 and 2.
REQUESTS: list[tuple[str, str, Any]] = [
    ("GET", "/api/orders/1/", None),
    ("HEAD", "/api/orders/1/", None),
    ("PATCH", "/api/orders/1/", {"metadata": {"a": "1"}}),
    ("PATCH", "/api/orders/1/", {"is_approved": True}),
    ("PATCH", "/api/orders/1/", {"is_approved": False}),
    ("PATCH", "/api/orders/1/", {}),
    ("DELETE", "/api/orders/1/", None),
    ("GET", "/api/order-items/1/", None),
    ("HEAD", "/api/order-items/1/", None),
    ("PATCH", "/api/order-items/1/", {"quantity": 3}),
    ("PATCH", "/api/order-items/1/", {"quantity": 1}),
    ("PATCH", "/api/order-items/1/", {"status": 4}),
    ("PATCH", "/api/order-items/1/", {"status": 2}),
    ("PATCH", "/api/order-items/1/", {"price": 1}),
    ("PATCH", "/api/order-items/1/", {}),
    ("DELETE", "/api/order-items/1/", None),
    ("GET", "/api/order-items/?order=1", None),
    (
        "POST",
        "/api/order-items/",
        {"order": 1, "product_variation": "a0000000-0000-4000-8000-000000000001"},
    ),
]


@pytest.mark.parametrize("header", [None, "If-Match", "If-None-Match"])
def test_a_stranger_cannot_tell_an_order_from_an_absent_one(
    service: Service, user: str, header: str | None
) -> None:
    stranger = new_user()
    headers = {"X-Request-ID": "same"} | ({header: '"7"'} if header else {})

    def answers() -> list[tuple[int, bytes, dict[str, str]]]:
        seen = []
        for method, path, body in REQUESTS:
            kwargs = {} if body is None else {"json": body}
            response = service.crud(method, path, stranger, headers=headers, **kwargs)
            shown = (response.status_code, response.data, dict(response.headers))
            seen.append(shown)
        return seen

    absent = answers()
    order = service.ordered(user, 2, 1)
    assert (order["id"], [item["id"] for item in order["items"]]) == (1, [1, 2])
    before = everything(service)
    for request, was, now in zip(REQUESTS, absent, answers(), strict=True):
        assert now == was, request
    assert everything(service) == before


def test_a_strangers_404_is_a_problem_that_tells_nothing(
    service: Service, user: str
) -> None:
    order = service.ordered(user)
    path = f"/api/orders/{order['id']}/"
    body = problem(service.crud("GET", path, new_user()), 404, "not-found")
    assert body["detail"] == "There is nothing here."
    assert set(body) == {"type", "title", "status", "detail", "instance", "error"}


def test_an_approved_order_of_somebody_else_is_404_for_a_new_item_not_409(
    service: Service, user: str
) -> None:
    order = service.ordered(user)
    service.move(order["items"][0]["id"], 3)
    service.trigger_approval(order["id"])
    body = {"order": order["id"], "product_variation": service.sandbox.add_article()}
    response = service.crud("POST", "/api/order-items/", new_user(), json=body)
    problem(response, 404, "not-found")
