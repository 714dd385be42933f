"""Calls to siblings: connections, retries, the deadline, and what is no response."""

import json
import logging
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from common.clients import connections, product, shopcart
from common.clients.batch import Call, Upstream, UpstreamResponse
from common.errors import (
    CartNotFoundError,
    ServiceError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from tests.support.odd_server import (
    OddServer,
    Reply,
    answers,
    black_hole,
    odd_server,
    says,
)
from tests.support.tls import identity

USER, MUG, NAIL, MAKER, SHOP = (
    f"{n}0000000-0000-4000-8000-00000000000a" for n in "abcde"
)
CALLER = UUID(USER)
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
OK = answers('{"fine": true}')
GET = Call("GET", "/api/mycart/")


def hang_up(_link: socket.socket) -> None:
    raise ConnectionError


def reset(link: socket.socket) -> None:
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise ConnectionError


@pytest.fixture
def server() -> Iterator[OddServer]:
    with odd_server() as running:
        yield running


@pytest.fixture
def upstream(server: OddServer) -> Iterator[Upstream]:
    opened = Upstream("product", server.url + "/base")
    yield opened
    opened.close()


def send(
    upstream: Upstream, *calls: Call, seconds: float = 10
) -> list[UpstreamResponse | ServiceError]:
    return upstream.send(calls or [GET], CALLER, time.monotonic() + seconds)


def statuses(upstream: Upstream, *calls: Call, seconds: float = 10) -> list[Any]:
    """Answer the status of each call, or the type of its error."""
    return [
        result.status if isinstance(result, UpstreamResponse) else type(result)
        for result in send(upstream, *calls, seconds=seconds)
    ]


# Connections.


def test_connections_are_used_again_and_one_that_was_closed_is_replaced(
    server: OddServer, upstream: Upstream
) -> None:
    server.replies = (OK, OK, OK)  # then it hangs up
    for _ in range(3):
        assert statuses(upstream, GET, GET) == [200, 200]
    assert server.connections == 2
    time.sleep(0.1)
    assert statuses(upstream) == [200]
    assert (server.connections, len(server.requests)) == (3, 7)


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 X\nConnection: close\nContent-Length: 2\n\n{}",
        "HTTP/1.1 200 X\n\n{}",
        "HTTP/1.0 200 X\nContent-Length: 2\n\n{}",
    ],
)
def test_a_connection_that_the_sibling_ends_is_not_used_again(
    server: OddServer, upstream: Upstream, head: str
) -> None:
    server.replies = (says(head),)
    for _ in range(2):
        [response] = send(upstream)
        assert isinstance(response, UpstreamResponse)
        assert response.body == b"{}"
    assert (server.connections, len(server.requests)) == (2, 2)


def test_a_connection_that_was_idle_for_too_long_is_not_used(
    server: OddServer, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connections.IDLE_SECONDS <= 30
    server.replies = (OK, OK)
    assert statuses(upstream, GET, GET) == [200, 200]
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.05)
    time.sleep(0.1)
    assert statuses(upstream) == [200]
    assert server.connections == 3


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("trouble", [hang_up, reset, None])
def test_a_reused_connection_that_fails_or_is_silent_is_tried_again_on_a_new_one(
    server: OddServer, upstream: Upstream, trouble: Reply | None, method: Any
) -> None:
    silent: Reply = lambda _: server.wait(60)  # noqa: E731
    server.replies = (OK, trouble or silent)
    assert statuses(upstream, GET, GET, GET) == [200] * 3
    server.replies = (OK, OK)  # of new connections
    began = time.monotonic()
    call = Call(method, "/x", b"{}" if method == "PUT" else None)
    assert statuses(upstream, call, call, seconds=3) == [200, 200]
    # The third, which nobody has tried, is as old as the two: it is not used, either.
    assert statuses(upstream, seconds=3) == [200]
    assert time.monotonic() - began < 2.5
    assert server.connections == 5
    assert len(server.requests) == 3 + 2 + 2 + 1


def test_a_new_connection_that_is_silent_is_not_given_up_before_the_deadline(
    server: OddServer, upstream: Upstream
) -> None:
    server.replies = (lambda _: server.wait(60),)
    began = time.monotonic()
    assert statuses(upstream, seconds=0.6) == [UpstreamTimeoutError]
    assert time.monotonic() - began >= 0.6
    assert len(server.requests) == 1


def test_a_base_url_with_tls_verifies_the_server_and_keeps_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = identity(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted.certificate, trusted.key)
    with odd_server(OK, OK, tls=context) as server:
        stranger = Upstream("product", server.url)
        assert statuses(stranger) == [UpstreamUnavailableError]
        assert server.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", trusted.ca_file)
        upstream = Upstream("product", server.url + "/base/")
        before = server.connections
        assert statuses(upstream) == statuses(upstream) == [200]
        assert server.connections == before + 1
        assert server.requests[0].startswith("GET /base/api/mycart/ HTTP/1.1\r\n")
        upstream.close()


def test_a_base_url_may_have_no_path_and_names_its_port(server: OddServer) -> None:
    server.replies = (OK,)
    upstream = Upstream("product", server.url)
    assert statuses(upstream) == [200]
    upstream.close()
    [request] = server.requests
    assert request.startswith("GET /api/mycart/ HTTP/1.1\r\n")
    assert f"\r\nHost: {server.url.removeprefix('http://')}\r\n" in request


