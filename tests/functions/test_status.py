"""PATCH /api/order-items/{id}/status/: a shop moves an item towards its end."""

from typing import Any

import pytest

from tests.support.observed import (
    announced,
    check_moved,
    history,
    nothing_written,
    problem,
    refused_field,
)
from tests.support.service import Service, new_user
from tests.support.shared import service_of_file

service = pytest.fixture(service_of_file, scope="module")

STATUSES = (1, 2, 3, 4)
ALLOWED = {(1, 2), (1, 3), (1, 4), (2, 3), (2, 4)}
ILLEGAL = {(a, b) for a in STATUSES for b in STATUSES if a != b} - ALLOWED


def item_in(service: Service, user: str, status: int) -> dict[str, Any]:
    """Return an item that has come to `status`, beside one that stays Processing."""
    item = service.ordered(user, 2, 1)["items"][0]
    if status != 1:
        assert service.move(item["id"], status).status_code == 200
    return item | {"status": status}


@pytest.mark.parametrize(("before", "after"), sorted(ALLOWED))
def test_trap_a_move_answers_200_with_the_item_whose_status_the_shop_stores(
    service: Service, user: str, before: int, after: int
) -> None:
    item = item_in(service, user, before)
    response = service.move(item["id"], after)
    assert response.status_code == 200
    assert response.mimetype == "application/json"
    assert response.get_json() == item | {"status": after}
    assert type(response.get_json()["status"]) is int
    found = service.crud("GET", f"/api/order-items/{item['id']}/", user)
    assert found.get_json() == response.get_json()
    assert found.headers["ETag"] == response.headers["ETag"]


@pytest.mark.parametrize(("before", "after"), sorted(ALLOWED))
def test_a_move_is_announced_and_kept_in_the_history(
    service: Service, user: str, before: int, after: int
) -> None:
    item = item_in(service, user, before)
    count = len(announced(service, item["order"]))
    shop_owner = new_user()
    headers = {"X-Request-ID": f"move-{before}-{after}"}
    service.move(item["id"], after, user=shop_owner, headers=headers)
    [event] = announced(service, item["order"])[count:]
    check_moved(event, item, before, after)
    last = history(service, item["order"])[-1]
    assert last == (item["id"], before, after, shop_owner, f"move-{before}-{after}")


@pytest.mark.parametrize("status", STATUSES)
def test_the_same_status_again_is_200_with_the_item_and_nothing_is_written(
    service: Service, user: str, status: int
) -> None:
    item = item_in(service, user, status)
    with nothing_written(service):
        response = service.move(item["id"], status)
        assert (response.status_code, response.get_json()) == (200, item)


@pytest.mark.parametrize(("before", "after"), sorted(ILLEGAL))
def test_an_illegal_move_is_409_and_nothing_is_written(
    service: Service, user: str, before: int, after: int
) -> None:
    item = item_in(service, user, before)
    with nothing_written(service):
        problem(service.move(item["id"], after), 409, "illegal-transition")


def test_a_status_must_be_given(service: Service, user: str) -> None:
    item = item_in(service, user, 1)
    response = service.move(item["id"], 0, json={"quantity": 3})
    refused_field(response, "status")
    assert response.get_json()["errors"] == {"status": ["is required"]}


def test_status_endpoint_changes_the_status_only(service: Service, user: str) -> None:
    item = item_in(service, user, 1)
    body = {"status": 2, "price": 1, "quantity": 7, "shop_id": new_user(), "id": 1}
    response = service.move(item["id"], 2, json=body)
    assert response.get_json() == item | {"status": 2}
    order = service.crud("GET", f"/api/orders/{item['order']}/", user).get_json()
    assert [i["status"] for i in order["items"]] == [2, 1]


def test_the_last_final_item_completes_the_order(service: Service, user: str) -> None:
    first, second = service.ordered(user, 1, 1)["items"]
    service.move(first["id"], 4)
    question = "SELECT is_complete FROM orders WHERE id = :id"
    assert service.rows(question, id=first["order"]) == [{"is_complete": False}]
    service.move(second["id"], 3)
    assert service.rows(question, id=first["order"]) == [{"is_complete": True}]
