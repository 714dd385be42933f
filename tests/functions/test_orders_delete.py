"""DELETE /api/orders/{id}/: only while nothing has shipped; the siblings hear it."""

import pytest

from tests.support.observed import announced, check_moved, everything, history, problem
from tests.support.service import Service
from tests.support.shared import service_of_file

service = pytest.fixture(service_of_file, scope="module")


def test_a_deleted_order_is_gone_with_its_items(service: Service, user: str) -> None:
    order = service.ordered(user, 1, 2)
    path = f"/api/orders/{order['id']}/"
    response = service.crud("DELETE", path, user)
    assert (response.status_code, response.data) == (204, b"")
    assert "Content-Type" not in response.headers
    problem(service.crud("GET", path, user), 404, "not-found")
    for item in order["items"]:
        gone = service.crud("GET", f"/api/order-items/{item['id']}/", user)
        problem(gone, 404, "not-found")
    assert service.crud("GET", "/api/orders/", user).get_json() == []
    assert service.crud("GET", "/api/order-items/", user).get_json() == []


def test_the_siblings_see_every_open_item_cancelled_and_then_the_order_deleted(
    service: Service, user: str
) -> None:
    order = service.ordered(user, 1, 2, 3)
    first, second, third = order["items"]
    assert service.move(second["id"], 4).status_code == 200
    told = len(announced(service, order["id"]))
    service.crud("DELETE", f"/api/orders/{order['id']}/", user)
    *cancelled, deleted = announced(service, order["id"])[told:]
    for event, item in zip(cancelled, (first, third), strict=True):
        check_moved(event, item, 1, 4)
    assert deleted == {
        "event_type": "order.deleted",
        "order_id": str(order["id"]),
        "user_id": user,
    }


def test_the_history_of_a_deleted_order_stays_and_names_who_deleted_it(
    service: Service, user: str
) -> None:
    order = service.ordered(user, 1)
    [item] = order["items"]
    path = f"/api/orders/{order['id']}/"
    service.crud("DELETE", path, user, headers={"X-Request-ID": "deleted-by-1"})
    last = history(service, order["id"])[-1]
    assert last == (item["id"], 1, 4, user, "deleted-by-1")


def test_an_empty_order_is_deleted_with_one_event(service: Service, user: str) -> None:
    order = service.crud("POST", "/api/orders/", user, json={}).get_json()
    service.crud("DELETE", f"/api/orders/{order['id']}/", user)
    told = announced(service, order["id"])
    assert [event["event_type"] for event in told] == ["order.deleted"]


def test_an_order_is_deleted_only_once(service: Service, user: str) -> None:
    order = service.ordered(user)
    path = f"/api/orders/{order['id']}/"
    service.crud("DELETE", path, user)
    before = everything(service)
    problem(service.crud("DELETE", path, user), 404, "not-found")
    assert everything(service) == before


@pytest.mark.parametrize("status", [2, 3])
def test_an_order_of_which_something_has_shipped_cannot_be_deleted(
    service: Service, user: str, status: int
) -> None:
    order = service.ordered(user, 1, 1)
    assert service.move(order["items"][1]["id"], status).status_code == 200
    before = everything(service)
    response = service.crud("DELETE", f"/api/orders/{order['id']}/", user)
    problem(response, 409, "order-shipped")
    assert everything(service) == before


def test_an_approved_order_cannot_be_deleted(service: Service, user: str) -> None:
    order = service.ordered(user)
    service.move(order["items"][0]["id"], 4)
    service.trigger_approval(order["id"])
    before = everything(service)
    response = service.crud("DELETE", f"/api/orders/{order['id']}/", user)
    problem(response, 409, "order-approved")
    assert everything(service) == before


def test_an_order_whose_items_are_all_cancelled_can_be_deleted(
    service: Service, user: str
) -> None:
    order = service.ordered(user)
    service.move(order["items"][0]["id"], 4)
    told = len(announced(service, order["id"]))
    response = service.crud("DELETE", f"/api/orders/{order['id']}/", user)
    assert response.status_code == 204
    [event] = announced(service, order["id"])[told:]
    assert event["event_type"] == "order.deleted"


def test_a_deletion_is_owed_to_the_siblings_until_they_can_be_reached(
    service: Service, user: str
) -> None:
    order = service.ordered(user)
    service.sandbox.fault("sink", status=503)
    try:
        response = service.crud("DELETE", f"/api/orders/{order['id']}/", user)
    finally:
        service.sandbox.mend()
    assert response.status_code == 204
    owed = service.rows(
        "SELECT event_type, body FROM outbox WHERE order_id = :id ORDER BY id",
        id=order["id"],
    )
    assert [row["event_type"] for row in owed] == [
        "order.item.status.updated",
        "order.deleted",
    ]
