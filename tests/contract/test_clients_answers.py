"""Siblings' responses: redirects, front ends' pages, and what a body may hold."""

import json
import logging
import time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from common.clients import product, shopcart
from common.clients.batch import Upstream
from common.clients.calls import Call
from common.clients.shopcart import Outcome
from common.errors import (
    CartNotFoundError,
    UpstreamBrokenError,
)
from tests.support.odd_server import (
    OddServer,
    answers,
)
from tests.support.upstreams import CALLER, OK, hang_up, statuses

USER, MUG, NAIL, MAKER, SHOP = (
    f"{n}0000000-0000-4000-8000-00000000000a" for n in "abcde"
)
LINE = {"id": 7, "product_variation_id": MUG, "quantity": 2}
CART = {"id": 42, "user_uuid": USER, "items": [LINE]}
PRODUCT = {
    "id": MAKER,
    "shop_id": SHOP,
    "title": "Mug",
    "is_active": True,
    "base_price": 10.0,
}
VARIATION = {
    "id": MUG,
    "product_id": MAKER,
    "amount": 5,
    "price": 9.99,
    "product": PRODUCT,
}

# Redirects.


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize(
    "where", ["/there/?a=b", "{url}/there/?a=b", "//{host}/there/?a=b"]
)
def test_a_get_follows_one_redirect_on_the_same_host(
    server: OddServer, upstream: Upstream, status: int, where: str
) -> None:
    host = server.url.removeprefix("http://")
    location = f"Location: {where.format(url=server.url, host=host)}"
    server.replies = (answers("", status, location), OK, OK)
    assert statuses(upstream) == [200]
    assert server.requests[1].startswith("GET /there/?a=b HTTP/1.1\r\n")
    assert f"X-User-ID: {USER}" in server.requests[1]


@pytest.mark.parametrize(
    ("method", "status", "location"),
    [
        ("GET", 301, "/there"),
        ("GET", 302, "/there"),
        ("GET", 303, "/there"),
        ("GET", 307, "http://elsewhere.invalid/there"),
        ("GET", 307, "http://127.0.0.1:1/there"),
        ("GET", 308, "http://[broken"),
        ("GET", 308, "there"),
        ("GET", 308, "/ä b"),
        ("GET", 308, ""),
        ("PUT", 307, "/there"),
        ("DELETE", 308, "/there"),
    ],
)
def test_no_other_redirect_is_followed(
    server: OddServer, upstream: Upstream, method: Any, status: int, location: str
) -> None:
    server.replies = (answers("", status, f"Location: {location}"), OK)
    assert statuses(upstream, Call(method, "/x")) == [status]
    assert len(server.requests) == 1


def test_a_second_redirect_is_not_followed(
    server: OddServer, upstream: Upstream
) -> None:
    server.replies = (answers("", 307, "Location: /again"),)
    assert statuses(upstream) == [307]
    assert len(server.requests) == 2


# What counts as the sibling's own word.

PAGE = "<html><body>Not Found</body></html>"
SAYINGS = [
    PAGE,
    "",
    "null",
    "[]",
    "{}",
    '{"message": "no Route matched"}',
    '{"detail": null}',
]


@pytest.mark.parametrize("odd", [{"\xff": 1}, {"x": "\xff"}, {"x": [{"\xe4": 1}]}])
def test_a_body_that_is_not_utf_8_is_invalid_also_in_fields_that_are_ignored(
    server: OddServer, upstream: Upstream, odd: dict[str, Any]
) -> None:
    def says(content: dict[str, Any]) -> None:
        body = json.dumps(content | odd, ensure_ascii=False).encode("latin-1")
        head = f"HTTP/1.1 200 X\r\nContent-Length: {len(body)}\r\n\r\n"
        server.replies = (lambda link: link.sendall(head.encode() + body),)

    deadline = time.monotonic() + 10
    says(VARIATION)
    with pytest.raises(UpstreamBrokenError):
        product.get_variations(upstream, CALLER, [UUID(MUG)], deadline)
    says(CART)
    with pytest.raises(UpstreamBrokenError):
        shopcart.get_shopcart_data(upstream, CALLER, deadline)
    says({"message": "done"})
    changes = [(7, None)]
    outcomes = shopcart.change_lines(upstream, CALLER, changes, deadline)
    assert outcomes == [Outcome.UNKNOWN]


