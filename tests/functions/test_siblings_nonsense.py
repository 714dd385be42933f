"""Siblings that answer what makes no sense: a 502 names them, nothing is written."""

import json
from typing import Any

import pytest
from werkzeug.test import TestResponse

from infra.local.sandbox import catalogue
from tests.support.odd_server import odd_server, says
from tests.support.service import Service

VARIABLES = {"shopcart": "SHOPCART_SERVICE", "product": "PRODUCT_SERVICE"}
siblings = pytest.mark.parametrize("sibling", ["shopcart", "product"])

CART = {
    "id": 42,
    "user_uuid": "d0d0d0d0-0000-4000-8000-0000000000aa",
    "items": [{"id": 7, "product_variation_id": catalogue.MUG, "quantity": 2}],
}
PRODUCT = {
    "id": "b" + catalogue.MUG[1:],
    "shop_id": catalogue.POTTERY,
    "title": "Mug",
    "is_active": True,
    "base_price": 10.0,
}
VARIATION = {
    "id": catalogue.MUG,
    "product_id": PRODUCT["id"],
    "amount": 5,
    "price": 9.99,
    "product": PRODUCT,
}


@pytest.fixture(autouse=True)
def _cart(service: Service, user: str) -> None:
    service.sandbox.add_to_cart(user, catalogue.MUG, 2)


def check_broken(service: Service, response: TestResponse, sibling: str) -> None:
    """Check that the answer is a 502 that names the sibling and nothing else."""
    text = response.get_data(as_text=True)
    assert response.status_code == 502, text
    assert response.headers["Content-Type"] == "application/problem+json"
    told = response.get_json()
    assert told["type"] == "/problems/upstream-broken"
    assert sibling in told["detail"]
    assert told["service"] == sibling
    for secret in ("http", "127.0.0.1", "sandbox/", "secret", "Traceback"):
        assert secret not in text
    assert service.rows("SELECT id FROM orders") == []
    assert service.sandbox.calls_to("shopcart", method="DELETE") == []


def without(content: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != name}


def line(**changes: Any) -> dict[str, Any]:
    return CART | {"items": [CART["items"][0] | changes]}  # type: ignore[index]


@siblings
@pytest.mark.parametrize(
    "body",
    [
        "",
        "nonsense",
        "{",
        '{"id": 42, "items": [',
        "null",
        "[]",
        "42",
        '"a string"',
        "{}",
        '{"id": NaN}',
        "<html>It works!</html>",
        "[" * 100_000,
        '{"detail": "secret of http://127.0.0.1:9"}',
    ],
)
def test_body_that_is_no_json_of_the_right_shape_is_nonsense(
    service: Service, user: str, sibling: str, body: str
) -> None:
    service.sandbox.fault(sibling, body=body)
    check_broken(service, service.checkout(user), sibling)
    assert len(service.sandbox.calls_to(sibling)) == 1


@siblings
@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 308, 304])
def test_status_that_is_not_an_answer_is_nonsense(
    service: Service, user: str, sibling: str, status: int
) -> None:
    service.sandbox.fault(sibling, status=status)
    check_broken(service, service.checkout(user), sibling)


@siblings
@pytest.mark.parametrize("status", [400, 401, 403, 405, 410])
def test_sibling_that_takes_us_for_wrong_is_nonsense(
    service: Service, user: str, sibling: str, status: int
) -> None:
    service.sandbox.fault(sibling, status=status)
    check_broken(service, service.checkout(user), sibling)


@siblings
def test_redirect_is_not_followed(service: Service, user: str, sibling: str) -> None:
    away = service.sandbox.environ[VARIABLES[sibling]] + "/api/mycart/"
    answer = f"HTTP/1.1 302 Found\nLocation: {away}\nContent-Length: 0\n\n"
    with odd_server(says(answer)) as server:
        service.set(**{VARIABLES[sibling]: server.url})
        check_broken(service, service.checkout(user), sibling)
    assert service.sandbox.calls_to(sibling) == []


@siblings
@pytest.mark.parametrize(
    "answer",
    [
        "220 mail.example ESMTP\n",
        "HTTP/1.1 twohundred OK\n\n",
        "SSH-2.0-OpenSSH_9.6\n",
        "HTTP/1.1 101 Switching Protocols\nUpgrade: x\nConnection: Upgrade\n\n",
        "HTTP/1.1 200 OK\n" + "X: y\n" * 101 + "\n",
        "HTTP/1.1 200 OK\nX: " + "y" * 70_000 + "\n\n",
    ],
)
def test_answer_that_is_no_http_is_nonsense_and_not_asked_for_again(
    service: Service, user: str, sibling: str, answer: str
) -> None:
    with odd_server(says(answer)) as server:
        service.set(**{VARIABLES[sibling]: server.url})
        check_broken(service, service.checkout(user), sibling)
        assert len(server.requests) == 1


