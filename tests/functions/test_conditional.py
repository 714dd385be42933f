"""ETag, If-None-Match and If-Match on orders, items and the status endpoint."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import TestResponse

from common.api_docs.documents import parsed
from infra.local.gateway import function_of
from tests.support.documented import path_of, reads_of_one
from tests.support.observed import nothing_written, problem, refused_field
from tests.support.service import Service
from tests.support.shared import service_of_file

service = pytest.fixture(service_of_file, scope="module")
DOCUMENTED = parsed("openapi")["components"]["schemas"]["EntityTags"]["pattern"]


def order_path(order: dict[str, Any]) -> str:
    return f"/api/orders/{order['id']}/"


def item_path(order: dict[str, Any], index: int = 0) -> str:
    return f"/api/order-items/{order['items'][index]['id']}/"


def tag(service: Service, user: str, path: str) -> str:
    found = service.crud("GET", path, user).headers["ETag"]
    assert re.fullmatch(r'"[!#-~]+"', found), "a strong entity tag"
    return found


# Every write there is on what exists already: method, address, what is sent.
WRITES: dict[str, tuple[str, Callable[[dict[str, Any]], str], Any]] = {
    "PATCH an order": ("PATCH", order_path, {"metadata": {"a": "1"}}),
    "DELETE an order": ("DELETE", order_path, None),
    "PATCH a quantity": ("PATCH", item_path, {"quantity": 7}),
    "cancel an item": ("PATCH", item_path, {"status": 4}),
    "DELETE an item": ("DELETE", item_path, None),
    "move an item": ("PATCH", lambda o: item_path(o) + "status/", {"status": 2}),
}


def send(
    service: Service, user: str, order: dict[str, Any], write: str, if_match: str
) -> TestResponse:
    method, address, body = WRITES[write]
    path = address(order)
    kwargs = {} if body is None else {"json": body}
    headers = {"If-Match": if_match}
    function = function_of(path)
    return service.call(function, method, path, user=user, headers=headers, **kwargs)


def current_tag(service: Service, user: str, order: dict[str, Any], write: str) -> str:
    return tag(service, user, WRITES[write][1](order).replace("status/", ""))


def test_a_tag_stays_while_nothing_changes(service: Service, user: str) -> None:
    order = service.ordered(user)
    for path in (order_path(order), item_path(order)):
        first = service.crud("GET", path, user)
        again = service.crud("GET", path, user)
        assert first.headers["ETag"] == again.headers["ETag"]
        assert first.data == again.data


def test_orders_tag_changes_with_every_change(service: Service, user: str) -> None:
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


def test_items_tag_does_not_follow_neighbours(service: Service, user: str) -> None:
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
def test_writes_and_reads_agree_on_tag(service: Service, user: str, write: str) -> None:
    order = service.ordered(user, 1, 1)
    before = current_tag(service, user, order, write)
    response = send(service, user, order, write, "*")
    assert response.status_code == 200
    assert response.headers["ETag"] == current_tag(service, user, order, write)
    assert response.headers["ETag"] != before


Reads = pytest.mark.parametrize("path", reads_of_one())
HELD = ["{tag}", "W/{tag}", "*", '"x", {tag}', '{tag},"x"', '"x" ,\tW/{tag} , "y"']
HELD += [
    "W/{tag} ,",
    ",{tag}",
    ' ,\t, "x",, {tag} , ,',
    '{tag},"\xe9"',
    " * ",
    ",{tag},",
]
# Legal, and without any tag.
EMPTY = ["", ",", " , ,\t,"]


@Reads
def test_what_the_caller_has_already_is_304_without_a_body(
    service: Service, user: str, path: str
) -> None:
    address = path_of(path, service.ordered(user))
    current = tag(service, user, address)
    for form in HELD:
        headers = {"If-None-Match": form.format(tag=current)}
        response = service.crud("GET", address, user, headers=headers)
        assert (response.status_code, response.data) == (304, b""), form
        assert response.headers["ETag"] == current
        assert response.headers["X-Request-ID"]
        head = service.crud("HEAD", address, user, headers=headers)
        assert head.status_code == 304


@Reads
def test_new_tags_200(service: Service, user: str, path: str) -> None:
    address = path_of(path, service.ordered(user))
    for form in ('"x"', 'W/"x"', '""', '"*"', '"x", "y"', '"x",,', *EMPTY):
        response = service.crud("GET", address, user, headers={"If-None-Match": form})
        assert (response.status_code, bool(response.data)) == (200, True), form


def test_no_shared_cache_may_keep_a_response(service: Service, user: str) -> None:
    order = service.ordered(user)
    responses = [
        service.crud("GET", order_path(order), user),
        service.crud("GET", "/api/orders/", user),
        service.crud("GET", "/api/order-items/", user),
        service.crud("GET", f"{order_path(order)}timeline/", user),
        service.crud("PATCH", order_path(order), user, json={"metadata": {"a": "1"}}),
        service.crud("POST", "/api/orders/", user, json={}),
        service.crud("DELETE", order_path(order), user),
        service.crud("GET", order_path(order), user),
        service.crud("GET", "/api/orders/?limit=x", user),
        service.crud("PUT", "/api/orders/", user),
        service.call("orders_crud", "GET", "/api/orders/"),
    ]
    statuses = [200, 200, 200, 200, 200, 201, 204, 404, 400, 405, 401]
    assert [response.status_code for response in responses] == statuses
    for response in responses:
        assert "private" in response.headers["Cache-Control"]


@pytest.mark.parametrize("write", WRITES)
def test_a_tag_that_does_not_hold_or_is_none_is_refused_and_nothing_is_changed(
    service: Service, user: str, write: str
) -> None:
    order = service.ordered(user, 2, 1)
    current = current_tag(service, user, order, write)
    with nothing_written(service):
        stale = ('"stale"', "W/{tag}", '"stale", "older"', '""', '"*"', ',"stale",')
        for form in (*stale, *EMPTY):
            assert re.search(DOCUMENTED, form.format(tag=current))
            response = send(service, user, order, write, form.format(tag=current))
            problem(response, 412, "precondition-failed")
        for malformed in (
            "1",
            "stale",
            "*,",
            ", *",
            '"a"; "b"',
            '"open',
            'shut"',
            '"a b"',
            "*, *",
            '"a" "b"',
        ):
            assert not re.search(DOCUMENTED, malformed)
            refused_field(send(service, user, order, write, malformed), "If-Match")
        refused_field(send(service, user, order, write, "W/1"), "If-Match")


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    "form", ["{tag}", "*", '"stale", {tag}', '{tag} , "stale"', ', ,"stale",, {tag} ,']
)
def test_tag_that_holds(service: Service, user: str, write: str, form: str) -> None:
    order = service.ordered(user, 2, 1)
    current = form.format(tag=current_tag(service, user, order, write))
    response = send(service, user, order, write, current)
    assert response.status_code in (200, 204), response.get_data(as_text=True)


@Reads
def test_a_malformed_if_none_match_is_a_400_that_names_it(
    service: Service, user: str, path: str
) -> None:
    address = path_of(path, service.ordered(user))
    for malformed in ("1", '"open', "*, *", 'w/"a"', '"a" "b"', "W /*", '"a";', "*,"):
        headers = {"If-None-Match": malformed}
        response = service.crud("GET", address, user, headers=headers)
        refused_field(response, "If-None-Match")


def test_tag_counts_also_where_nothing_changes(service: Service, user: str) -> None:
    order = service.ordered(user, 2)
    headers = {"If-Match": '"stale"'}
    for path in (order_path(order), item_path(order)):
        response = service.crud("PATCH", path, user, json={}, headers=headers)
        problem(response, 412, "precondition-failed")
    response = service.move(order["items"][0]["id"], 1, headers=headers)
    problem(response, 412, "precondition-failed")


def test_a_long_list_of_empty_elements_is_read_in_no_time(
    service: Service, user: str
) -> None:
    address = order_path(service.ordered(user))
    for form in (", \t" * 2000 + "!", '"x" ,' * 1500 + "!", " " * 8000 + "!"):
        headers = {"If-None-Match": form}
        response = service.crud("GET", address, user, headers=headers)
        refused_field(response, "If-None-Match")
