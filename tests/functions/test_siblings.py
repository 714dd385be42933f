"""What siblings are asked: paths, headers, connections, and all lines side by side."""

import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.sandbox import catalogue
from infra.local.sandbox.traffic import Call
from tests.support.parallel import at_once, checkout_sender
from tests.support.proxy import proxy
from tests.support.service import Service, new_user

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def asked(service: Service, sibling: str) -> list[tuple[str, str]]:
    """Return method and path of each call."""
    return [(call.method, call.path) for call in service.sandbox.calls_to(sibling)]


def all_calls(service: Service, user: str, **headers: str) -> list[Call]:
    """Make every kind of call that a checkout makes; answer them."""
    scarce = service.sandbox.add_article(amount=1)
    service.sandbox.add_to_cart(user, scarce, 2)
    service.sandbox.add_to_cart(user, catalogue.CLOCK)
    service.sandbox.add_to_cart(user, catalogue.RUG)
    assert service.checkout(user, **headers).status_code == 409
    calls = service.sandbox.calls_to("shopcart", "product")
    kinds = {(call.method, re.sub(r"\b[0-9a-f-]+$", "", call.path)) for call in calls}
    assert kinds == {
        ("GET", "/api/mycart/"),
        ("GET", "/api/products/variations/"),
        ("GET", "/api/products/"),
        ("PUT", "/api/items/"),
        ("DELETE", "/api/items/"),
    }
    return calls


def test_paths_have_slashes_as_siblings_want(service: Service, user: str) -> None:
    service.sandbox.add_to_cart(user, catalogue.CLOCK)
    assert service.checkout(user).status_code == 201
    assert asked(service, "shopcart") == [("GET", "/api/mycart/")]
    assert asked(service, "product") == [
        ("GET", f"/api/products/variations/{catalogue.CLOCK}"),
        ("GET", f"/api/products/b{catalogue.CLOCK[1:]}"),
    ]


def test_every_call_names_caller_and_request(service: Service, user: str) -> None:
    calls = all_calls(service, user, X_Request_ID="front.1", traceparent=TRACEPARENT)
    for call in calls:
        assert call.headers["X-User-ID"] == user
        assert call.headers["X-Request-ID"] == "front.1"
        assert call.headers["traceparent"] == TRACEPARENT


def test_calls_get_ids_of_their_own_where_the_caller_sends_none_that_are_sane(
    service: Service, user: str
) -> None:
    sent = {"X_Request_ID": "in sane\t", "traceparent": "00-zero-one-02"}
    calls = all_calls(service, user, **sent)
    [request_id] = {call.headers["X-Request-ID"] for call in calls}
    [traceparent] = {call.headers["traceparent"] for call in calls}
    assert re.fullmatch(r"[0-9a-f-]{36}", request_id)
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", traceparent)


def test_callers_token_and_own_headers_stay_here(service: Service, user: str) -> None:
    sent = {"Authorization": "Bearer x", "X_Shop_ID": new_user(), "Cookie": "a=b"}
    for call in all_calls(service, user, **sent):
        assert not {"authorization", "x-shop-id", "cookie"} & {
            name.lower() for name, _ in call.headers
        }


def test_trap_product_read_cache_is_bypassed(service: Service, user: str) -> None:
    calls = all_calls(service, user)
    assert {call.headers["Cache-Control"] for call in calls} == {"no-store"}


def test_trap_product_read_cache_mixes_rows_up(service: Service, user: str) -> None:
    # The sandbox's cache answers a read with the row read before it, as the real one.
    bought = [catalogue.MUG, catalogue.NAIL, catalogue.POSTER, catalogue.CLOCK]
    for variation in bought:
        service.sandbox.add_to_cart(user, variation)
    items = service.checkout(user).get_json()["order"]["items"]
    assert [item["product_variation"] for item in items] == bought
    assert [item["price"] for item in items] == [1999, 101, 1200, 8990]


def test_separate_product_costs_one_more_wait(service: Service, user: str) -> None:
    service.fill_cart(user, 2)
    for _ in range(5):
        article = service.sandbox.add_article(is_nested=False, price="3.5")
        service.sandbox.add_to_cart(user, article)
    service.sandbox.fault("shopcart", delay_seconds=0.3)
    service.sandbox.fault("product", delay_seconds=0.3)

    items = service.checkout(user).get_json()["order"]["items"]

    assert [item["price"] for item in items] == [999] * 2 + [350] * 5
    assert {item["shop_id"] for item in items} == {catalogue.POTTERY}
    assert len(asked(service, "product")) == 7 + 5
    assert service.sandbox.waits() == 3


def test_variation_in_two_lines_is_read_once(service: Service, user: str) -> None:
    for _ in range(2):
        service.sandbox.add_to_cart(user, catalogue.MUG)
    assert service.checkout(user).status_code == 201
    assert len(asked(service, "product")) == 1


@pytest.mark.parametrize("lines", [1, 20, 100])
def test_checkout_waits_twice_in_all(service: Service, user: str, lines: int) -> None:
    service.fill_cart(user, lines)
    service.sandbox.fault("shopcart", delay_seconds=0.2)
    service.sandbox.fault("product", delay_seconds=1)

    assert service.checkout(user).status_code == 201

    assert service.sandbox.waits() == 2
    assert service.sandbox.most_at_once("product") == lines


def test_connections_are_shared_by_callers_side_by_side(service: Service) -> None:
    users = [new_user() for _ in range(4)]
    with proxy(service.sandbox.environ["PRODUCT_SERVICE"]) as to_products:
        service.set(PRODUCT_SERVICE=to_products.url)
        senders = [checkout_sender(service, user) for user in users]
        for _ in range(5):
            for user in users:
                service.fill_cart(user, 5)
            statuses = [response.status_code for response in at_once(senders)]
            assert statuses == [201] * 4
            service.sandbox.deliver()
        assert to_products.attempts <= 20


@pytest.fixture
def many_open_files() -> Iterator[int]:
    """As many as make every further file descriptor a large one; answers the last."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    with Path(os.devnull).open() as nothing:
        opened = [os.dup(nothing.fileno()) for _ in range(1100)]
    yield opened[-1]
    for descriptor in opened:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_many_files_are_ok(service: Service, user: str, many_open_files: int) -> None:
    # select() takes no file descriptor beyond 1023.
    assert many_open_files > 1023
    service.ordered(user, 1)
    service.ordered(user, 1)
