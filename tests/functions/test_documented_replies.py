"""Real answers of every operation, held against the API document.

Lives here: one path through each operation's successes, and the errors that differ in
shape. Not here: whether an answer is right, which is tested where the rule is.
"""

import uuid

from tests.support.documented import documented, validate
from tests.support.service import Service, new_user

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def test_checkout_answers_as_documented(service: Service, user: str) -> None:
    assert documented(service.checkout(user)).status_code == 404
    article = service.sandbox.add_article(amount=5)
    line = service.sandbox.add_to_cart(user, article, 9)
    service.sandbox.add_to_cart(user, new_user(), 1)
    repaired = documented(service.checkout(user))
    assert repaired.status_code == 409
    shape = {"$ref": "#/components/schemas/CartRepairedProblem"}
    validate(repaired.get_json(), shape)
    assert {d["cart_item_id"] for d in repaired.get_json()["details"]} > {line}

    assert documented(service.checkout(user, Idempotency_Key="k")).status_code == 201
    assert documented(service.checkout(user, Idempotency_Key="k")).status_code == 201
    assert documented(service.checkout(user)).status_code == 200
    assert documented(service.checkout(user, Idempotency_Key="é")).status_code == 400


def test_checkout_fails_as_documented(service: Service, user: str) -> None:
    assert documented(service.checkout("nobody")).status_code == 401
    service.sandbox.add_to_cart(user, service.sandbox.add_article(amount=5))
    service.sandbox.fault("product", status=500)
    assert documented(service.checkout(user)).status_code == 503


def test_orders_answer_as_documented(service: Service, user: str) -> None:
    article = service.sandbox.add_article(amount=100)
    lines = [{"product_variation": article, "quantity": 2}]
    key = {"Idempotency-Key": "k"}

    def call(method: str, path: str, **kwargs: object) -> int:
        response = documented(service.crud(method, path, user, **kwargs))
        return response.status_code

    body = {"items": lines, "metadata": {"a": "b"}}
    made = documented(
        service.crud("POST", "/api/orders/", user, json=body, headers=key)
    )
    assert made.status_code == 201
    path = f"/api/orders/{made.get_json()['id']}/"
    tag = made.headers["ETag"]
    assert call("POST", "/api/orders/", json=body, headers=key) == 201
    assert call("POST", "/api/orders/", json={}, headers=key) == 422
    assert call("POST", "/api/orders/", json={}) == 201
    assert call("POST", "/api/orders/", json={"items": 1}) == 400
    assert call("POST", "/api/orders/", json={"user_id": new_user()}) == 403
    assert call("POST", "/api/orders/", data="{}", content_type="text/plain") == 415
    assert call("POST", "/api/orders/", data="{" + " " * 2**20) == 413
    too_many = {"items": [lines[0] | {"quantity": 1000}]}
    assert call("POST", "/api/orders/", json=too_many) == 409

    assert call("GET", "/api/orders/") == 200
    assert call("GET", "/api/orders?limit=1&is_approved=false") == 200
    assert call("GET", "/api/orders/?limit=0") == 400
    assert call("GET", path) == 200
    assert call("GET", path, headers={"If-None-Match": tag}) == 304
    assert call("GET", "/api/orders/999999/") == 404
    assert call("GET", path, data=" " * (2**20 + 1)) == 413

    assert call("PATCH", path, json={"metadata": {"a": None}}) == 200
    assert call("PATCH", path, json={"is_approved": True}) == 409
    assert call("PATCH", path, json={}, headers={"If-Match": '"99"'}) == 412
    assert call("PATCH", path, json={}, headers={"If-Match": "99"}) == 400
    assert call("DELETE", path, headers={"If-Match": '"99"'}) == 412
    assert call("DELETE", path) == 204
    assert call("DELETE", path) == 404


def test_items_answer_as_documented(service: Service, user: str) -> None:
    order = service.ordered(user, 2, 1)
    shipped, cancelled = (item["id"] for item in order["items"])
    article = service.sandbox.add_article(amount=10)

    def call(method: str, path: str, **kwargs: object) -> int:
        response = documented(service.crud(method, path, user, **kwargs))
        return response.status_code

    new = {"order": order["id"], "product_variation": article}
    made = documented(service.crud("POST", "/api/order-items/", user, json=new))
    assert made.status_code == 201
    path = f"/api/order-items/{made.get_json()['id']}/"
    unknown = new | {"product_variation": str(uuid.uuid4())}
    assert call("POST", "/api/order-items/", json=unknown) == 400
    assert call("POST", "/api/order-items/", json=new | {"quantity": 99}) == 409
    assert call("POST", "/api/order-items/", json=new | {"order": 999999}) == 404

    assert call("GET", "/api/order-items/?limit=1&status=1") == 200
    assert call("GET", path) == 200
    assert call("GET", path, headers={"If-None-Match": made.headers["ETag"]}) == 304

    assert call("PATCH", path, json={"quantity": 3}) == 200
    assert call("PATCH", path, json={"quantity": 99}) == 409
    assert call("PATCH", path, json={"price": 1}) == 403
    cancelled_path = f"/api/order-items/{cancelled}/"
    assert call("PATCH", cancelled_path, json={"status": 4}) == 200
    assert call("PATCH", cancelled_path, json={"quantity": 3}) == 409
    assert call("DELETE", cancelled_path) == 409
    assert call("DELETE", path) == 204

    assert documented(service.move(shipped, 2)).status_code == 200
    assert documented(service.move(shipped, 1)).status_code == 409
    assert documented(service.move(shipped, "2")).status_code == 400
    assert documented(service.move(999999, 2)).status_code == 404
    assert documented(service.move(shipped, 3)).status_code == 200


def test_health_answers_as_documented(service: Service) -> None:
    for function in ("orders_crud", "item_status", "create_order_from_cart"):
        live = documented(service.call(function, "GET", "/health/live"))
        ready = documented(service.call(function, "GET", "/health/ready"))
        assert live.status_code == ready.status_code == 200


def test_a_missing_database_is_answered_as_documented(
    service: Service, user: str
) -> None:
    service.set(DATABASE_URL=NOWHERE)
    ready = documented(service.call("orders_crud", "GET", "/health/ready"))
    assert ready.status_code == 503
    assert ready.get_json()["down"] == ["database"]
    lost = documented(service.crud("GET", "/api/orders/1/", user))
    assert lost.status_code == 503


def test_documentation_answers_as_documented(service: Service) -> None:
    for path in ("openapi.json", "api/schema/", "api/schema/redoc", "health/ready"):
        found = documented(service.call("api_docs", "GET", f"/{path}"))
        assert found.status_code == 200
