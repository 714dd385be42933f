"""The sandbox siblings set the very traps that the contract warns of.

What passes against them should pass against the real services, and what forgets a trap
should fail; so each trap has a test here that would notice if it were gone.
"""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
import requests

from infra.local.http_server import serving
from infra.local.sandbox.catalogue import (
    CANDLE,
    CLOCK,
    GIFT,
    LAMP,
    LEAFLET,
    MUG,
    NAIL,
    POSTER,
    TEAPOT,
    UNKNOWN,
    VASE,
)
from tests.support.bodies import (
    USER,
    completed_order,
    order_created,
    order_item_created,
)
from tests.support.sandbox import Sandbox

NO_STORE = {"Cache-Control": "no-store"}

Read = Callable[..., requests.Response]
Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]
App = Callable[[Environ, StartResponse], list[bytes]]


def hear(sandbox: Sandbox, body: dict[str, Any]) -> None:
    sandbox.hear(body)
    sandbox.wait_until(lambda: not sandbox.owed())


# Product.


def test_product_mixes_rows_up_without_no_store(read: Read) -> None:
    read(MUG)
    mixed_up = read(TEAPOT, fresh=False).json()
    assert mixed_up["id"] == MUG
    assert mixed_up["product"] is None
    assert read(TEAPOT).json()["id"] == TEAPOT


def test_product_keeps_stock_in_amount_and_has_decoys_beside_it(read: Read) -> None:
    variation = read(TEAPOT).json()
    assert variation["amount"] == 5
    assert variation["count"] != 5
    assert variation["amount_limit"] != 5


def test_product_lowers_stock_again_when_order_created_is_resent(
    sandbox: Sandbox,
) -> None:
    body = order_created(USER, [(TEAPOT, 4)])
    hear(sandbox, body)
    assert sandbox.stock(TEAPOT) == 1
    hear(sandbox, body)
    assert sandbox.stock(TEAPOT) == -3


def test_product_ignores_a_flat_order_created(sandbox: Sandbox) -> None:
    flat = {"event_type": "order.created", **order_created(USER, [(MUG, 1)])["data"]}
    hear(sandbox, flat)
    assert sandbox.stock(MUG) == 1000


def test_product_prices_are_numbers_with_their_decimal_text(read: Read) -> None:
    assert '"price":1.005,' in read(NAIL).text


def test_product_sells_things_that_cannot_be_ordered(read: Read) -> None:
    assert read(VASE).json()["amount"] == -3
    assert read(LAMP).json()["product"]["is_active"] is False
    assert read(GIFT).json()["product"]["shop_id"] is None
    assert read(POSTER).json()["price"] is None
    assert read(POSTER).json()["product"]["base_price"] == 12.0
    assert "is_active" not in read(CANDLE).json()["product"]


def test_product_knows_404_and_422(read: Read) -> None:
    assert read(UNKNOWN).status_code == 404
    assert read("no-uuid").status_code == 422


def test_product_is_read_on_its_own_where_it_is_not_nested(
    sandbox: Sandbox, http: requests.Session, read: Read
) -> None:
    clock, leaflet = read(CLOCK).json(), read(LEAFLET).json()
    assert clock["product"] is None
    assert leaflet["product"] is None
    base = f"{sandbox.environ['PRODUCT_SERVICE']}/api/products"
    found = http.get(f"{base}/{clock['product_id']}", headers=NO_STORE)
    assert found.json()["title"] == "Clock"
    lost = http.get(f"{base}/{leaflet['product_id']}", headers=NO_STORE)
    assert lost.status_code == 404


# Shopcart.


def test_shopcart_gives_a_line_a_new_id_each_time_it_is_added(
    sandbox: Sandbox, http: requests.Session
) -> None:
    base = sandbox.environ["SHOPCART_SERVICE"]
    caller = {"X-User-ID": USER.upper()}
    line = {"product_variation_id": MUG, "quantity": 2}
    assert http.get(f"{base}/api/mycart/", headers=caller).status_code == 404
    first = http.post(f"{base}/api/mycart/items/", json=line, headers=caller).json()
    second = http.post(f"{base}/api/mycart/items/", json=line, headers=caller).json()
    assert first["id"] != second["id"]
    cart = http.get(f"{base}/api/mycart/", headers=caller).json()
    assert cart["user_uuid"] == USER
    assert cart["items"] == [first, second]


