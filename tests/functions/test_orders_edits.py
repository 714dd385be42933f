"""PATCH and DELETE /api/orders/{id}/: metadata, approval, and what siblings hear."""

import json
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.support.observed import (
    announced,
    check_moved,
    history,
    nothing_written,
    problem,
)
from tests.support.service import Service, new_user
from tests.support.shared import service_of_file

service = pytest.fixture(service_of_file, scope="module")


def created(service: Service, user: str, **metadata: str) -> dict[str, Any]:
    body = {"metadata": metadata}
    order: dict[str, Any] = service.crud(
        "POST", "/api/orders/", user, json=body
    ).get_json()
    return order


def patched(
    service: Service, user: str, order: dict[str, Any], **body: Any
) -> TestResponse:
    return service.crud("PATCH", f"/api/orders/{order['id']}/", user, json=body)


def read(service: Service, user: str, order: dict[str, Any]) -> dict[str, Any]:
    path = f"/api/orders/{order['id']}/"
    found: dict[str, Any] = service.crud("GET", path, user).get_json()
    return found


def finished(service: Service, user: str) -> dict[str, Any]:
    """Return an order whose only item is delivered, not yet approved."""
    order = service.ordered(user)
    assert service.move(order["items"][0]["id"], 3).status_code == 200
    return order


def test_metadata_is_merged_key_by_key(service: Service, user: str) -> None:
    order = created(service, user, kept="1", replaced="2", removed="3")
    response = patched(
        service, user, order, metadata={"replaced": "ä", "removed": None, "new": ""}
    )
    assert response.status_code == 200
    expected = order | {"metadata": {"kept": "1", "replaced": "ä", "new": ""}}
    assert response.get_json() == expected
    assert read(service, user, order) == expected


def test_every_response_is_json_without_spaces(service: Service, user: str) -> None:
    metadata = {"note": 'a: "b", {c}', "a b": "\\ ü \n", "empty": ""}
    made = service.crud("POST", "/api/orders/", user, json={"metadata": metadata})
    path = f"/api/orders/{made.get_json()['id']}/"
    responses = [
        made,
        service.crud("GET", path, user),
        service.crud("GET", "/api/orders/", user),
        service.crud("PATCH", path, user, json={"metadata": {"new": "1, 2"}}),
        service.crud("GET", f"{path}timeline/", user),
        service.crud("GET", "/api/orders/0/", user),
    ]
    for response in responses:
        body = response.get_json()
        compact = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        assert response.text == compact
    assert responses[1].get_json()["metadata"] == metadata


def test_null_for_metadata_removes_all_of_it(service: Service, user: str) -> None:
    order = created(service, user, a="1", b="2")
    assert patched(service, user, order, metadata=None).get_json()["metadata"] == {}


def test_empty_patch_is_200_and_writes_nothing(service: Service, user: str) -> None:
    order = created(service, user, a="1")
    with nothing_written(service):
        bodies: list[dict[str, Any]] = [
            *({}, {"metadata": {}}, {"metadata": {"a": "1"}}, {"is_approved": False}),
            *({"metadata": {"absent": None}}, {"user_id": None}),
            {
                "id": 5,
                "created_at": "x",
                "items": [],
                "is_complete": True,
                "version": 9,
            },
            {"user_id": user.upper()},
        ]
        for body in bodies:
            response = patched(service, user, order, **body)
            assert (response.status_code, response.get_json()) == (200, order), body
            assert response.headers["ETag"] == '"1"'


def test_metadata_may_not_grow_beyond_50_keys(service: Service, user: str) -> None:
    order = finished(service, user)
    patched(service, user, order, metadata={f"k{n}": "v" for n in range(50)})
    with nothing_written(service):
        response = patched(
            service, user, order, metadata={"one-more": "v"}, is_approved=True
        )
        assert "metadata" in problem(response, 400, "invalid-request")["errors"]


def test_key_may_be_swapped_where_metadata_is_full(service: Service, user: str) -> None:
    order = created(service, user, **{f"k{n}": "v" for n in range(50)})
    response = patched(service, user, order, metadata={"k0": None, "one-more": "v"})
    assert response.status_code == 200
    assert len(response.get_json()["metadata"]) == 50


def test_an_order_cannot_be_given_to_somebody_else(service: Service, user: str) -> None:
    order = created(service, user)
    with nothing_written(service):
        response = patched(
            service, user, order, user_id=new_user(), metadata={"a": "stolen"}
        )
        problem(response, 403, "forbidden")


