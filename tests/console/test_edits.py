"""Edits of orders: by the shops' rules, once, with history, events and an entry."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.console.access import operator_id
from tests.support import bodies
from tests.support.console import OPERATOR, Console, Json, read
from tests.support.observed import announced, history, nothing_written
from tests.support.service import Service


@pytest.fixture
def order(service: Service, user: str) -> Json:
    return service.ordered(user, 2, 3)


def of(console: Console, order: Json, item: int = 0) -> dict[str, object]:
    return {
        "order": order["id"],
        "version": console.version(order),
        "item": order["items"][item]["id"],
    }


def whole(console: Console, order: Json) -> dict[str, object]:
    return {"order": order["id"], "version": console.version(order)}


def entry(console: Console, order: Json) -> Json:
    [found] = [one for one in console.actions() if one["order_id"] == order["id"]]
    return found


def test_status_moves_with_history_event_and_entry(
    service: Service, console: Console, order: Json
) -> None:
    asked = of(console, order)
    page = console.ask("move-item", **asked, status=2)
    assert "goes from Processing to Shipped" in read(page).text
    assert "order.item.status.updated is sent to http" in read(page).text
    response = console.act("move-item", **asked, status=2)
    assert response.status_code == 303
    made = entry(console, order)
    assert made["operator"] == OPERATOR
    assert (made["action"], made["outcome"]) == ("move-item", "done")
    assert made["reason"] == "a customer called"
    assert made["request_id"] == response.headers["X-Request-ID"]
    step = history(service, order["id"])[-1]
    actor = str(operator_id(OPERATOR))
    assert step == (asked["item"], 1, 2, actor, made["request_id"])
    told = announced(service, order["id"])[-1]
    assert (told["event_type"], told["status"]) == ("order.item.status.updated", 2)
    timeline = console.text(f"orders/{order['id']}/")
    assert f"by {OPERATOR}" in timeline
    assert f"Operator: Mark item {asked['item']} as shipped: done" in timeline
    listed = console.text("actions/")
    assert OPERATOR in listed
    assert "a customer called" in console.text(f"actions/{made['id']}/")


def test_form_sent_twice_acts_once_and_answers_the_same(
    service: Service, console: Console, order: Json
) -> None:
    fields = console.form("move-item", **of(console, order), status=2)
    first = console.send("move-item", fields)
    with nothing_written(service):
        second = console.send("move-item", fields)
        assert (first.status_code, second.status_code) == (303, 303)
        assert first.location == second.location


def test_double_click(service: Service, console: Console, order: Json) -> None:
    fields = console.form("set-metadata", **whole(console, order), key="a", value="1")
    cookie = console.client.get_cookie("ops")
    assert cookie is not None

    def click(_: int) -> tuple[int, str | None]:
        other = Console(service)
        other.client.set_cookie("ops", cookie.value)
        answered = other.send("set-metadata", fields)
        return answered.status_code, answered.location

    with ThreadPoolExecutor(4) as clicks:
        answers = set(clicks.map(click, range(4)))
    assert len(answers) == 1
    assert answers.pop()[0] == 303
    assert entry(console, order)["outcome"] == "done"
    assert console.version(order) == 2


@pytest.mark.parametrize(("way", "then"), [((3,), 2), ((4,), 1), ((2,), 1)], ids=str)
def test_illegal_transition_is_a_page_and_nothing_is_written(
    service: Service, console: Console, order: Json, way: tuple[int, ...], then: int
) -> None:
    item = order["items"][0]["id"]
    for status in way:
        assert service.move(item, status).status_code == 200
    asked = of(console, order) | {"status": then}
    with nothing_written(service):
        page = console.ask("move-item", **asked)
        assert page.status_code == 409
        assert "cannot become" in read(page).text
    assert not [one for one in console.actions() if one["order_id"] == order["id"]]


def test_order_that_changed_meanwhile_is_left_alone(
    service: Service, console: Console, order: Json
) -> None:
    fields = console.form("move-item", **of(console, order), status=4)
    service.move(order["items"][0]["id"], 2)
    with nothing_written(service):
        response = console.send("move-item", fields)
        assert response.status_code == 412
        assert "has changed since you looked" in read(response).text
    assert not [one for one in console.actions() if one["order_id"] == order["id"]]


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501, "a\0b"], ids=repr)
def test_action_needs_a_reason(
    service: Service, console: Console, order: Json, reason: str
) -> None:
    fields = console.form("delete-order", **whole(console, order))
    with nothing_written(service):
        response = console.send("delete-order", fields, reason)
        assert response.status_code == 400
        assert "reason:" in read(response).text


def test_quantity_changes_and_a_larger_one_needs_stock(
    service: Service, console: Console, order: Json, user: str
) -> None:
    asked = of(console, order)
    assert console.act("set-quantity", **asked, quantity=5).status_code == 303
    path = f"/api/order-items/{asked['item']}/"
    assert service.crud("GET", path, user).get_json()["quantity"] == 5
    assert "changed, quantity 2 to 5" in console.text(f"orders/{order['id']}/")
    service.sandbox.fault("product", status=503)
    more = of(console, order) | {"quantity": 10_000}
    response = console.ask("set-quantity", **more)
    service.sandbox.mend()
    assert response.status_code in (503, 504)


def test_more_of_an_item_is_held_and_taken_from_stock(
    service: Service, console: Console, order: Json, user: str
) -> None:
    asked = of(console, order)
    assert console.act("set-quantity", **asked, quantity=5).status_code == 303
    article = order["items"][0]["product_variation"]
    assert announced(service, order["id"])[-1] == bodies.order_created(
        user, [(article, 3)], order_id=order["id"], cart_id=None
    )
    held = service.rows(
        "SELECT quantity FROM stock_holds WHERE order_id = :id ORDER BY id",
        id=order["id"],
    )
    assert held[-1] == {"quantity": 3}


def test_item_is_removed_and_announced_as_cancelled(
    service: Service, console: Console, order: Json, user: str
) -> None:
    asked = of(console, order)
    assert console.act("remove-item", **asked).status_code == 303
    assert service.crud("GET", f"/api/order-items/{asked['item']}/", user).status == (
        "404 NOT FOUND"
    )
    assert announced(service, order["id"])[-1]["status"] == 4


def test_order_is_approved_only_when_complete(
    service: Service, console: Console, order: Json, user: str
) -> None:
    assert console.ask("approve", **whole(console, order)).status_code == 409
    for item in order["items"]:
        service.move(item["id"], 3)
    assert console.act("approve", **whole(console, order)).status_code == 303
    found = service.crud("GET", f"/api/orders/{order['id']}/", user).get_json()
    assert found["is_approved"]
    [approved] = service.rows(
        "SELECT changed_by, actor_kind FROM order_history WHERE order_id = :id"
        " AND kind = 'order.approved'",
        id=order["id"],
    )
    assert approved["changed_by"] == operator_id(OPERATOR)
    assert approved["actor_kind"] == "operator"
    assert announced(service, order["id"])[-1]["event_type"] == "order.approved"


def test_order_is_deleted_and_its_entry_stays(
    service: Service, console: Console, order: Json, user: str
) -> None:
    response = console.act("delete-order", **whole(console, order))
    assert response.status_code == 303
    assert service.crud("GET", f"/api/orders/{order['id']}/", user).status_code == 404
    assert announced(service, order["id"])[-1]["event_type"] == "order.deleted"
    assert "Operator: Delete the order: done" in console.text(f"orders/{order['id']}/")


def test_metadata_is_set_and_removed(
    service: Service, console: Console, order: Json, user: str
) -> None:
    path = f"/api/orders/{order['id']}/"
    console.act("set-metadata", **whole(console, order), key="gift", value="yes")
    assert service.crud("GET", path, user).get_json()["metadata"] == {"gift": "yes"}
    console.act("set-metadata", **whole(console, order), key="gift", value="")
    assert service.crud("GET", path, user).get_json()["metadata"] == {}


@pytest.mark.parametrize(
    ("action", "values", "name"),
    [
        ("move-item", {"status": "9"}, "status"),
        ("move-item", {}, "status"),
        ("set-quantity", {"quantity": "0"}, "quantity"),
        ("set-quantity", {"quantity": "10001"}, "quantity"),
        ("set-metadata", {"key": "", "value": "x"}, "key"),
        ("set-metadata", {"key": "k", "value": "x" * 501}, "value"),
    ],
    ids=str,
)
def test_bad_value_is_named(
    console: Console, order: Json, action: str, values: dict[str, str], name: str
) -> None:
    response = console.ask(action, **of(console, order) | values)
    assert response.status_code == 400
    assert f"{name}:" in read(response).text


def test_item_of_another_order_is_not_found(
    service: Service, console: Console, order: Json, user: str
) -> None:
    other = service.ordered(user, 1)
    asked = of(console, order) | {"item": other["items"][0]["id"], "status": 2}
    assert console.ask("move-item", **asked).status_code == 404


def test_entry_of_nobodys_action_is_not_found(console: Console) -> None:
    assert console.get(f"actions/{uuid.uuid4().int >> 70}/").status_code == 404
