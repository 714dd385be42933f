"""An order's timeline: the owner's, step by step, and the operators' with all of it."""

import re
from functools import partial
from typing import Any

from common import wiring
from common.database.engine import connect
from common.domain import orders
from common.domain.model import OPERATOR, Actor
from common.store import timeline
from common.store.orders import Target, change_order
from common.store.timeline import Timeline
from infra.local.sandbox import catalogue
from tests.support.observed import problem
from tests.support.service import Service, new_user
from tests.support.tokens import SECRET, bearer

OPERATORS_ALONE = ("request_id", "changed_by", "destination", "attempts", "traceparent")


def path(order: dict[str, Any]) -> str:
    return f"/api/orders/{order['id']}/timeline/"


def steps(service: Service, user: str, order: dict[str, Any]) -> list[dict[str, Any]]:
    response = service.crud("GET", path(order), user)
    assert response.status_code == 200, response.get_data(as_text=True)
    found: list[dict[str, Any]] = response.get_json()
    return found


def brief(step: dict[str, Any]) -> tuple[Any, ...]:
    return step["kind"], step["item"], step["from_status"], step["to_status"]


def whole(service: Service, order: dict[str, Any], **how: int) -> Timeline:
    service.client("orders_crud")
    with connect(wiring.engine()) as connection:
        return timeline.read_whole(connection, order["id"], **how)


def finished(service: Service, user: str) -> dict[str, Any]:
    """Have an order whose one item is delivered, approved and told to analytics."""
    order = service.ordered(user, 2)
    [item] = order["items"]
    service.move(item["id"], 2, headers={"X-Request-ID": "ship-it"})
    service.move(item["id"], 3)
    service.trigger_approval(order["id"])
    service.sweep()
    return order


def test_owner_sees_what_happened_in_its_order(service: Service, user: str) -> None:
    order = finished(service, user)
    item = order["items"][0]["id"]
    found = steps(service, user, order)
    assert [brief(step) for step in found] == [
        ("item.created", item, None, 1),
        ("order.created", None, None, None),
        ("item.moved", item, 1, 2),
        ("item.moved", item, 2, 3),
        ("order.approved", None, None, None),
    ]
    assert [step["by"] for step in found] == [
        "owner",
        "owner",
        "shop",
        "shop",
        "system",
    ]
    times = [step["at"] for step in found]
    assert times == sorted(times)
    assert times[0] == order["created_at"]
    assert found[0]["to_quantity"] == 2
    assert found[1]["from_cart"] is True


def test_each_step_has_its_event_and_when(service: Service, user: str) -> None:
    found = steps(service, user, finished(service, user))
    assert [step["event"]["type"] for step in found] == [
        "order.item.created",
        "order.created",
        "order.item.status.updated",
        "order.item.status.updated",
        "order.approved",
    ]
    assert all(step["at"] <= step["event"]["sent_at"] for step in found)


def test_waiting_event_has_no_time_until_sent(service: Service, user: str) -> None:
    service.sandbox.fault("sink", status=503)
    order = service.ordered(user)
    before = service.crud("GET", path(order), user)
    assert [step["event"]["sent_at"] for step in before.get_json()] == [None, None]

    service.sandbox.mend("sink")
    service.rows("UPDATE outbox SET available_at = now() RETURNING id")
    service.restart()
    service.sweep()

    held = {"If-None-Match": before.headers["ETag"]}
    after = service.crud("GET", path(order), user, headers=held)
    assert after.status_code == 200
    assert all(step["event"]["sent_at"] for step in after.get_json())


def test_owner_sees_items_added_changed_removed(service: Service, user: str) -> None:
    order = service.crud("POST", "/api/orders/", user, json={}).get_json()
    line = {"order": order["id"], "product_variation": catalogue.MUG, "quantity": 2}
    item = service.crud("POST", "/api/order-items/", user, json=line).get_json()["id"]
    service.crud("PATCH", f"/api/order-items/{item}/", user, json={"quantity": 1})
    service.crud("DELETE", f"/api/order-items/{item}/", user)
    created, added, taken, changed, removed = steps(service, user, order)
    assert brief(created) == ("order.created", None, None, None)
    assert (created["from_cart"], created["event"]) == (False, None)
    assert brief(added) == ("item.created", item, None, 1)
    assert brief(taken) == ("item.taken", item, 1, 1)
    assert (taken["from_quantity"], taken["to_quantity"]) == (None, 2)
    assert taken["event"]["type"] == "order.created"
    assert brief(changed) == ("item.changed", item, 1, 1)
    assert (changed["from_quantity"], changed["to_quantity"]) == (2, 1)
    assert changed["event"] is None
    assert brief(removed) == ("item.removed", item, 1, 4)