def test_complete_order_is_approved_by_its_owner(service: Service, user: str) -> None:
    order = finished(service, user)
    told = len(announced(service, order["id"]))
    response = patched(service, user, order, is_approved=True, metadata={"a": "1"})
    assert response.status_code == 200
    found = read(service, user, order)
    assert response.get_json() == found
    assert (found["is_approved"], found["metadata"]) == (True, {"a": "1"})
    assert response.headers["ETag"] == '"3"'
    heard = [each["id"] for each in service.sandbox.completed_orders]
    assert heard.count(str(order["id"])) == 1
    [event] = announced(service, order["id"])[told:]
    [row] = service.rows(
        'SELECT to_char(approved_at, \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\') AS at'
        " FROM orders WHERE id = :id",
        id=order["id"],
    )
    assert event == {
        "event_type": "order.approved",
        "order_id": str(order["id"]),
        "user_id": user,
        "approved_at": row["at"],
    }


def test_approving_again_is_200_and_writes_nothing(service: Service, user: str) -> None:
    order = finished(service, user)
    first = patched(service, user, order, is_approved=True)
    with nothing_written(service):
        again = patched(service, user, order, is_approved=True)
        assert (again.status_code, again.get_json()) == (200, first.get_json())
        assert again.headers["ETag"] == first.headers["ETag"]


@pytest.mark.parametrize("statuses", [(), (1,), (2,), (3, 1), (4, 2)], ids=str)
def test_an_order_is_not_approved_before_every_item_is_final(
    service: Service, user: str, statuses: tuple[int, ...]
) -> None:
    order = (
        service.ordered(user, *[1] * len(statuses))
        if statuses
        else created(service, user)
    )
    for item, status in zip(order["items"], statuses, strict=True):
        assert service.move(item["id"], status).status_code == 200
    with nothing_written(service):
        response = patched(service, user, order, is_approved=True, metadata={"a": "1"})
        problem(response, 409, "order-not-complete")


@pytest.mark.parametrize("statuses", [(3,), (4,), (3, 4)], ids=str)
def test_final_items_do(service: Service, user: str, statuses: tuple[int, ...]) -> None:
    order = service.ordered(user, *[1] * len(statuses))
    for item, status in zip(order["items"], statuses, strict=True):
        assert service.move(item["id"], status).status_code == 200
    response = patched(service, user, order, is_approved=True)
    assert response.get_json()["is_approved"] is True


def test_an_approval_cannot_be_taken_back(service: Service, user: str) -> None:
    order = finished(service, user)
    patched(service, user, order, is_approved=True)
    with nothing_written(service):
        response = patched(service, user, order, is_approved=False, metadata={"a": "1"})
        problem(response, 409, "order-approved")


def test_approved_order_takes_metadata_silently(service: Service, user: str) -> None:
    order = finished(service, user)
    patched(service, user, order, is_approved=True)
    told = announced(service, order["id"])
    response = patched(service, user, order, is_approved=True, metadata={"a": "1"})
    assert response.get_json()["metadata"] == {"a": "1"}
    assert announced(service, order["id"]) == told


def test_a_deleted_order_is_gone_with_its_items(service: Service, user: str) -> None:
    order = service.ordered(user, 1, 2)
    path = f"/api/orders/{order['id']}/"
    response = service.crud("DELETE", path, user)
    assert (response.status_code, response.data) == (204, b"")
    assert "Content-Type" not in response.headers
    for method in ("GET", "DELETE"):
        problem(service.crud(method, path, user), 404, "not-found")
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


def test_history_of_a_deleted_order_is_kept_whole(service: Service, user: str) -> None:
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


@pytest.mark.parametrize("status", [2, 3])
def test_an_order_of_which_something_has_shipped_cannot_be_deleted(
    service: Service, user: str, status: int
) -> None:
    order = service.ordered(user, 1, 1)
    assert service.move(order["items"][1]["id"], status).status_code == 200
    with nothing_written(service):
        response = service.crud("DELETE", f"/api/orders/{order['id']}/", user)
        problem(response, 409, "order-shipped")


def test_an_approved_order_cannot_be_deleted(service: Service, user: str) -> None:
    order = service.ordered(user)
    service.move(order["items"][0]["id"], 4)
    service.trigger_approval(order["id"])
    with nothing_written(service):
        response = service.crud("DELETE", f"/api/orders/{order['id']}/", user)
        problem(response, 409, "order-approved")


def test_order_of_cancelled_items_can_be_deleted(service: Service, user: str) -> None:
    order = service.ordered(user)
    service.move(order["items"][0]["id"], 4)
    told = len(announced(service, order["id"]))
    response = service.crud("DELETE", f"/api/orders/{order['id']}/", user)
    assert response.status_code == 204
    [event] = announced(service, order["id"])[told:]
    assert event["event_type"] == "order.deleted"
