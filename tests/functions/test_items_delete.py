"""DELETE /api/order-items/{id}/: while Processing; the siblings see it Cancelled."""

import pytest

from tests.support.observed import announced, check_moved, everything, history, problem
from tests.support.service import Service
from tests.support.shared import service_of_file

service = pytest.fixture(service_of_file, scope="module")


def test_a_deleted_item_is_gone_and_the_rest_of_the_order_stays(
    service: Service, user: str
) -> None:
    order = service.ordered(user, 1, 2)
    first, second = order["items"]
    path = f"/api/order-items/{first['id']}/"
    response = service.crud("DELETE", path, user)
    assert (response.status_code, response.data) == (204, b"")
    problem(service.crud("GET", path, user), 404, "not-found")
    found = service.crud("GET", f"/api/orders/{order['id']}/", user).get_json()
    assert found == order | {"items": [second]}


def test_a_deleted_item_is_announced_as_cancelled(service: Service, user: str) -> None:
    order = service.ordered(user, 1, 2)
    item = order["items"][0]
    told = len(announced(service, order["id"]))
    headers = {"X-Request-ID": "away-with-it"}
    path = f"/api/order-items/{item['id']}/"
    service.crud("DELETE", path, user, headers=headers)
    [event] = announced(service, order["id"])[told:]
    check_moved(event, item, 1, 4)
    last = history(service, order["id"])[-1]
    assert last == (item["id"], 1, 4, user, "away-with-it")


@pytest.mark.parametrize("status", [2, 3, 4])
def test_an_item_that_is_no_longer_processing_cannot_be_deleted(
    service: Service, user: str, status: int
) -> None:
    order = service.ordered(user, 1)
    [item] = order["items"]
    service.move(item["id"], status)
    before = everything(service)
    response = service.crud("DELETE", f"/api/order-items/{item['id']}/", user)
    problem(response, 409, "item-not-open")
    assert everything(service) == before


def test_deleting_the_last_open_item_completes_the_order(
    service: Service, user: str
) -> None:
    order = service.ordered(user, 1, 1)
    delivered, open_item = order["items"]
    service.move(delivered["id"], 3)
    service.crud("DELETE", f"/api/order-items/{open_item['id']}/", user)
    assert service.sweep()["approved"]
    found = service.crud("GET", f"/api/orders/{order['id']}/", user).get_json()
    assert found["is_approved"] is True


def test_deleting_the_only_item_leaves_an_empty_order_that_is_not_approved(
    service: Service, user: str
) -> None:
    order = service.ordered(user, 1)
    [item] = order["items"]
    service.crud("DELETE", f"/api/order-items/{item['id']}/", user)
    service.trigger_approval(order["id"])
    service.sweep()
    found = service.crud("GET", f"/api/orders/{order['id']}/", user).get_json()
    assert found == order | {"items": []}


def test_an_item_is_deleted_only_once(service: Service, user: str) -> None:
    order = service.ordered(user, 1, 1)
    path = f"/api/order-items/{order['items'][0]['id']}/"
    service.crud("DELETE", path, user)
    before = everything(service)
    problem(service.crud("DELETE", path, user), 404, "not-found")
    assert everything(service) == before
