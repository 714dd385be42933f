"""What the sandbox siblings share with the real ones, and how it is switched.

Late consumers, a read cache that mixes rows up, a shopcart that trusts it.
"""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
import requests

from infra.local.sandbox.catalogue import MUG, POSTER, TEAPOT
from infra.local.sandbox.event_sink import Event, EventSink
from infra.local.sandbox.store import Store
from tests.support.bodies import USER, order_created
from tests.support.sandbox import Sandbox

FOR_EVER = 10_000
Put = Callable[..., requests.Response]
Read = Callable[..., requests.Response]


@pytest.fixture
def put(sandbox: Sandbox, http: requests.Session) -> Put:
    """Change something below /sandbox/."""

    def put_json(path: str, body: object, **headers: str) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return http.put(f"{sandbox.url}/sandbox/{path}", json=body, headers=named)

    return put_json


@pytest.fixture
def cached(sandbox: Sandbox, http: requests.Session) -> Callable[..., dict[str, Any]]:
    """Read a variation through the cache, or with a header of its own."""

    def read_variation(variation: str, cache_control: str = "") -> dict[str, Any]:
        base = sandbox.environ["PRODUCT_SERVICE"]
        headers = {"Cache-Control": cache_control} if cache_control else {}
        url = f"{base}/api/products/variations/{variation}"
        found: dict[str, Any] = http.get(url, headers=headers).json()
        return found

    return read_variation


def ordered(sandbox: Sandbox, quantity: int = 2, cart_id: int | None = 42) -> None:
    body = order_created(USER, [(TEAPOT, quantity)])
    body["data"]["cart_id"] = cart_id
    sandbox.hear(body)


# Consumers.


def test_consumers_act_at_once_unless_they_are_told_to_be_late(
    sandbox: Sandbox, put: Put
) -> None:
    sandbox.add_to_cart(USER, TEAPOT, 2)
    for queue in ("product", "shopcart"):
        reply = put(f"queues/{queue}", {"delay_seconds": FOR_EVER})
        assert reply.json()["delay_seconds"] == [FOR_EVER, FOR_EVER]
    ordered(sandbox)
    assert (sandbox.pending("product"), sandbox.pending("shopcart")) == (1, 1)
    assert sandbox.stock(TEAPOT) == 5
    put("queues/product", {"delay_seconds": [0, 0.01]})
    ordered(sandbox)
    sandbox.wait_until(lambda: sandbox.stock(TEAPOT) == 1)
    assert sandbox.pending("shopcart") == 2
    assert sandbox.cart(USER)["items"]
    put("queues/shopcart", {"delay_seconds": 0})
    sandbox.wait_until(lambda: sandbox.cart(USER)["items"] == [])


def test_random_delay_changes_no_order() -> None:
    heard: list[str] = []
    sink = EventSink(Store(), {"product": lambda event: heard.append(event.id)})
    sink.set_delay("product", 0, 0.05)
    sink.start()
    names = [str(number) for number in range(30)]
    for name in names:
        attributes = {"ce-id": name, "ce-type": "order.created"}
        sink.accept(Event(attributes=attributes, body=b"{}"))
    Sandbox.wait_until(None, lambda: len(heard) == len(names))  # type: ignore[arg-type]
    sink.stop()
    assert heard == names


def test_consumer_that_was_away_catches_up(sandbox: Sandbox, put: Put) -> None:
    put("queues/product", {"paused": True})
    for _ in range(3):
        ordered(sandbox)
    sandbox.wait_until(lambda: not sandbox.pending("shopcart"))
    assert (sandbox.pending("product"), sandbox.stock(TEAPOT)) == (3, 5)
    put("queues/product", {"paused": False})
    sandbox.wait_until(lambda: sandbox.stock(TEAPOT) == -1)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"paused": 1},
        {"delay_seconds": -1},
        {"delay_seconds": [3, 1]},
        {"delay_seconds": [0, 1, 2]},
        {"delay_seconds": "3"},
        {"delay": 3},
    ],
)
def test_queue_is_told_what_it_does_not_understand(
    put: Put, body: dict[str, object]
) -> None:
    assert put("queues/product", body).status_code == 400
    assert put("queues/nobody", {"paused": True}).status_code == 404


def test_what_came_from_no_cart_lowers_stock_and_empties_none(
    sandbox: Sandbox,
) -> None:
    sandbox.add_to_cart(USER, TEAPOT, 2)
    ordered(sandbox, cart_id=None)
    sandbox.wait_until(lambda: not sandbox.pending())
    assert sandbox.stock(TEAPOT) == 3
    assert len(sandbox.cart(USER)["items"]) == 1


# Product's read cache.


