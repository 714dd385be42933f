"""Changes of one order at the same moment: none is lost, and approval comes once."""

from collections import Counter
from collections.abc import Callable

import pytest
from werkzeug.test import TestResponse

from infra.local.sandbox import catalogue
from tests.support.parallel import at_once, sender
from tests.support.service import Service, new_user

Sender = Callable[[], TestResponse]

ROUNDS = 10
CALLERS = 20


def mover(service: Service, item_id: int, status: int) -> Sender:
    path = f"/api/order-items/{item_id}/status/"
    body = {"status": status}
    return sender(service, "item_status", "PATCH", path, new_user(), json=body)


def trigger(service: Service, order_id: int) -> Sender:
    body = {
        "event_type": "order.item.status.updated",
        "order_item_id": "1",
        "order_id": str(order_id),
    }
    return sender(service, "approval_handler", "POST", "/", new_user(), json=body)


def is_approved(service: Service, user: str, order_id: int) -> bool:
    found = service.crud("GET", f"/api/orders/{order_id}/", user).get_json()
    return bool(found["is_approved"])


def approvals(service: Service) -> Counter[str]:
    """Return how often each order's approval was announced."""
    announced = service.sandbox.events_of("order.approved")
    return Counter(event.json["order_id"] for event in announced)


def notices(service: Service) -> Counter[str]:
    """Return how often analytics was told of each order."""
    calls = service.sandbox.calls_to("analytics", method="POST")
    return Counter(call.json["id"] for call in calls)


def check_approved_once(service: Service, order_id: int) -> None:
    service.sweep()
    assert approvals(service)[str(order_id)] == 1
    assert notices(service)[str(order_id)] == 1


def test_two_last_items_final_at_once_approve_exactly_once(service: Service) -> None:
    for _ in range(ROUNDS):
        order = service.ordered(user := new_user(), 1, 2)
        first, second = (item["id"] for item in order["items"])

        def finish(item_id: int, status: int, order_id: int) -> TestResponse:
            moved = mover(service, item_id, status)()
            assert trigger(service, order_id)().status_code == 204
            return moved

        moves = at_once(
            [
                lambda item=first, order=order: finish(item, 3, order["id"]),
                lambda item=second, order=order: finish(item, 4, order["id"]),
            ]
        )
        assert [moved.status_code for moved in moves] == [200, 200]
        assert is_approved(service, user, order["id"])
        check_approved_once(service, order["id"])
        [heard] = service.sandbox.completed_orders[:1]
        assert heard["id"] == str(order["id"])
        assert [item["id"] for item in heard["items"]] == [str(first)]


def test_trigger_sweep_and_owner_at_once_approve_exactly_once(service: Service) -> None:
    for _ in range(ROUNDS):
        order = service.ordered(user := new_user(), 1)
        assert service.move(order["items"][0]["id"], 4).status_code == 200
        path = f"/api/orders/{order['id']}/"
        wish = {"is_approved": True}
        owner = sender(service, "orders_crud", "PATCH", path, user, json=wish)
        sweep = sender(service, "outbox_relay", "POST", "/", user)
        responses = at_once([trigger(service, order["id"]), owner, sweep])
        assert [response.status_code for response in responses] == [204, 200, 200]
        assert is_approved(service, user, order["id"])
        check_approved_once(service, order["id"])


def test_many_changes_of_one_order_all_succeed(service: Service, user: str) -> None:
    order = service.ordered(user, *[1] * CALLERS)
    ids = [item["id"] for item in order["items"]]
    for status in (2, 3):
        responses = at_once([mover(service, id_, status) for id_ in ids])
        assert [response.status_code for response in responses] == [200] * CALLERS
        assert {response.get_json()["status"] for response in responses} == {status}
    service.sweep()
    told = service.sandbox.events_of("order.item.status.updated")
    steps = Counter(
        (event.json["order_item_id"], event.json["previous_status"]) for event in told
    )
    assert steps == {(str(id_), before): 1 for id_ in ids for before in (1, 2)}
    rows = service.rows(
        "SELECT count(*) AS steps FROM order_history WHERE from_status IS NOT NULL"
    )
    assert rows == [{"steps": 2 * CALLERS}]
    assert service.trigger_approval(order["id"]).status_code == 204
    check_approved_once(service, order["id"])