@pytest.mark.parametrize("body", SAYINGS)
def test_a_front_end_s_404_is_neither_an_absent_cart_nor_an_absent_product(
    server: OddServer, upstream: Upstream, body: str
) -> None:
    for status in (404, 422):
        server.replies = (answers(body, status),)
        deadline = time.monotonic() + 10
        with pytest.raises(UpstreamBrokenError):
            shopcart.get_shopcart_data(upstream, CALLER, deadline)
        with pytest.raises(UpstreamBrokenError):
            product.get_variations(upstream, CALLER, [UUID(MUG)], deadline)
        changes = [(7, None), (8, 2)]
        ends = shopcart.change_lines(upstream, CALLER, changes, deadline)
        assert ends == [Outcome.UNKNOWN, Outcome.UNKNOWN]


def test_the_sibling_s_own_404_says_that_there_is_none(
    server: OddServer, upstream: Upstream
) -> None:
    deadline = time.monotonic() + 10
    server.replies = (answers('{"detail": "Cart not found"}', 404),)
    with pytest.raises(CartNotFoundError):
        shopcart.get_shopcart_data(upstream, CALLER, deadline)
    ends = shopcart.change_lines(upstream, CALLER, [(7, None), (8, 5)], deadline)
    assert ends == [Outcome.DONE, Outcome.REFUSED]
    for status, detail in ((404, '"unknown"'), (422, '[{"type": "uuid_parsing"}]')):
        server.replies = (answers(f'{{"detail": {detail}}}', status),)
        found = product.get_variations(upstream, CALLER, [UUID(MUG)], deadline)
        assert found == {UUID(MUG): None}


@pytest.mark.parametrize("status", [201, 202, 203, 204, 304, 400, 401, 403, 405, 410])
def test_another_status_than_200_is_an_invalid_response(
    server: OddServer, upstream: Upstream, status: int
) -> None:
    server.replies = (answers('{"detail": "no"}' if status >= 400 else "", status),)
    with pytest.raises(UpstreamBrokenError):
        shopcart.get_shopcart_data(upstream, CALLER, time.monotonic() + 10)


