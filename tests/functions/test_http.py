"""Paths, methods and headers that all routes share."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from infra.local.gateway import function_of
from tests.support.documented import operations
from tests.support.observed import problem
from tests.support.service import FUNCTIONS, Service
from tests.support.shared import service_of_file

service = pytest.fixture(service_of_file, scope="module")

UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
ALL = sorted(path.parent.name for path in Path(FUNCTIONS).glob("*/main.py"))
OF_ORDERS = ("orders_crud", "item_status", "create_order_from_cart")

READS = {"GET", "HEAD"}


def documented_routes() -> dict[str, dict[str, set[str]]]:
    """Return the documented paths and methods of the functions that serve orders."""
    found: dict[str, dict[str, set[str]]] = {name: {} for name in OF_ORDERS}
    for method, path, _ in operations():
        if path.startswith("/api/order"):
            name = "{item}" if "/order-items/" in path else "{order}"
            route = path.rstrip("/").replace("{id}", name)
            methods = found[function_of(path)].setdefault(route, set())
            methods |= READS if method == "GET" else {method}
    return found


# Each function's paths, without their trailing slash, and methods, beside OPTIONS.
ROUTES: dict[str, dict[str, set[str]]] = documented_routes() | {
    "approval_handler": {"/dead-letters": {"POST"}, "/any/path": {"POST"}},
    "outbox_relay": {"/any/path": {"POST"}},
    "api_docs": {
        "/openapi.json": READS,
        "/api/schema": READS,
        "/api/schema/swagger-ui": READS,
        "/api/schema/redoc": READS,
        "/api/schema/events": READS,
        "/problems": READS,
        "/problems/not-found": READS,
    },
    "ops_console": {
        "/ops": READS,
        "/ops/console.css": READS,
        "/ops/charts/orders-hours": READS,
        "/ops/charts/orders-hours.svg": READS,
        "/ops/orders": READS,
        "/ops/orders/{order}": READS,
        "/ops/events": READS,
        "/ops/letters": READS,
        "/ops/actions": READS,
        "/ops/do/move-item": {*READS, "POST"},
    },
}
HEALTH = {f"/health/{name}": READS for name in ("live", "ready", "start")}
# Functions whose triggers call any path have no method but POST that is not for it.
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "OPTIONS", "TRACE", "BREW", "DELETE"]
METHODS += ["PROPFIND", "QUERY", "CONNECT", "X" * 300]
ORDERS_ROUTES = [
    (function, path) for function in OF_ORDERS for path in ROUTES[function]
]


def raw(
    service: Service, function: str, method: str, path: str, **kwargs: Any
) -> TestResponse:
    """Send the path as it is; the test client would take `//` for a host."""
    sent = {"json": {}, "environ_overrides": {"PATH_INFO": path}} | kwargs
    return service.call(function, method, "/", **sent)


def new_ids(service: Service, user: str) -> dict[str, int]:
    """Order; return the ids that paths are made with."""
    order = service.ordered(user)
    return {"order": order["id"], "item": order["items"][0]["id"]}


@pytest.mark.parametrize("function", ALL)
def test_every_method_of_every_route_is_answered_alike_with_and_without_its_slash(
    service: Service, user: str, function: str
) -> None:
    """As the route's, or by 405 with those that it has; never by a redirect."""
    routes = ROUTES[function] | (HEALTH if function in OF_ORDERS else {})
    headers = {"X-Ops-Operator": "o@example.com", "X-Request-ID": "matrix"}
    ids = new_ids(service, user)
    for path, methods in routes.items():
        ids = new_ids(service, user) if "{" in path else ids
        for method in METHODS:
            statuses = set()
            for form in ("{}", "{}/", "//{}/"):
                if method == "DELETE" and "DELETE" in methods:
                    ids = new_ids(service, user)
                address = form.format(path.format(**ids))
                response = raw(
                    service, function, method, address, user=user, headers=headers
                )
                told = f"{method} {address}: {response.status}"
                assert response.headers.getlist("X-Request-ID") == ["matrix"], told
                assert not 301 <= response.status_code <= 308, told
                statuses.add(response.status_code)
                if method == "OPTIONS":
                    assert (response.status_code, response.data) == (200, b""), told
                    assert _allowed(response) == {*methods, "OPTIONS"}, told
                elif method not in methods:
                    assert response.status_code == 405, told
                    assert _allowed(response) == {*methods, "OPTIONS"}, told
                    if method != "HEAD" and function != "ops_console":
                        problem(response, 405, "method-not-allowed")
                else:
                    assert response.status_code not in (404, 405), told
                    assert response.status_code < 500, told
            assert len(statuses) == 1, (method, path, statuses)