# Retries.


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
def test_a_status_that_may_pass_is_tried_three_times_in_all(
    server: OddServer, upstream: Upstream, status: int
) -> None:
    server.replies = (answers("", status), answers("", status), OK)
    assert statuses(upstream) == [200]
    server.replies = (answers("", status),) * 3
    server.requests.clear()
    upstream.close()
    assert statuses(upstream) == [UpstreamUnavailableError]
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [500, 501, 507])
def test_a_sibling_that_is_broken_is_not_asked_again(
    server: OddServer, upstream: Upstream, status: int
) -> None:
    server.replies = (answers("", status),)
    assert statuses(upstream) == [UpstreamUnavailableError]
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "cut",
    [
        "",
        'HTTP/1.1 200 X\nContent-Length: 99\n\n{"id"',
        'HTTP/1.1 200 X\nTransfer-Encoding: chunked\n\n63\n{"id"',
        "HTTP/1.1 200 X\nContent-Length: 99\n\n",
    ],
)
def test_a_response_that_is_cut_is_asked_for_three_times_in_all(
    server: OddServer, upstream: Upstream, cut: str
) -> None:
    server.replies = (says(cut),)
    assert statuses(upstream) == [UpstreamUnavailableError]
    assert len(server.requests) == 3


def test_retries_end_at_the_deadline(server: OddServer, upstream: Upstream) -> None:
    def late(link: socket.socket) -> None:
        server.wait(0.7)
        answers("", 503)(link)

    server.replies = (late,)
    [result] = statuses(upstream, seconds=1)
    assert result in {UpstreamUnavailableError, UpstreamTimeoutError}
    assert len(server.requests) <= 2


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/secret", "http://nobody.invalid"])
def test_a_sibling_that_is_not_there_is_unavailable(url: str) -> None:
    assert statuses(Upstream("product", url)) == [UpstreamUnavailableError]


def test_a_sibling_that_lets_nobody_in_costs_one_wait_however_many_calls() -> None:
    with black_hole() as url:
        began = time.monotonic()
        found = statuses(Upstream("product", url), *[GET] * 20, seconds=60)
        assert found == [UpstreamUnavailableError] * 20
        assert time.monotonic() - began < 10


# The deadline, and bounds.


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 X\nContent-Length: 4000\n\n",
        "HTTP/1.1 200 X\nConnection: close\n\n",
        "HTTP/1.0 200 X\n\n",
        "HTTP/1.1 200 X\nTransfer-Encoding: chunked\n\nfa0\n",
        "HTTP/1.1 200 X\nTransfer-Encoding: chunked\n\n",
        "HTTP/1.1 200 X\nX-Slow:",
        "HTTP/1.1 2",
    ],
)
@pytest.mark.timeout(30)
def test_a_response_that_drips_in_is_cut_off_at_the_deadline(
    server: OddServer, upstream: Upstream, head: str
) -> None:
    server.replies = (server.drips(head, seconds=0.2),)
    began = time.monotonic()
    assert statuses(upstream, seconds=0.8) == [UpstreamTimeoutError]
    assert time.monotonic() - began < 5
    assert len(server.requests) == 1


def endless(head: str, chunk: bytes) -> Reply:
    def send_on(link: socket.socket) -> None:
        says(head)(link)
        while True:
            link.sendall(chunk)

    return send_on


@pytest.mark.parametrize(
    "reply",
    [
        endless("HTTP/1.1 200 X\nContent-Length: 900000000000000\n\n", b"[" * 9999),
        endless("HTTP/1.1 200 X\n\n", b"[" * 9999),
        endless("HTTP/1.1 200 X\nTransfer-Encoding: chunked\n\n", b"2\r\n[[\r\n" * 99),
        endless(
            "HTTP/1.1 200 X\nTransfer-Encoding: chunked\n\n9000000000000\n", b"[" * 999
        ),
        endless("HTTP/1.1 200 X\n", b"X: y\r\n" * 99),
        endless("HTTP/1.1 200 X\nX: ", b"y" * 9999),
        endless("", b"HTTP/1.1 100 Continue\r\n\r\n" * 99),
        says("220 mail.example ESMTP\n"),
        says("HTTP/1.1 twohundred OK\n\n"),
        says("HTTP/2 200\n\n"),
        says("HTTP/1.1 101 X\nUpgrade: x\nConnection: Upgrade\n\n"),
        says("HTTP/1.1 103 Early Hints\n\n"),
    ],
)
@pytest.mark.timeout(60)
def test_what_is_no_http_or_has_no_end_is_invalid_and_not_asked_for_again(
    server: OddServer, upstream: Upstream, reply: Reply
) -> None:
    server.replies = (reply,)
    assert statuses(upstream, seconds=30) == [UpstreamBrokenError]
    assert len(server.requests) == 1


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
        removed = shopcart.repair(upstream, CALLER, [(7, None), (8, 2)], deadline)
        assert removed == [False, False]


def test_the_sibling_s_own_404_says_that_there_is_none(
    server: OddServer, upstream: Upstream
) -> None:
    deadline = time.monotonic() + 10
    server.replies = (answers('{"detail": "Cart not found"}', 404),)
    with pytest.raises(CartNotFoundError):
        shopcart.get_shopcart_data(upstream, CALLER, deadline)
    assert shopcart.repair(upstream, CALLER, [(7, None)], deadline) == [True]
    assert shopcart.repair(upstream, CALLER, [(7, 5)], deadline) == [False]
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
    told = [
        tuple(
            record.__dict__["fields"][name]
            for name in ("sibling", "method", "path", "status")
        )
        for record in caplog.records
    ]
    assert told == expected
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
NO_PRICES: list[Any] = [True, [], "cheap", "", "NaN", "sNaN", "Infinity", "-Infinity"]


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