def test_cache_has_one_row_for_all_until_it_is_refreshed(
    sandbox: Sandbox, cached: Callable[..., dict[str, Any]]
) -> None:
    assert cached(MUG)["id"] == MUG
    assert cached(TEAPOT, "no-store")["id"] == TEAPOT  # and leaves the cache alone
    assert cached(TEAPOT)["id"] == MUG
    assert cached(TEAPOT)["id"] == MUG
    sandbox.restock(TEAPOT, 3)
    assert cached(TEAPOT, "no-cache")["amount"] == 3
    sandbox.restock(TEAPOT, 2)
    assert (cached(MUG)["id"], cached(MUG)["amount"]) == (TEAPOT, 3)  # as it was


def test_cache_can_be_switched_off(
    put: Put, cached: Callable[..., dict[str, Any]]
) -> None:
    cached(MUG)
    assert put("switches", {"read_cache": False}).json()["read_cache"] is False
    assert cached(TEAPOT)["id"] == TEAPOT
    put("switches", {"read_cache": True})
    assert cached(TEAPOT)["id"] == MUG


# Shopcart's own look at stock.


@pytest.fixture
def change(sandbox: Sandbox, http: requests.Session) -> Iterator[Put]:
    """Change the quantity of a new line of the user's cart."""

    def change_line(variation: str, quantity: int) -> requests.Response:
        line = sandbox.add_to_cart(USER, variation, 1)
        url = f"{sandbox.environ['SHOPCART_SERVICE']}/api/items/{line}"
        body = {"quantity": quantity}
        return http.put(url, json=body, headers={"X-User-ID": USER})

    return change_line


def test_shopcart_asks_nobody_unless_it_is_switched_on(change: Put) -> None:
    assert change(TEAPOT, 500).status_code == 200


def test_shopcart_refuses_a_right_quantity_by_another_row(
    put: Put, change: Put, cached: Callable[..., dict[str, Any]]
) -> None:
    put("switches", {"stock_check": True})
    assert change(TEAPOT, 6).status_code == 400  # no more than that
    for _ in range(2):
        refused = change(POSTER, 30)  # by the teapot's 5
        assert refused.status_code == 400
        assert "5" in refused.json()["detail"]
    cached(POSTER, "no-cache")
    assert change(POSTER, 30).status_code == 200
    assert change(TEAPOT, 30).status_code == 200  # by the poster's 40


def test_shopcart_refuses_a_right_quantity_by_an_older_row(
    sandbox: Sandbox, put: Put, change: Put, cached: Callable[..., dict[str, Any]]
) -> None:
    put("switches", {"stock_check": True})
    cached(TEAPOT)
    sandbox.restock(TEAPOT, 20)
    assert change(TEAPOT, 10).status_code == 400
    put("switches", {"read_cache": False})
    assert change(TEAPOT, 10).status_code == 200


def test_line_of_a_variation_that_is_gone_is_refused(put: Put, change: Put) -> None:
    put("switches", {"stock_check": True})
    assert change(str(uuid4()), 1).status_code == 400


# The switches themselves.


@pytest.mark.parametrize(
    "body", [{}, {"read_cache": "off"}, {"stock_check": 1}, {"reed_cache": True}, []]
)
def test_switch_that_is_none_is_refused(put: Put, body: object) -> None:
    assert put("switches", body).status_code == 400


def test_reset_puts_all_of_it_back(
    sandbox: Sandbox,
    http: requests.Session,
    put: Put,
    cached: Callable[..., dict[str, Any]],
) -> None:
    switches = http.get(f"{sandbox.url}/sandbox/switches").json()
    queues = http.get(f"{sandbox.url}/sandbox/queues").json()
    put("switches", {"read_cache": False, "stock_check": True})
    put("queues/shop", {"paused": True, "delay_seconds": 7})
    cached(MUG)
    http.post(f"{sandbox.url}/sandbox/reset")
    assert http.get(f"{sandbox.url}/sandbox/switches").json() == switches
    assert http.get(f"{sandbox.url}/sandbox/queues").json() == queues
    assert cached(TEAPOT)["id"] == TEAPOT


def test_page_lists_every_switch_and_how_it_stands(
    sandbox: Sandbox, http: requests.Session, put: Put
) -> None:
    put("queues/product", {"paused": True, "delay_seconds": [0, 2.5]})
    ordered(sandbox)
    page = http.get(f"{sandbox.url}/sandbox/").text
    for queue in http.get(f"{sandbox.url}/sandbox/queues").json():
        assert f'"queues/{queue}"' in page
    for switch in http.get(f"{sandbox.url}/sandbox/switches").json():
        assert f"&#34;{switch}&#34;" in page
    assert "0 to 2.5 s" in page
    assert "1 waiting" in page
