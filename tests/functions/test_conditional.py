"""ETag, If-None-Match and If-Match on orders, items and the status endpoint."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.support.observed import everything, problem, refused_field
from tests.support.service import Service
from tests.support.shared import service_of_file

service = pytest.fixture(service_of_file, scope="module")


def order_path(order: dict[str, Any]) -> str:
    return f"/api/orders/{order['id']}/"


def item_path(order: dict[str, Any], index: int = 0) -> str:
    return f"/api/order-items/{order['items'][index]['id']}/"


def tag(service: Service, user: str, path: str) -> str:
    found = service.crud("GET", path, user).headers["ETag"]
    assert re.fullmatch(r'"[!#-~]+"', found), "a strong entity tag"
    return found


# Every write there is on what exists already, as an address and what to send.
Write = Callable[[dict[str, Any]], tuple[str, str, str, Any]]
WRITES: dict[str, Write] = {
    "PATCH an order": lambda o: (
        "orders_crud",
        "PATCH",
        order_path(o),
        {"metadata": {"a": "1"}},
    ),
    "DELETE an order": lambda o: ("orders_crud", "DELETE", order_path(o), None),
    "PATCH a quantity": lambda o: (
        "orders_crud",
        "PATCH",
        item_path(o),
        {"quantity": 7},
    ),
    "cancel an item": lambda o: ("orders_crud", "PATCH", item_path(o), {"status": 4}),
    "DELETE an item": lambda o: ("orders_crud", "DELETE", item_path(o), None),
    "move an item": lambda o: (
        "item_status",
        "PATCH",
        item_path(o) + "status/",
        {"status": 2},
    ),
}


def send(
    service: Service, user: str, order: dict[str, Any], write: str, if_match: str
) -> TestResponse:
    function, method, path, body = WRITES[write](order)
    kwargs = {} if body is None else {"json": body}
    headers = {"If-Match": if_match}
    return service.call(function, method, path, user=user, headers=headers, **kwargs)


def current_tag(service: Service, user: str, order: dict[str, Any], write: str) -> str:
    path = WRITES[write](order)[2].replace("status/", "")
    return tag(service, user, path)


# Tags


def test_a_tag_stays_while_nothing_changes(service: Service, user: str) -> None:
    order = service.ordered(user)
    for path in (order_path(order), item_path(order)):
        first = service.crud("GET", path, user)
        again = service.crud("GET", path, user)
        assert first.headers["ETag"] == again.headers["ETag"]
        assert first.data == again.data


def test_an_orders_tag_changes_with_every_change_of_it_or_of_its_items(
    service: Service, user: str
) -> None:
    order = service.ordered(user, 1, 1, 1)
    first = order["items"][0]["id"]
    article = service.sandbox.add_article()
    line = {"order": order["id"], "product_variation": article}
    path = order_path(order)

    def newest() -> int:
        shown = service.crud("GET", path, user).get_json()
        return int(shown["items"][-1]["id"])

    changes: list[Callable[[], TestResponse]] = [
        lambda: service.crud("PATCH", path, user, json={"metadata": {"a": "1"}}),
        lambda: service.crud("POST", "/api/order-items/", user, json=line),
        lambda: service.crud("PATCH", item_path(order), user, json={"quantity": 2}),
        lambda: service.move(first, 2),
        lambda: service.move(first, 3),
        lambda: service.crud("PATCH", item_path(order, 1), user, json={"status": 4}),
        lambda: service.crud("DELETE", item_path(order, 2), user),
        lambda: service.move(newest(), 3),
        lambda: service.trigger_approval(order["id"]),
    ]
    tags = [tag(service, user, path)]
    for change in changes:
        response = change()
        assert response.status_code < 300, response.get_data(as_text=True)
        tags.append(tag(service, user, path))
    assert service.crud("GET", path, user).get_json()["is_approved"] is True
    assert len(set(tags)) == len(tags)


def test_an_items_tag_changes_with_it_and_not_with_its_neighbours(
    service: Service, user: str
) -> None:
    order = service.ordered(user, 1, 1)
    tags = [tag(service, user, item_path(order))]
    service.crud("PATCH", item_path(order), user, json={"quantity": 2})
    tags.append(tag(service, user, item_path(order)))
    service.move(order["items"][0]["id"], 2)
    tags.append(tag(service, user, item_path(order)))
    assert len(set(tags)) == 3
    service.move(order["items"][1]["id"], 2)
    service.crud("PATCH", order_path(order), user, json={"metadata": {"a": "1"}})
    assert tag(service, user, item_path(order)) == tags[-1]


@pytest.mark.parametrize(
    "write", [name for name in WRITES if not name.startswith("DELETE")]
)
def test_a_writes_answer_carries_the_tag_that_a_read_gives_next(
    service: Service, user: str, write: str
) -> None:
    order = service.ordered(user, 1, 1)
    before = current_tag(service, user, order, write)
    response = send(service, user, order, write, "*")
    assert response.status_code == 200
    assert response.headers["ETag"] == current_tag(service, user, order, write)
    assert response.headers["ETag"] != before


# If-None-Match


@pytest.mark.parametrize("path", [order_path, item_path])
@pytest.mark.parametrize(
    "form",
    ["{tag}", "W/{tag}", "*", '"x", {tag}', '{tag},"x"', '"x" ,\tW/{tag} , "y"'],
)
def test_what_the_caller_has_already_is_304_without_a_body(
    service: Service, user: str, path: Callable[..., str], form: str
) -> None:
    address = path(service.ordered(user))
    current = tag(service, user, address)
    headers = {"If-None-Match": form.format(tag=current)}
    response = service.crud("GET", address, user, headers=headers)
    assert (response.status_code, response.data) == (304, b"")
    assert response.headers["ETag"] == current
    assert response.headers["X-Request-ID"]
    head = service.crud("HEAD", address, user, headers=headers)
    assert head.status_code == 304


@pytest.mark.parametrize("path", [order_path, item_path])
@pytest.mark.parametrize("form", ['"x"', 'W/"x"', '""', '"*"', '"x", "y"'])
def test_what_the_caller_does_not_have_is_200(
    service: Service, user: str, path: Callable[..., str], form: str
) -> None:
    address = path(service.ordered(user))
    response = service.crud("GET", address, user, headers={"If-None-Match": form})
    assert response.status_code == 200
    assert response.get_json()["id"]


def test_a_304_turns_into_a_200_after_a_change(service: Service, user: str) -> None:
    order = service.ordered(user)
    path = order_path(order)
    headers = {"If-None-Match": tag(service, user, path)}
    service.move(order["items"][0]["id"], 2)
    response = service.crud("GET", path, user, headers=headers)
    assert response.status_code == 200
    assert response.get_json()["items"][0]["status"] == 2


def test_nobody_else_may_keep_what_was_answered(service: Service, user: str) -> None:
    response = service.crud("GET", order_path(service.ordered(user)), user)
    assert "private" in response.headers["Cache-Control"]


# If-Match


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    "form", ['"stale"', "W/{tag}", '"stale", "older"', '""', '"*"']
)
def test_a_tag_that_no_longer_holds_is_412_and_nothing_is_changed(
    service: Service, user: str, write: str, form: str
) -> None:
    order = service.ordered(user, 2, 1)
    stale = form.format(tag=current_tag(service, user, order, write))
    before = everything(service)
    response = send(service, user, order, write, stale)
    problem(response, 412, "precondition-failed")
    assert everything(service) == before


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("form", ["{tag}", "*", '"stale", {tag}', '{tag} , "stale"'])
def test_a_tag_that_holds_lets_the_write_through(
    service: Service, user: str, write: str, form: str
) -> None:
    order = service.ordered(user, 2, 1)
    current = form.format(tag=current_tag(service, user, order, write))
    response = send(service, user, order, write, current)
    assert response.status_code in (200, 204), response.get_data(as_text=True)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    "malformed", ["", "1", "stale", '"open', 'shut"', '"a b"', "*, *", '"a" "b"', "W/1"]
)
def test_a_malformed_if_match_is_a_400_that_names_it_and_nothing_is_changed(
    service: Service, user: str, write: str, malformed: str
) -> None:
    order = service.ordered(user, 2, 1)
    before = everything(service)
    response = send(service, user, order, write, malformed)
    refused_field(response, "If-Match")
    assert everything(service) == before


@pytest.mark.parametrize("path", [order_path, item_path])
@pytest.mark.parametrize("malformed", ["", "1", '"open', "*, *", 'w/"a"'])
def test_a_malformed_if_none_match_is_a_400_that_names_it(
    service: Service, user: str, path: Callable[..., str], malformed: str
) -> None:
    address = path(service.ordered(user))
    headers = {"If-None-Match": malformed}
    response = service.crud("GET", address, user, headers=headers)
    refused_field(response, "If-None-Match")


def test_the_second_of_two_changes_that_started_from_the_same_state_is_412(
    service: Service, user: str
) -> None:
    order = service.ordered(user, 2)
    path = order_path(order)
    headers = {"If-Match": tag(service, user, path)}
    service.move(order["items"][0]["id"], 2)
    body = {"metadata": {"seen": "Processing"}}
    response = service.crud("PATCH", path, user, json=body, headers=headers)
    problem(response, 412, "precondition-failed")


def test_a_write_that_changes_nothing_still_asks_for_the_tag(
    service: Service, user: str
) -> None:
    order = service.ordered(user, 2)
    headers = {"If-Match": '"stale"'}
    for path in (order_path(order), item_path(order)):
        response = service.crud("PATCH", path, user, json={}, headers=headers)
        problem(response, 412, "precondition-failed")
    response = service.move(order["items"][0]["id"], 1, headers=headers)
    problem(response, 412, "precondition-failed")