@pytest.mark.parametrize(("function", "path"), ORDERS_ROUTES)
def test_slashes_inside_of_a_path_are_a_404_and_never_a_redirect(
    service: Service, user: str, function: str, path: str
) -> None:
    path = path.format(order=1, item=1)
    for address in (path + "//", path.replace("/api/", "/api//")):
        for method in METHODS:
            response = raw(service, function, method, address, user=user)
            assert response.status_code == 404, (method, address)


def _allowed(response: TestResponse) -> set[str]:
    return {method.strip() for method in response.headers["Allow"].split(",")}


@pytest.mark.parametrize(
    "path", [p for p, methods in ROUTES["orders_crud"].items() if "HEAD" in methods]
)
def test_head_has_the_headers_of_get(service: Service, user: str, path: str) -> None:
    service.ordered(user)
    order = service.ordered(user)
    path = path.format(order=order["id"], item=order["items"][0]["id"]) + "/?limit=1"
    headers = {"X-Request-ID": "both"}
    get = service.crud("GET", path, user, headers=headers)
    head = service.crud("HEAD", path, user, headers=headers)
    assert (get.status_code, head.status_code) == (200, 200)
    assert head.data == b""
    assert dict(head.headers) == dict(get.headers)


UNKNOWN = ["/", "/api/", "/api/order/", "/api/orders/1/items/", "/API/ORDERS/", "/%ff/"]
UNKNOWN += ["/api/order-items/1/status/2/", "/api/orders/../orders/", "/healthz"]


def test_unknown_or_others_addresses_are_404(service: Service, user: str) -> None:
    for path, function in itertools.product(UNKNOWN, OF_ORDERS):
        for method in ("GET", "POST", "PATCH", "DELETE"):
            response = service.call(function, method, path, user=user, json={})
            problem(response, 404, "not-found")
    for function, path in ORDERS_ROUTES:
        for other in set(OF_ORDERS) - {function}:
            address = path.format(order=1, item=1) + "/"
            response = service.call(other, "GET", address, user=user)
            problem(response, 404, "not-found")


def test_only_a_sane_request_id_is_returned(service: Service, user: str) -> None:
    """What is sane: tests/unit/test_logs.py."""
    for path in ("/api/orders/", "/api/orders/0/", "/nowhere", "/health/live"):
        given = []
        for request_id in ("projects/p:1+2=3_4.5-6", "a,b", "", None):
            headers = {} if request_id is None else {"X-Request-ID": request_id}
            response = service.crud("GET", path, user, headers=headers)
            given += response.headers.getlist("X-Request-ID")
        assert given[0] == "projects/p:1+2=3_4.5-6"
        assert all(re.fullmatch(UUID, request_id) for request_id in given[1:])
        assert len(set(given)) == 4


@pytest.mark.parametrize("prefix", ["/order", "/order/", "/a/b-c_d.e~f"])
def test_addresses_carry_the_prefix(service: Service, user: str, prefix: str) -> None:
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


FORGED = ["", "/", "order", "//evil.example", "https://evil.example", "/a//b", "/a b"]
FORGED += ["/a?b", "/a#b", '/a">', "/a>; rel=next", "/a,/b", "/é", "/%2e", "\\evil"]
FORGED += ["/a\\b", "/a" * 200]


def test_a_forged_prefix_is_ignored(service: Service, user: str) -> None:
    service.crud("POST", "/api/orders/", user, json={})
    for prefix in FORGED:
        headers = {"X-Forwarded-Prefix": prefix}
        order = service.crud("POST", "/api/orders/", user, json={}, headers=headers)
        order_id = order.get_json()["id"]
        assert order.headers["Location"] == f"/api/orders/{order_id}/", prefix
        page = service.crud("GET", "/api/orders/?limit=1", user, headers=headers)
        assert page.headers["Link"].startswith("</api/orders/?limit=1&cursor=")


@pytest.mark.parametrize("function", ALL)
def test_a_working_function_is_live_and_ready(service: Service, function: str) -> None:
    for path in ("/health/live", "/health/live/", "/health/ready", "/health/ready/"):
        response = service.call(function, "GET", path)
        assert (response.status_code, response.get_json()) == (200, {"status": "ok"})
        assert response.mimetype == "application/json"
    assert service.call(function, "HEAD", "/health/ready").status_code == 200


def test_json_in_answers_is_utf_8(service: Service, user: str) -> None:
    body = {"metadata": {"é": "😀"}}
    created = service.crud("POST", "/api/orders/", user, json=body)
    read = service.crud("GET", created.headers["Location"], user)
    for response in (created, read):
        assert json.loads(response.data.decode())["metadata"] == body["metadata"]