def test_shopcart_changes_and_removes_only_the_callers_lines(
    sandbox: Sandbox, http: requests.Session
) -> None:
    line = sandbox.add_to_cart(USER, MUG, 2)
    url = f"{sandbox.environ['SHOPCART_SERVICE']}/api/items/{line}"
    owner, stranger = {"X-User-ID": USER}, {"X-User-ID": str(uuid4())}
    assert http.put(url, json={"quantity": 5}, headers=stranger).status_code == 404
    assert http.put(url, json={"quantity": -3}, headers=owner).status_code == 422
    assert http.put(url, json={"quantity": 5}, headers=owner).status_code == 200
    assert sandbox.cart(USER)["items"][0]["quantity"] == 5
    assert http.delete(url, headers=owner).status_code == 200
    assert http.delete(url, headers=owner).status_code == 404


def test_shopcart_empties_the_cart_only_for_a_nested_order_created(
    sandbox: Sandbox,
) -> None:
    sandbox.add_to_cart(USER, MUG, 2)
    nested = order_created(USER, [(MUG, 2)])
    hear(sandbox, {"event_type": "order.created", **nested["data"]})
    assert len(sandbox.cart(USER)["items"]) == 1
    cart_id = sandbox.cart(USER)["id"]
    hear(sandbox, nested)
    assert sandbox.cart(USER) == {"id": cart_id, "user_uuid": USER, "items": []}


# Shop.


def test_shop_keeps_a_row_for_each_item_it_hears_of(sandbox: Sandbox) -> None:
    hear(sandbox, order_item_created())
    hear(sandbox, order_item_created())
    [row] = sandbox.shop_rows
    assert (row["order_item_id"], row["order_id"], row["price"]) == (9, 4, 1999)


@pytest.mark.parametrize(
    "poison",
    [
        {"order_item_id": None},
        {"order_item_id": str(uuid4())},
        {"order_id": None},
        {"shop_id": None},
        {"product_id": None},
    ],
)
def test_shop_redelivers_poison_for_ever_but_blocks_nobody(
    sandbox: Sandbox, poison: dict[str, object]
) -> None:
    sandbox.hear(order_item_created(**poison))
    sandbox.hear(order_item_created(order_item_id="10"))
    sandbox.wait_until(lambda: len(sandbox.shop_rows) == 1)
    assert sandbox.shop_rows[0]["order_item_id"] == 10
    sandbox.wait_until(lambda: sandbox.owed("shop") == 1)
    assert sandbox.deliver() == 0
    assert sandbox.owed("shop") == 1


def order_service_answering(status: str, seen: list[Environ]) -> App:
    """Answer a WSGI app that stands where the status endpoint would."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        seen.append(environ)
        start_response(status, [("Content-Type", "application/json")])
        return [b'{"id": 9, "status": 3}']

    return app


@pytest.mark.parametrize(
    ("answer", "status", "stored"), [("200 OK", 200, 3), ("201 Created", 502, 1)]
)
def test_shop_takes_only_200_and_stores_the_replys_status(
    sandbox: Sandbox, http: requests.Session, answer: str, status: int, stored: int
) -> None:
    hear(sandbox, order_item_created())
    seen: list[Environ] = []
    with serving(order_service_answering(answer, seen)) as url:
        sandbox.order_service_url = url
        reply = http.post(
            f"{sandbox.environ['SHOP_SERVICE']}/api/shop-orders/9/status/",
            json={"status": 2},
            headers={"X-User-ID": USER, "Authorization": "Bearer token"},
        )
    assert reply.status_code == status
    assert sandbox.shop_rows[0]["status"] == stored
    [call] = seen
    assert call["REQUEST_METHOD"] == "PATCH"
    assert call["PATH_INFO"] == "/api/order-items/9/status/"
    assert call["HTTP_X_USER_ID"] == USER
    assert "HTTP_AUTHORIZATION" not in call


# Analytics.


def test_analytics_hears_an_order_once_and_first_answers_201(
    sandbox: Sandbox, http: requests.Session
) -> None:
    url = f"{sandbox.environ['ANALYTIC_SERVICE']}/api/analitic-order-completed/"
    assert http.post(url, json=completed_order()).status_code == 201
    assert http.post(url, json=completed_order(items=[])).status_code == 200
    [order] = sandbox.completed_orders
    assert order == {**completed_order(), "times_heard": 2}


@pytest.mark.parametrize("order_id", ["0c0c0c0c-0000-4000-8000-000000000001", 4, None])
def test_analytics_falls_over_an_id_that_is_no_numeric_string(
    sandbox: Sandbox, http: requests.Session, order_id: object
) -> None:
    url = f"{sandbox.environ['ANALYTIC_SERVICE']}/api/analitic-order-completed/"
    assert http.post(url, json=completed_order(id=order_id)).status_code == 500
    assert sandbox.completed_orders == []