def test_whatever_is_no_success_is_logged_with_sibling_method_path_and_status(
    server: OddServer, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    expected: list[tuple[Any, ...]] = []
    for status in (301, 400, 404, 422, 429, 500):
        server.replies = (answers('{"detail": "no"}', status),) * 9
        upstream.close()
        statuses(upstream, Call("DELETE", "/api/items/7"))
        times = 3 if status == 429 else 1
        expected += [("product", "DELETE", "/api/items/7", status)] * times
    server.replies = (hang_up,)
    upstream.close()
    statuses(upstream)
    expected += [("product", "GET", "/api/mycart/", None)] * 3
    server.replies = (OK, OK)
    statuses(upstream)
    with pytest.raises(UpstreamBrokenError):
        shopcart.get_shopcart_data(upstream, CALLER, time.monotonic() + 10)
    expected += [("product", "GET", "/api/mycart/", 200)]  # no cart at all
    found = [
        tuple(
            record.__dict__["fields"][name]
            for name in ("sibling", "method", "path", "status")
        )
        for record in caplog.records
    ]
    assert found == expected
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


# What a body may hold.

NO_JSON = [
    "",
    "nonsense",
    "{",
    '{"id": 42, "items": [',
    "[" * 100_000,
    '{"id": NaN}',
    PAGE,
]
NO_OBJECT = ["null", "[]", "42", '"a string"', "{}", '{"detail": "secret"}']
TOO_MUCH = 2**63
NO_BIG_INTS: list[Any] = [None, True, "7", 7.5, [], TOO_MUCH, -TOO_MUCH - 1, 10**400]
NO_TEXTS: list[Any] = [7, True, [], "a\0b", "x" * 2001]
NO_UUIDS: list[Any] = [17, "17", "", True, {}, MUG + "0"]
NO_PRICES: list[Any] = [
    *(True, [], "cheap", "", "NaN", "sNaN", "Infinity", "-Infinity"),
    *(
        "1_000",
        "1e3",
        "1E+2",
        "1e-2",
        " 1",
        "1 ",
        "1\n",
        "+1",
        "1.",
        ".5",
        "0x1",
        "1,5",
    ),
    *("\u0661\u0662", "\u0661.5", "\uff11", "1.\u0665", "--1", "-", "\u22121", "1\0"),
]


def without(content: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != name}


def each(name: str, content: dict[str, Any], *kinds: Any) -> list[dict[str, Any]]:
    return [content | {name: value} for value in kinds]


CARTS = [
    without(CART, "id"),
    without(CART, "items"),
    *each("id", CART, *NO_BIG_INTS),
    *each("items", CART, None, {}, [None], [[]], [LINE, LINE]),
    *(
        CART | {"items": [line]}
        for line in (
            *(without(LINE, name) for name in LINE),
            *each("id", LINE, *NO_BIG_INTS),
            *each("product_variation_id", LINE, *NO_TEXTS),
            *each("quantity", LINE, *NO_BIG_INTS[1:]),
        )
    ),
]
PRODUCTS = [
    without(PRODUCT, "id"),
    *each("id", PRODUCT, None, NAIL, *NO_UUIDS),
    *each("shop_id", PRODUCT, *NO_UUIDS),
    *each("title", PRODUCT, *NO_TEXTS),
    *each("is_active", PRODUCT, "yes", 1, []),
    *each("base_price", PRODUCT, *NO_PRICES),
]
VARIATIONS = [
    without(VARIATION, "id"),
    without(VARIATION, "amount"),
    *each("id", VARIATION, None, NAIL, *NO_UUIDS),
    *each("amount", VARIATION, *NO_BIG_INTS),
    *each("price", VARIATION, *NO_PRICES),
    *each("product_id", VARIATION, NAIL, *NO_UUIDS),
    *each("product", VARIATION, "Mug", 5, [], *PRODUCTS),
]
UNDECODABLE = ['{"id": 1e99999999999999999999}', '{"id": "\\ud800"}']


@pytest.mark.parametrize(
    "body", NO_JSON + NO_OBJECT + UNDECODABLE + [json.dumps(cart) for cart in CARTS]
)
def test_a_cart_of_another_shape_is_an_invalid_response(
    server: OddServer, upstream: Upstream, body: str
) -> None:
    server.replies = (answers(body),)
    with pytest.raises(UpstreamBrokenError):
        shopcart.get_shopcart_data(upstream, CALLER, time.monotonic() + 10)


@pytest.mark.parametrize(
    "body",
    NO_JSON + NO_OBJECT + UNDECODABLE + [json.dumps(each) for each in VARIATIONS],
)
def test_a_variation_of_another_shape_or_id_is_an_invalid_response(
    server: OddServer, upstream: Upstream, body: str
) -> None:
    server.replies = (answers(body),)
    with pytest.raises(UpstreamBrokenError):
        product.get_variations(upstream, CALLER, [UUID(MUG)], time.monotonic() + 10)


@pytest.mark.parametrize(
    "body", NO_JSON + NO_OBJECT + [json.dumps(p) for p in PRODUCTS]
)
def test_a_product_of_another_shape_or_id_is_an_invalid_response(
    server: OddServer, upstream: Upstream, body: str
) -> None:
    bare = json.dumps(VARIATION | {"product": None})
    server.replies = (answers(bare), answers(body))
    with pytest.raises(UpstreamBrokenError):
        product.get_variations(upstream, CALLER, [UUID(MUG)], time.monotonic() + 10)


def test_responses_that_only_look_odd_are_taken(
    server: OddServer, upstream: Upstream
) -> None:
    line = {"id": -(2**63), "product_variation_id": None, "quantity": None, "x": []}
    server.replies = (answers(json.dumps(CART | {"id": 2**63 - 1, "items": [line]})),)
    cart = shopcart.get_shopcart_data(upstream, CALLER, time.monotonic() + 10)
    assert (cart.id, cart.items[0].id) == (2**63 - 1, -(2**63))
    odd = PRODUCT | {"shop_id": SHOP.upper(), "is_active": None, "title": "x" * 2000}
    variation = VARIATION | {"id": MUG.upper(), "product": odd, "amount": -3}
    variation |= {"price": "9.990", "count": None, "amount_limit": "none"}
    server.replies = (answers(json.dumps(variation)),)
    found = product.get_variations(upstream, CALLER, [UUID(MUG)], time.monotonic() + 10)
    taken = found[UUID(MUG)]
    assert taken is not None
    assert taken.product is not None
    assert (taken.price, taken.amount) == (Decimal("9.990"), -3)
    assert taken.product.shop_id == UUID(SHOP)


@pytest.mark.parametrize(
    "text",
    ['"0"', '"007.50"', '"-1.25"', "1e2", "90071992547409.91", "12.345678901234567890"],
)
def test_a_price_is_read_exactly_as_it_is_written(
    server: OddServer, upstream: Upstream, text: str
) -> None:
    body = json.dumps(VARIATION | {"price": 0}).replace(
        '"price": 0', f'"price": {text}'
    )
    server.replies = (answers(body),)
    found = product.get_variations(upstream, CALLER, [UUID(MUG)], time.monotonic() + 10)
    taken = found[UUID(MUG)]
    assert taken is not None
    assert taken.price == Decimal(text.strip('"'))