def test_same_status_change_at_once_is_made_once(service: Service, user: str) -> None:
    order = service.ordered(user, 1)
    item_id = order["items"][0]["id"]
    responses = at_once([mover(service, item_id, 3)] * CALLERS)
    assert [response.status_code for response in responses] == [200] * CALLERS
    service.sweep()
    assert len(service.sandbox.events_of("order.item.status.updated")) == 1


def test_contradicting_final_states_leave_the_first(service: Service) -> None:
    for _ in range(ROUNDS):
        order = service.ordered(user := new_user(), 1)
        item_id = order["items"][0]["id"]
        responses = at_once([mover(service, item_id, status) for status in (3, 4)])
        codes = sorted(response.status_code for response in responses)
        assert codes == [200, 409]
        [won] = [r.get_json()["status"] for r in responses if r.status_code == 200]
        found = service.crud("GET", f"/api/order-items/{item_id}/", user).get_json()
        assert found["status"] == won
    service.sweep()
    told = service.sandbox.events_of("order.item.status.updated")
    assert len(told) == ROUNDS


def test_item_added_during_an_approval_is_in_it_or_refused(service: Service) -> None:
    outcomes = set()
    for _ in range(2 * ROUNDS):
        order = service.ordered(user := new_user(), 1)
        assert service.move(order["items"][0]["id"], 3).status_code == 200
        body = {"order": order["id"], "product_variation": catalogue.MUG}
        path = "/api/order-items/"
        add = sender(service, "orders_crud", "POST", path, user, json=body)
        added, approved = at_once([add, trigger(service, order["id"])])
        assert approved.status_code == 204
        assert added.status_code in {201, 409}
        # Either the item came first, and the order is open again, or the approval.
        was_added = added.status_code == 201
        assert is_approved(service, user, order["id"]) is not was_added
        found = service.crud("GET", f"/api/orders/{order['id']}/", user).get_json()
        assert len(found["items"]) == 1 + was_added
        outcomes.add(was_added)
        service.sweep()
        assert approvals(service)[str(order["id"])] == (not was_added)
    assert outcomes, "no outcome is forced: both are right"


def test_order_deleted_while_an_item_ships_is_gone_or_whole(service: Service) -> None:
    for _ in range(ROUNDS):
        order = service.ordered(user := new_user(), 1)
        item_id = order["items"][0]["id"]
        path = f"/api/orders/{order['id']}/"
        delete = sender(service, "orders_crud", "DELETE", path, user)
        deleted, shipped = at_once([delete, mover(service, item_id, 2)])
        assert shipped.status_code == 200
        seen = (deleted.status_code, shipped.get_json()["status"])
        assert seen in {(204, 4), (409, 2)}
        found = service.crud("GET", path, user).status_code
        assert found == (404 if deleted.status_code == 204 else 200)


@pytest.mark.parametrize("status", [2, 4])
def test_version_lets_one_of_two_changes_through(service: Service, status: int) -> None:
    for _ in range(ROUNDS):
        order = service.ordered(user := new_user(), 1)
        item_id = order["items"][0]["id"]
        path = f"/api/order-items/{item_id}/"
        tag = service.crud("GET", path, user).headers["ETag"]
        fresh = {"headers": {"If-Match": tag}}
        body = {"quantity": 2}
        change = sender(service, "orders_crud", "PATCH", path, user, json=body, **fresh)
        move = sender(
            service,
            "item_status",
            "PATCH",
            f"{path}status/",
            user,
            json={"status": status},
            **fresh,
        )
        codes = sorted(response.status_code for response in at_once([change, move]))
        assert codes[0] == 200
        assert codes[1] in {409, 412}