def test_approval_that_owner_asked_for_is_owners(service: Service, user: str) -> None:
    order = service.ordered(user)
    [item] = order["items"]
    service.move(item["id"], 4)
    service.crud(
        "PATCH", f"/api/orders/{order['id']}/", user, json={"is_approved": True}
    )
    last = steps(service, user, order)[-1]
    assert (last["kind"], last["by"]) == ("order.approved", "owner")


def test_nothing_of_operators_and_no_id_is_shown(service: Service, user: str) -> None:
    order = service.ordered(user)
    keeper = new_user()
    service.move(order["items"][0]["id"], 2, user=keeper)
    shown = service.crud("GET", path(order), user).get_data(as_text=True)
    assert keeper not in shown
    assert not [name for name in OPERATORS_ALONE if name in shown]


def test_deleted_and_foreign_were_never_there(service: Service, user: str) -> None:
    order = service.ordered(user)
    foreign = service.crud("GET", path(order), new_user())
    assert (
        service.crud("DELETE", f"/api/orders/{order['id']}/", user).status_code == 204
    )
    deleted = service.crud("GET", path(order), user)
    said = [problem(each, 404, "not-found") for each in (foreign, deleted)]
    assert said[0] == said[1]


def test_pages_follow_each_other_without_a_gap(service: Service, user: str) -> None:
    order = finished(service, user)
    every, found = steps(service, user, order), []
    asked = f"{path(order)}?limit=2"
    sizes = []
    while asked:
        answer = service.crud("GET", asked, user)
        found += answer.get_json()
        sizes.append(len(answer.get_json()))
        link = re.match(r'<(.+)>; rel="next"', answer.headers.get("Link", ""))
        asked = link[1] if link else ""
    assert found == every
    assert sizes == [2, 2, 1]


def test_operators_see_who_acted_in_which_request(service: Service, user: str) -> None:
    order = finished(service, user)
    found = whole(service, order)
    assert str(found.owner) == user
    kinds = [step.actor_kind for step in found.steps]
    assert kinds == ["user", "user", "internal", "internal", "system"]
    assert found.steps[2].request_id == "ship-it"
    assert found.steps[2].changed_by not in (None, found.owner)
    assert found.steps[4].changed_by is None


def test_shop_that_moves_an_item_is_told_apart(service: Service, user: str) -> None:
    service.set(GATEWAY_JWT_SECRET=SECRET)
    keeper, shop = new_user(), new_user()
    article = service.sandbox.add_article(amount=10, shop_id=shop)
    service.sandbox.add_to_cart(user, article, 1)
    order = service.checkout(user, **bearer(user)).get_json()["order"]
    headers = bearer(keeper, shop_uuid=shop)
    service.move(order["items"][0]["id"], 2, user=keeper, headers=headers)
    last = whole(service, order).steps[-1]
    assert (last.actor_kind, str(last.changed_by)) == ("shop", keeper)


def test_what_an_operator_does_is_nobody_elses(service: Service, user: str) -> None:
    order = service.ordered(user)
    item = order["items"][0]["id"]

    cancel = partial(
        orders.set_status, item_id=item, status=4, actor=Actor(None, OPERATOR)
    )
    with connect(wiring.engine()) as connection:
        change_order(connection, Target(item_id=item), cancel, wiring.bus())
    last = whole(service, order).steps[-1]
    assert (last.actor_kind, last.changed_by) == ("operator", None)
    assert steps(service, user, order)[-1]["by"] == "operator"


def test_older_release_s_steps_have_nobody_acting(service: Service, user: str) -> None:
    order = service.ordered(user)
    service.rows(
        "INSERT INTO order_history (order_id, kind, item_id, from_status, to_status,"
        " changed_by, request_id) VALUES (:id, 'item.moved', :item, 1, 2, :who, 'r')"
        " RETURNING id",
        id=order["id"],
        item=order["items"][0]["id"],
        who=new_user(),
    )
    last = steps(service, user, order)[-1]
    assert (brief(last)[2:], last["by"], last["event"]) == ((1, 2), None, None)
