"""POST /api/orders/ and GET /api/orders/{id}/."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.local.sandbox.catalogue import POTTERY
from tests.support import bodies
from tests.support.observed import (
    announced,
    history,
    nothing_written,
    problem,
    refused_field,
)
from tests.support.service import Service, new_user
from tests.support.shared import service_of_file

service = pytest.fixture(service_of_file, scope="module")


def test_order_by_hand_answers_with_the_order(service: Service, user: str) -> None:
    first = service.sandbox.add_article(price="19.99")
    second = service.sandbox.add_article(price=None, base_price="1.005")
    body = {
        "metadata": {"note": "ring twice"},
        "items": [
            {"product_variation": first.upper(), "quantity": 2},
            {"product_variation": second},
        ],
    }
    response = service.crud("POST", "/api/orders/", user, json=body)
    assert response.status_code == 201, response.get_data(as_text=True)
    assert response.mimetype == "application/json"
    order = response.get_json()
    created_at = datetime.fromisoformat(order["created_at"])
    assert abs(datetime.now(UTC) - created_at) < timedelta(seconds=10)
    assert order["user_id"] == user
    assert order["is_approved"] is False
    assert order["metadata"] == {"note": "ring twice"}
    shown = [
        (i["product_variation"], i["quantity"], i["price"], i["status"], i["order"])
        for i in order["items"]
    ]
    assert shown == [(first, 2, 1999, 1, order["id"]), (second, 1, 101, 1, order["id"])]
    assert {item["shop_id"] for item in order["items"]} == {POTTERY}
    assert response.headers["Location"] == f"/api/orders/{order['id']}/"
    assert response.headers["ETag"] == '"1"'
    found = service.crud("GET", response.headers["Location"], user)
    assert (found.get_json(), found.headers["ETag"]) == (order, '"1"')


def test_empty_order_has_no_items_or_events(service: Service, user: str) -> None:
    response = service.crud("POST", "/api/orders/", user, json={})
    assert response.status_code == 201
    order = response.get_json()
    assert (order["metadata"], order["items"]) == ({}, [])
    assert announced(service, order["id"]) == []


def test_each_item_by_hand_is_announced_to_shops_and_then_taken_from_stock(
    service: Service, user: str
) -> None:
    articles = [service.sandbox.add_article(price="2.5") for _ in range(2)]
    lines = [{"product_variation": a, "quantity": 3} for a in articles]
    order = service.crud("POST", "/api/orders/", user, json={"items": lines}).get_json()
    expected = [
        {
            "event_type": "order.item.created",
            "order_item_id": str(item["id"]),
            "order_id": str(order["id"]),
            "shop_id": POTTERY,
            "product_id": item["product_id"],
            "product_variation": article,
            "quantity": 3,
            "price": 250,
            "status": 1,
            "user_id": user,
        }
        for item, article in zip(order["items"], articles, strict=True)
    ]
    lowering = bodies.order_created(
        user, [(a, 3) for a in articles], order_id=order["id"], cart_id=None
    )
    assert announced(service, order["id"]) == [*expected, lowering]


def test_history_begins_with_who_and_which_request(service: Service, user: str) -> None:
    body = {"items": [{"product_variation": service.sandbox.add_article()}]}
    headers = {"X-Request-ID": "the-first-1"}
    order = service.crud(
        "POST", "/api/orders/", user, json=body, headers=headers
    ).get_json()
    [item] = order["items"]
    steps = history(service, order["id"])
    assert steps == [(item["id"], None, 1, user, "the-first-1")]


def test_caller_sets_no_price_shop_or_product(service: Service, user: str) -> None:
    article = service.sandbox.add_article(price="5.00")
    forged = {
        "id": 77,
        "order": 78,
        "status": 3,
        "price": 1,
        "shop_id": new_user(),
        "product_id": new_user(),
    }
    body = {
        "id": 79,
        "is_approved": True,
        "created_at": "1999-01-01T00:00:00Z",
        "items": [{"product_variation": article, **forged}],
    }
    order = service.crud("POST", "/api/orders/", user, json=body).get_json()
    [item] = order["items"]
    assert (item["price"], item["status"], item["shop_id"]) == (500, 1, POTTERY)
    assert item["product_id"] == "b" + article[1:]
    assert item["order"] == order["id"]
    assert order["is_approved"] is False
    assert not order["created_at"].startswith("1999")
    assert {order["id"], item["id"]}.isdisjoint({77, 78, 79})


def test_variation_twice_is_one_item_of_the_stock(service: Service, user: str) -> None:
    article = service.sandbox.add_article(amount=5)
    line = {"product_variation": article, "quantity": 2}
    order = service.crud(
        "POST", "/api/orders/", user, json={"items": [line, line]}
    ).get_json()
    assert [item["quantity"] for item in order["items"]] == [4]
    over = {"items": [line, line, line]}
    response = service.crud("POST", "/api/orders/", user, json=over)
    problem(response, 409, "item-unavailable")


def test_own_user_id_in_body_is_taken_in_any_case(service: Service, user: str) -> None:
    response = service.crud("POST", "/api/orders/", user, json={"user_id": user})
    assert response.status_code == 201
    shouted = {"user_id": user.upper()}
    response = service.crud("POST", "/api/orders/", user, json=shouted)
    assert response.status_code == 201
    assert response.get_json()["user_id"] == user


def test_somebody_elses_user_id_in_the_body_is_403(service: Service, user: str) -> None:
    with nothing_written(service):
        response = service.crud(
            "POST", "/api/orders/", user, json={"user_id": new_user()}
        )
        problem(response, 403, "forbidden")


@pytest.mark.parametrize(
    ("article", "reason"),
    [
        ({"is_active": False}, "inactive"),
        ({"shop_id": None}, "invalid_shop"),
        ({"price": None, "base_price": None}, "invalid_data"),
        ({"amount": 0}, "out_of_stock"),
        ({"amount": -3}, "out_of_stock"),
        ({"amount": 1}, "insufficient_stock"),
        ({"has_product": False}, "product_not_found"),
        ({"has_product_id": False}, "invalid_data"),
    ],
    ids=str,
)
def test_what_cannot_be_sold_is_409_with_the_reason_and_nothing_is_written(
    service: Service, user: str, article: dict[str, Any], reason: str
) -> None:
    order = service.ordered(user)
    good = service.sandbox.add_article()
    bad = service.sandbox.add_article(**article)
    lines = [{"product_variation": v, "quantity": 2} for v in (good, bad)]
    with nothing_written(service):
        for path, body in (
            ("/api/orders/", {"items": lines}),
            ("/api/order-items/", lines[1] | {"order": order["id"]}),
        ):
            told = problem(
                service.crud("POST", path, user, json=body), 409, "item-unavailable"
            )
            assert (told["reason"], told["product_variation"]) == (reason, bad), path


def test_every_absent_variation_is_named_by_its_place(
    service: Service, user: str
) -> None:
    known = service.sandbox.add_article()
    sold_out = service.sandbox.add_article(amount=0)
    unknown = [new_user(), new_user()]
    variations = [known, unknown[0], sold_out, unknown[1], unknown[0]]
    body = {"items": [{"product_variation": each} for each in variations]}
    with nothing_written(service):
        response = service.crud("POST", "/api/orders/", user, json=body)
    assert problem(response, 400, "invalid-request")["errors"] == {
        f"items[{n}].product_variation": [f"{variations[n]} does not exist"]
        for n in (1, 3, 4)
    }


def test_metadata_is_taken_up_to_its_limits(service: Service, user: str) -> None:
    metadata = {f"{n:>040}": "😀" * 500 for n in range(50)}
    response = service.crud("POST", "/api/orders/", user, json={"metadata": metadata})
    assert response.status_code == 201
    found = service.crud("GET", response.headers["Location"], user).get_json()
    assert found["metadata"] == metadata


def test_more_than_200_lines_are_refused(service: Service, user: str) -> None:
    service.sandbox.forget_calls()
    lines = [{"product_variation": new_user()}] * 201
    response = service.crud("POST", "/api/orders/", user, json={"items": lines})
    refused_field(response, "items")
    assert service.sandbox.calls_to("product") == []