@siblings
def test_answer_without_end_is_nonsense(
    service: Service, user: str, sibling: str
) -> None:
    head = "HTTP/1.1 200 OK\nContent-Length: 9000000\n\n"
    with odd_server(says(head + "[" * 9_000_000)) as server:
        service.set(**{VARIABLES[sibling]: server.url})
        check_broken(service, service.checkout(user), sibling)


@pytest.mark.parametrize(
    "cart",
    [
        without(CART, "id"),
        without(CART, "items"),
        CART | {"id": "42"},
        CART | {"id": None},
        CART | {"id": True},
        CART | {"items": None},
        CART | {"items": {}},
        CART | {"items": [None]},
        CART | {"items": [[]]},
        line(id="7"),
        line(id=None),
        line(id=7.5),
        line(product_variation_id=7),
        line(quantity="2"),
        line(quantity=2.5),
        line(quantity=True),
        CART | {"items": [{"id": 7}]},
    ],
)
def test_cart_with_wrong_types_is_nonsense(
    service: Service, user: str, cart: dict[str, Any]
) -> None:
    service.sandbox.fault("shopcart", body=json.dumps(cart))
    check_broken(service, service.checkout(user), "shopcart")


@pytest.mark.parametrize(
    "variation",
    [
        without(VARIATION, "id"),
        without(VARIATION, "amount"),
        VARIATION | {"id": None},
        VARIATION | {"id": "17"},
        VARIATION | {"amount": None},
        VARIATION | {"amount": "5"},
        VARIATION | {"amount": 5.5},
        VARIATION | {"amount": True},
        VARIATION | {"price": "cheap"},
        VARIATION | {"price": True},
        VARIATION | {"price": [9.99]},
        VARIATION | {"product_id": 17},
        VARIATION | {"product_id": "17"},
        VARIATION | {"product": "Mug"},
        VARIATION | {"product": without(PRODUCT, "id")},
        VARIATION | {"product": PRODUCT | {"shop_id": 5}},
        VARIATION | {"product": PRODUCT | {"is_active": "yes"}},
        VARIATION | {"product": PRODUCT | {"title": 5}},
        VARIATION | {"product": PRODUCT | {"base_price": "dear"}},
    ],
)
def test_variation_with_wrong_types_is_nonsense(
    service: Service, user: str, variation: dict[str, Any]
) -> None:
    service.sandbox.fault("product", body=json.dumps(variation))
    check_broken(service, service.checkout(user), "product")


def test_trap_variation_of_another_id_is_refused(service: Service, user: str) -> None:
    mixed_up = VARIATION | {"id": catalogue.NAIL}
    service.sandbox.fault("product", body=json.dumps(mixed_up))
    check_broken(service, service.checkout(user), "product")


def test_trap_product_of_another_id_is_refused(service: Service, user: str) -> None:
    bare = VARIATION | {"product": None}
    mixed_up = PRODUCT | {"id": "b" + catalogue.NAIL[1:]}
    service.sandbox.fault("product", path="variations", body=json.dumps(bare))
    service.sandbox.fault("product", body=json.dumps(mixed_up))
    check_broken(service, service.checkout(user), "product")


def test_trap_nested_product_of_another_id_is_refused(
    service: Service, user: str
) -> None:
    mixed_up = VARIATION | {"product": PRODUCT | {"id": "b" + catalogue.NAIL[1:]}}
    service.sandbox.fault("product", body=json.dumps(mixed_up))
    check_broken(service, service.checkout(user), "product")


def test_answers_that_only_look_odd_are_taken(service: Service, user: str) -> None:
    cart = CART | {"user_uuid": user, "coupon": None}
    odd = PRODUCT | {"shop_id": catalogue.POTTERY.upper(), "is_active": None, "x": []}
    variation = VARIATION | {"id": catalogue.MUG.upper(), "product": odd}
    variation |= {"price": "9.99", "count": None, "amount_limit": "none"}
    service.sandbox.fault("shopcart", body=json.dumps(cart))
    service.sandbox.fault("product", body=json.dumps(variation))
    response = service.checkout(user)
    assert response.status_code == 201
    [item] = response.get_json()["order"]["items"]
    assert (item["price"], item["shop_id"]) == (999, catalogue.POTTERY)


def test_one_line_of_nonsense_among_good_ones_is_a_502(
    service: Service, user: str
) -> None:
    service.sandbox.add_to_cart(user, catalogue.NAIL)
    service.sandbox.add_to_cart(user, catalogue.RUG)
    service.sandbox.fault("product", path=catalogue.NAIL, body="{}")
    check_broken(service, service.checkout(user), "product")
