"""Paths, methods and headers that all routes share."""

import json
import re
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from tests.support.observed import everything, problem
from tests.support.service import FUNCTIONS, Service
from tests.support.shared import service_of_file

service = pytest.fixture(service_of_file, scope="module")

UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
ALL = sorted(path.parent.name for path in Path(FUNCTIONS).glob("*/main.py"))
OF_ORDERS = ("orders_crud", "item_status", "create_order_from_cart")

# Function, path without its trailing slash, methods.
ROUTES: list[tuple[str, str, set[str]]] = [
    ("orders_crud", "/api/orders", {"GET", "HEAD", "POST", "OPTIONS"}),
    (
        "orders_crud",
        "/api/orders/{order}",
        {"GET", "HEAD", "PATCH", "DELETE", "OPTIONS"},
    ),
    ("orders_crud", "/api/orders/{order}/timeline", {"GET", "HEAD", "OPTIONS"}),
    ("orders_crud", "/api/order-items", {"GET", "HEAD", "POST", "OPTIONS"}),
    (
        "orders_crud",
        "/api/order-items/{item}",
        {"GET", "HEAD", "PATCH", "DELETE", "OPTIONS"},
    ),
    ("item_status", "/api/order-items/{item}/status", {"PATCH", "OPTIONS"}),
    ("create_order_from_cart", "/api/orders-from-shopcart", {"POST", "OPTIONS"}),
]
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}
METHODS |= {"BREW", "PROPFIND", "QUERY", "CONNECT", "X" * 300}


def raw(
    service: Service, function: str, method: str, path: str, user: str
) -> TestResponse:
    """Send the path as it is; the test client would take `//` for a host."""
    return service.call(
        function, method, "/", user=user, environ_overrides={"PATH_INFO": path}
    )


@pytest.mark.parametrize(("function", "path", "methods"), ROUTES)
def test_a_route_answers_with_and_without_its_slash_and_never_redirects(
    service: Service, user: str, function: str, path: str, methods: set[str]
) -> None:
    order = service.ordered(user)
    path = path.format(order=order["id"], item=order["items"][0]["id"])
    for method in sorted(methods - {"DELETE"}):
        answers = [
            service.call(function, method, address, user=user, json={})
            for address in (path, path + "/")
        ]
        bare, slashed = answers
        assert bare.status_code == slashed.status_code
        assert bare.status_code not in (404, 405), method
        assert not 300 <= bare.status_code < 400


def test_a_deletion_works_with_and_without_the_slash(
    service: Service, user: str
) -> None:
    for slash in ("", "/"):
        order = service.ordered(user, 1, 1)
        item = f"/api/order-items/{order['items'][0]['id']}{slash}"
        assert service.crud("DELETE", item, user).status_code == 204
        path = f"/api/orders/{order['id']}{slash}"
        assert service.crud("DELETE", path, user).status_code == 204


@pytest.mark.parametrize(("function", "path", "methods"), ROUTES)
def test_doubled_slashes_never_redirect(
    service: Service, user: str, function: str, path: str, methods: set[str]
) -> None:
    path = path.format(order=1, item=1)
    doubled = [
        path + "//",
        "/" + path,
        "//" + path + "///",
        path.replace("/", "//"),
        path.replace("/api/", "/api//"),
    ]
    for method in sorted(methods - {"DELETE"}):
        for address in doubled:
            response = raw(service, function, method, address, user)
            assert not 300 <= response.status_code < 400, address
            assert response.status_code < 500, address


@pytest.mark.parametrize(("function", "path", "methods"), ROUTES)
def test_a_method_that_a_route_does_not_have_is_405_with_those_it_has(
    service: Service, user: str, function: str, path: str, methods: set[str]
) -> None:
    order = service.ordered(user)
    path = path.format(order=order["id"], item=order["items"][0]["id"]) + "/"
    before = everything(service)
    for method in sorted(METHODS - methods):
        response = service.call(function, method, path, user=user, json={})
        assert response.status_code == 405, method
        if method != "HEAD":
            problem(response, 405, "method-not-allowed")
        assert _allowed(response) == methods
    assert everything(service) == before


def _allowed(response: TestResponse) -> set[str]:
    return {method.strip() for method in response.headers["Allow"].split(",")}


@pytest.mark.parametrize(("function", "path", "methods"), ROUTES)
def test_options_tells_the_methods_without_asking_who_calls(
    service: Service, function: str, path: str, methods: set[str]
) -> None:
    response = service.call(function, "OPTIONS", path.format(order=1, item=1) + "/")
    assert (response.status_code, response.data) == (200, b"")
    assert _allowed(response) == methods


@pytest.mark.parametrize("path", [p for _, p, methods in ROUTES if "HEAD" in methods])
def test_head_answers_the_headers_of_get_and_no_body(
    service: Service, user: str, path: str
) -> None:
    service.ordered(user)
    order = service.ordered(user)
    path = path.format(order=order["id"], item=order["items"][0]["id"]) + "/?limit=1"
    headers = {"X-Request-ID": "both"}
    get = service.crud("GET", path, user, headers=headers)
    head = service.crud("HEAD", path, user, headers=headers)
    assert (get.status_code, head.status_code) == (200, 200)
    assert head.data == b""
    assert dict(head.headers) == dict(get.headers)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/",
        "/api/order/",
        "/api/orders/abc/",
        "/api/orders/-1/",
        "/api/orders/1.0/",
        "/api/orders/+1/",
        "/api/orders/1e3/",
        "/api/orders/0x10/",
        "/api/orders/٣/",
        "/api/orders/1/items/",
        "/api/orders/99999999999999999999/",
        "/api/orders/1;x/",
        "/api/orders/%00/",
        "/api/order-items/1/status/2/",
        "/API/ORDERS/",
        "/api/orders/../orders/",
        "/healthz",
        "/%ff/",
    ],
)
def test_an_unknown_address_is_a_404_problem(
    service: Service, user: str, path: str
) -> None:
    for function in OF_ORDERS:
        for method in ("GET", "POST", "PATCH", "DELETE"):
            response = service.call(function, method, path, user=user, json={})
            problem(response, 404, "not-found")


