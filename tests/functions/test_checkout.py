"""Checkout over HTTP, when all is well: the answer, the order, its prices."""

import re
from typing import Any

from infra.local.sandbox import catalogue
from tests.support.service import Service, new_user

PATH = "/api/orders-from-shopcart/"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def test_answer_is_the_contracts_to_the_letter(service: Service, user: str) -> None:
    service.sandbox.add_to_cart(user, catalogue.MUG, 2)
    service.sandbox.add_to_cart(user, catalogue.NAIL, 5)

    response = service.checkout(user)

    assert response.status_code == 201
    body = response.get_json()
    order_id = body["order_id"]
    first, second = (item["id"] for item in body["order"]["items"])
    created_at = body["order"]["created_at"]
    assert MOMENT.fullmatch(created_at)
    assert {type(order_id), type(first), type(second)} == {int}
    assert first != second
    assert body == {
        "message": "Order created successfully",
        "order_id": order_id,
        "items_count": 2,
        "total_quantity": 7,
        "order": {
            "id": order_id,
            "user_id": user,
            "created_at": created_at,
            "is_approved": False,
            "metadata": {},
            "items": [
                {
                    "id": first,
                    "order": order_id,
                    "status": 1,
                    "quantity": 2,
                    "product_variation": catalogue.MUG,
                    "product_id": "b" + catalogue.MUG[1:],
                    "shop_id": catalogue.POTTERY,
                    "price": 1999,
                },
                {
                    "id": second,
                    "order": order_id,
                    "status": 1,
                    "quantity": 5,
                    "product_variation": catalogue.NAIL,
                    "product_id": "b" + catalogue.NAIL[1:],
                    "shop_id": catalogue.WORKSHOP,
                    "price": 101,
                },
            ],
        },
    }


def test_headers_name_the_order_and_its_version(service: Service, user: str) -> None:
    service.sandbox.add_to_cart(user, catalogue.MUG)

    response = service.checkout(user, X_Request_ID="shop-front.7")

    order_id = response.get_json()["order_id"]
    assert response.headers["Location"] == f"/api/orders/{order_id}/"
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Request-ID"] == "shop-front.7"
    assert "Idempotency-Replayed" not in response.headers
    found = service.crud("GET", response.headers["Location"], user)
    assert response.headers["ETag"] == found.headers["ETag"]
    assert response.get_json()["order"] == found.get_json()


BODIES: list[dict[str, Any]] = [
    {"data": b""},
    {"json": {"user_id": "somebody else", "items": [{"quantity": 0}]}},
    {"data": b'{"broken', "content_type": "application/json"},
    {"data": b"<cart/>", "content_type": "application/xml"},
    {"data": b"\xff\x00", "content_type": "application/octet-stream"},
]


def test_body_is_ignored(service: Service) -> None:
    for body in BODIES:
        user = new_user()
        service.sandbox.add_to_cart(user, catalogue.CANDLE)  # has no `is_active`
        made = service.call("create_order_from_cart", "POST", PATH, user=user, **body)
        assert made.status_code == 201


def test_without_lines_nothing_is_asked_or_written(service: Service, user: str) -> None:
    assert service.checkout(user).status_code == 404
    line = service.sandbox.add_to_cart(user, catalogue.MUG)
    with service.sandbox.store.transaction() as connection:
        connection.execute("DELETE FROM cart_line WHERE id = ?", (line,))
    assert service.checkout(user).status_code == 400
    assert service.sandbox.calls_to("product") == []
    assert service.rows("SELECT id FROM orders") == []


def test_only_the_callers_cart_is_ordered(service: Service, user: str) -> None:
    service.sandbox.add_to_cart(new_user(), catalogue.TEAPOT, 4)
    service.sandbox.add_to_cart(user, catalogue.MUG, 1)
    [item] = service.checkout(user).get_json()["order"]["items"]
    assert item["product_variation"] == catalogue.MUG


def test_trap_cart_holds_a_variation_twice(service: Service, user: str) -> None:
    article = service.sandbox.add_article(amount=7)
    other = service.sandbox.add_article()
    for variation, quantity in ((article, 3), (other, 1), (article, 4)):
        service.sandbox.add_to_cart(user, variation, quantity)

    body = service.checkout(user).get_json()

    ordered = [(i["product_variation"], i["quantity"]) for i in body["order"]["items"]]
    assert ordered == [(article, 7), (other, 1)]
    assert (body["items_count"], body["total_quantity"]) == (2, 8)


def test_trap_stock_is_amount_not_count_or_limit(service: Service, user: str) -> None:
    # The sandbox answers "count": 999 and "amount_limit": 1 for everything.
    article = service.sandbox.add_article(amount=5)
    service.sandbox.add_to_cart(user, article, 5)
    assert service.checkout(user).status_code == 201
    service.sandbox.add_to_cart(user, article, 1)
    assert service.checkout(user).status_code == 409


def test_history_of_each_item_begins_with_checkout(service: Service, user: str) -> None:
    service.sandbox.add_to_cart(user, catalogue.MUG)
    response = service.checkout(user, X_Request_ID="r-1")
    order = response.get_json()["order"]
    row, _ = service.rows("SELECT * FROM order_history ORDER BY id")
    assert (row["order_id"], row["item_id"]) == (order["id"], order["items"][0]["id"])
    assert (row["from_status"], row["to_status"]) == (None, 1)
    assert str(row["changed_by"]) == user
    assert row["request_id"] == "r-1"
