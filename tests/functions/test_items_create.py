"""POST /api/order-items/ and GET /api/order-items/{id}/."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from werkzeug.test import TestResponse

from infra.local.sandbox.catalogue import POTTERY
from tests.support import bodies
from tests.support.observed import (
    announced,
    everything,
    history,
    nothing_written,
    problem,
    refused_field,
)
from tests.support.service import Service, new_user
from tests.support.shared import service_of_file

service = pytest.fixture(service_of_file, scope="module")


def add(service: Service, user: str, **body: Any) -> TestResponse:
    return service.crud("POST", "/api/order-items/", user, json=body)


def test_new_item_answers_201_with_item_to_letter(service: Service, user: str) -> None:
    order = service.ordered(user)
    article = service.sandbox.add_article(price="19.99")
    response = add(
        service, user, order=order["id"], product_variation=article, quantity=2
    )
    assert response.status_code == 201, response.get_data(as_text=True)
    item = response.get_json()
    assert item == {
        "id": item["id"],
        "order": order["id"],
        "status": 1,
        "quantity": 2,
        "product_variation": article,
        "product_id": "b" + article[1:],
        "shop_id": POTTERY,
        "price": 1999,
    }
    assert type(item["id"]) is int
    assert response.headers["Location"] == f"/api/order-items/{item['id']}/"
    assert response.headers["ETag"] == '"1"'


def test_new_item_is_found_alone_and_in_lists(service: Service, user: str) -> None:
    order = service.ordered(user)
    article = service.sandbox.add_article()
    created = add(service, user, order=order["id"], product_variation=article)
    item = created.get_json()
    found = service.crud("GET", created.headers["Location"], user)
    assert (found.status_code, found.get_json()) == (200, item)
    assert found.headers["ETag"] == created.headers["ETag"]
    path = f"/api/orders/{order['id']}/"
    shown = service.crud("GET", path, user).get_json()
    assert shown["items"] == [*order["items"], item]
    assert service.crud("GET", "/api/order-items/", user).get_json()[0] == item


def test_the_quantity_is_1_where_none_is_said(service: Service, user: str) -> None:
    line = {"order": service.ordered(user)["id"]}
    line |= {"product_variation": service.sandbox.add_article(amount=20_000)}
    assert add(service, user, **line).get_json()["quantity"] == 1
    most = add(service, user, **line, quantity=10_000)
    assert most.get_json()["quantity"] == 10_000


def test_a_new_items_price_shop_product_and_status_never_come_from_the_caller(
    service: Service, user: str
) -> None:
    order = service.ordered(user)
    article = service.sandbox.add_article(price="5.00")
    response = add(
        service,
        user,
        order=order["id"],
        product_variation=article,
        id=order["items"][0]["id"],
        price=1,
        shop_id=new_user(),
        product_id="not even a uuid",
        status=3,
        user_id=new_user(),
    )
    item = response.get_json()
    assert response.status_code == 201
    assert (item["price"], item["shop_id"], item["status"]) == (500, POTTERY, 1)
    assert item["product_id"] == "b" + article[1:]
    assert item["id"] != order["items"][0]["id"]


def test_new_item_is_announced_and_in_history(service: Service, user: str) -> None:
    order = service.ordered(user)
    told = len(announced(service, order["id"]))
    article = service.sandbox.add_article(price="9.99")
    item = service.crud(
        "POST",
        "/api/order-items/",
        user,
        json={"order": order["id"], "product_variation": article, "quantity": 4},
        headers={"X-Request-ID": "one-more"},
    ).get_json()
    assert announced(service, order["id"])[told:] == [
        {
            "event_type": "order.item.created",
            "order_item_id": str(item["id"]),
            "order_id": str(order["id"]),
            "shop_id": POTTERY,
            "product_id": item["product_id"],
            "product_variation": article,
            "quantity": 4,
            "price": 999,
            "status": 1,
            "user_id": user,
        },
        bodies.order_created(user, [(article, 4)], order_id=order["id"], cart_id=None),
    ]
    added, taken = history(service, order["id"])[-2:]
    assert added == (item["id"], None, 1, user, "one-more")
    assert taken == (item["id"], 1, 1, user, "one-more")


def test_an_approved_order_takes_no_more_items(service: Service, user: str) -> None:
    order = service.ordered(user)
    service.move(order["items"][0]["id"], 3)
    service.trigger_approval(order["id"])
    before = everything(service)
    article = service.sandbox.add_article()
    service.sandbox.forget_calls()
    response = add(service, user, order=order["id"], product_variation=article)
    problem(response, 409, "order-approved")
    assert everything(service) == before
    # Known before anybody else is asked.
    assert service.sandbox.calls_to("product") == []


def test_order_approved_meanwhile_takes_no_item(service: Service, user: str) -> None:
    order = service.ordered(user)
    service.move(order["items"][0]["id"], 3)
    article = service.sandbox.add_article()
    service.sandbox.forget_calls()
    service.sandbox.fault("product", delay_seconds=0.5, times=1)
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(
            add, service, user, order=order["id"], product_variation=article
        )
        service.sandbox.wait_until(lambda: service.sandbox.most_at_once("product"))
        service.trigger_approval(order["id"])
        problem(adding.result(), 409, "order-approved")
    path = f"/api/orders/{order['id']}/"
    found = service.crud("GET", path, user).get_json()
    assert (found["is_approved"], len(found["items"])) == (True, 1)


def test_unknown_variation_is_400_that_names_it(service: Service, user: str) -> None:
    order = service.ordered(user)
    with nothing_written(service):
        unknown = new_user()
        response = add(service, user, order=order["id"], product_variation=unknown)
        body = problem(response, 400, "invalid-request")
        assert body["errors"] == {"product_variation": [f"{unknown} does not exist"]}


@pytest.mark.parametrize("missing", ["order", "product_variation"])
def test_item_needs_both_of_its_ids(service: Service, user: str, missing: str) -> None:
    body: dict[str, Any] = {"order": 1, "product_variation": new_user()}
    del body[missing]
    response = add(service, user, **body)
    refused_field(response, missing)
    assert response.get_json()["errors"] == {missing: ["is required"]}