def test_a_function_answers_its_own_routes_only(service: Service, user: str) -> None:
    for function, path, _ in ROUTES:
        for other in set(OF_ORDERS) - {function}:
            address = path.format(order=1, item=1) + "/"
            response = service.call(other, "GET", address, user=user)
            problem(response, 404, "not-found")


# X-Request-ID


@pytest.mark.parametrize(
    "request_id",
    ["a", "x" * 128, "projects/p:1+2=3_4.5-6", "0c0c0c0c-0000-4000-8000-000000000001"],
)
def test_a_sane_request_id_comes_back(
    service: Service, user: str, request_id: str
) -> None:
    for path in ("/api/orders/", "/api/orders/0/", "/nowhere", "/health/live"):
        headers = {"X-Request-ID": request_id}
        response = service.crud("GET", path, user, headers=headers)
        assert response.headers.getlist("X-Request-ID") == [request_id]


@pytest.mark.parametrize(
    "request_id",
    [None, "", " ", "a b", "x" * 129, "é", '"quoted"', "<script>", "a,b", "a\tb"],
)
def test_an_absent_or_insane_request_id_is_replaced(
    service: Service, user: str, request_id: str | None
) -> None:
    headers = {} if request_id is None else {"X-Request-ID": request_id}
    answered = [
        service.crud("GET", "/api/orders/", user, headers=headers) for _ in range(2)
    ]
    given = [response.headers["X-Request-ID"] for response in answered]
    assert all(re.fullmatch(UUID, request_id) for request_id in given)
    assert given[0] != given[1]


# X-Forwarded-Prefix


@pytest.mark.parametrize("prefix", ["/order", "/order/", "/a/b-c_d.e~f"])
def test_addresses_in_answers_carry_the_gateways_prefix(
    service: Service, user: str, prefix: str
) -> None:
    headers = {"X-Forwarded-Prefix": prefix}
    variation = service.sandbox.add_article()
    order = service.crud("POST", "/api/orders/", user, json={}, headers=headers)
    order_id = order.get_json()["id"]
    bare = prefix.rstrip("/")
    assert order.headers["Location"] == f"{bare}/api/orders/{order_id}/"
    line = {"order": order_id, "product_variation": variation}
    item = service.crud("POST", "/api/order-items/", user, json=line, headers=headers)
    address = f"{bare}/api/order-items/{item.get_json()['id']}/"
    assert item.headers["Location"] == address
    service.sandbox.add_to_cart(user, variation)
    bought = service.call(
        "create_order_from_cart",
        "POST",
        "/api/orders-from-shopcart/",
        user=user,
        headers=headers,
    )
    address = f"{bare}/api/orders/{bought.get_json()['order_id']}/"
    assert bought.headers["Location"] == address
    page = service.crud("GET", "/api/orders/?limit=1", user, headers=headers)
    assert page.headers["Link"].startswith(f"<{bare}/api/orders/?limit=1&cursor=")


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "/",
        "order",
        "//evil.example",
        "https://evil.example",
        "/a//b",
        "/a b",
        "/a?b",
        "/a#b",
        '/a">',
        "/a>; rel=next",
        "/a,/b",
        "/é",
        "/%2e",
        "\\evil",
        "/a\\b",
    ],
)
def test_a_forged_prefix_is_ignored(service: Service, user: str, prefix: str) -> None:
    headers = {"X-Forwarded-Prefix": prefix}
    for _ in range(2):
        order = service.crud("POST", "/api/orders/", user, json={}, headers=headers)
        order_id = order.get_json()["id"]
        assert order.headers["Location"] == f"/api/orders/{order_id}/"
    page = service.crud("GET", "/api/orders/?limit=1", user, headers=headers)
    assert page.headers["Link"].startswith("</api/orders/?limit=1&cursor=")


# Health


@pytest.mark.parametrize("function", ALL)
def test_a_process_that_runs_is_live(service: Service, function: str) -> None:
    for path in ("/health/live", "/health/live/"):
        response = service.call(function, "GET", path)
        assert (response.status_code, response.get_json()) == (200, {"status": "ok"})
        assert response.mimetype == "application/json"


@pytest.mark.parametrize("function", ALL)
def test_a_function_that_can_serve_is_ready(service: Service, function: str) -> None:
    for path in ("/health/ready", "/health/ready/"):
        response = service.call(function, "GET", path)
        assert (response.status_code, response.get_json()) == (200, {"status": "ok"})
    assert service.call(function, "HEAD", "/health/ready").status_code == 200


def test_json_in_answers_is_utf_8(service: Service, user: str) -> None:
    body = {"metadata": {"é": "😀"}}
    created = service.crud("POST", "/api/orders/", user, json=body)
    read = service.crud("GET", created.headers["Location"], user)
    for response in (created, read):
        assert json.loads(response.data.decode())["metadata"] == body["metadata"]
