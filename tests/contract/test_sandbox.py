"""The sandbox siblings set the very traps that the contract warns of.

What passes against them should pass against the real services, and what forgets a trap
should fail.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from infra.local.http_server import serving
from infra.local.sandbox.catalogue import (
    MUG,
    TEAPOT,
)
from tests.support.bodies import (
    USER,
    completed_order,
    order_created,
    order_item_created,
)
from tests.support.sandbox import Sandbox, running_sandbox

NO_STORE = {"Cache-Control": "no-store"}

Read = Callable[..., requests.Response]
Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]
App = Callable[[Environ, StartResponse], list[bytes]]


def hear(sandbox: Sandbox, body: dict[str, Any]) -> None:
    sandbox.hear(body)
    sandbox.wait_until(lambda: not sandbox.pending())


def answering(seen: list[Environ], *statuses: str) -> App:
    """Return an app that notes requests and replies with each status in turn."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        seen.append(environ)
        status = statuses[min(len(seen), len(statuses)) - 1]
        start_response(status, [("Content-Type", "application/json")])
        return [b'{"id": 9, "status": 3}']

    return app


# Product.


def test_product_mixes_rows_up_without_no_store(read: Read) -> None:
    read(MUG, fresh=False)
    mixed_up = read(TEAPOT, fresh=False).json()
    assert mixed_up["id"] == MUG
    assert mixed_up["product"] is None
    assert read(TEAPOT).json()["id"] == TEAPOT


def test_product_lowers_stock_again_when_order_created_is_resent(
    sandbox: Sandbox,
) -> None:
    body = order_created(USER, [(TEAPOT, 4)])
    for stock in (1, -3):
        hear(sandbox, body)
        assert sandbox.stock(TEAPOT) == stock
    hear(sandbox, {"event_type": "order.created", **body["data"]})  # flat
    assert sandbox.stock(TEAPOT) == -3


# Shopcart.


def test_shopcart_gives_a_line_a_new_id_and_a_stranger_nothing(
    sandbox: Sandbox, http: requests.Session
) -> None:
    base = sandbox.environ["SHOPCART_SERVICE"]
    owner, stranger = {"X-User-ID": USER.upper()}, {"X-User-ID": str(uuid4())}
    line = {"product_variation_id": MUG, "quantity": 2}
    first, second = (
        http.post(f"{base}/api/mycart/items/", json=line, headers=owner).json()
        for _ in range(2)
    )
    assert first["id"] != second["id"]
    assert sandbox.cart(USER)["items"] == [first, second]
    url = f"{base}/api/items/{first['id']}"
    assert http.put(url, json={"quantity": 5}, headers=stranger).status_code == 404
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


def test_shop_redelivers_poison_for_ever_but_blocks_nobody(sandbox: Sandbox) -> None:
    for poison in (
        {"order_item_id": None},
        {"order_item_id": str(uuid4())},
        {"order_id": None},
        {"shop_id": None},
        {"product_id": None},
    ):
        sandbox.hear(order_item_created(**poison))
    for _ in range(2):
        sandbox.hear(order_item_created())
    sandbox.wait_until(lambda: sandbox.pending("shop") == 5)
    [row] = sandbox.shop_rows
    assert (row["order_item_id"], row["order_id"], row["price"]) == (9, 4, 1999)
    assert sandbox.deliver() == 0
    assert sandbox.pending("shop") == 5


@pytest.mark.parametrize(
    ("answer", "status", "stored"), [("200 OK", 200, 3), ("201 Created", 502, 1)]
)
def test_shop_takes_only_200_and_stores_the_replys_status(
    sandbox: Sandbox, http: requests.Session, answer: str, status: int, stored: int
) -> None:
    hear(sandbox, order_item_created())
    seen: list[Environ] = []
    with serving(answering(seen, answer)) as url:
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


def test_analytics_hears_an_order_once_and_falls_over_an_id_that_is_no_string(
    sandbox: Sandbox, http: requests.Session
) -> None:
    url = f"{sandbox.environ['ANALYTIC_SERVICE']}/api/analitic-order-completed/"
    for wrong in ("0c0c0c0c-0000-4000-8000-000000000001", 4, None):
        assert http.post(url, json=completed_order(id=wrong)).status_code == 500
    assert http.post(url, json=completed_order()).status_code == 201
    assert http.post(url, json=completed_order(items=[])).status_code == 200
    [order] = sandbox.completed_orders
    assert order == {**completed_order(), "times_heard": 2}


# The sink, faults, and a record of calls.


def test_sink_answers_202_once_an_event_is_stored_for_good(
    tmp_path: Path, http: requests.Session
) -> None:
    path = tmp_path / "sandbox.sqlite3"
    body = order_created(USER, [(MUG, 2)])
    attributes = {
        "ce-id": str(uuid4()),
        "ce-type": "order.created",
        "ce-source": "//order-service",
        "ce-specversion": "1.0",
        "ce-subject": "4",
    }
    with running_sandbox(path=path, deliver=False) as sandbox:
        url = sandbox.environ["EVENT_SINK_URL"]
        assert http.post(url, json=body, headers=attributes).status_code == 202
        del attributes["ce-id"]
        assert http.post(url, json=body, headers=attributes).status_code == 400
    with running_sandbox(path=path) as sandbox:
        sandbox.wait_until(lambda: not sandbox.pending())
        assert sandbox.stock(MUG) == 998
        [event] = sandbox.events
        assert (event.type, event.attributes["ce-subject"]) == ("order.created", "4")
        assert event.json == body


def test_sink_posts_status_updates_to_the_approval_handler_until_it_takes_them() -> (
    None
):
    seen: list[Environ] = []
    body = {"event_type": "order.item.status.updated", "order_item_id": "9"}
    with (
        serving(answering(seen, "503 Busy", "200 OK")) as url,
        running_sandbox(approval_url=url) as sandbox,
    ):
        hear(sandbox, body)
    assert [call["HTTP_CE_TYPE"] for call in seen] == [body["event_type"]] * 2
    assert seen[0]["HTTP_CE_ID"] == seen[1]["HTTP_CE_ID"]


def test_faults_are_set_over_http_and_a_reset_brings_back_stock_and_no_carts(
    sandbox: Sandbox, http: requests.Session, read: Read
) -> None:
    url = f"{sandbox.url}/sandbox/faults/product"
    assert http.put(url, json={"status": "503"}).status_code == 400
    assert http.put(url, json={"stauts": 503}).status_code == 400
    assert http.put(url, json={"status": 503}).status_code == 200
    assert read(MUG).status_code == 503
    assert http.delete(url).status_code == 200
    assert read(MUG).status_code == 200
    sandbox.add_to_cart(USER, MUG, 2)
    sandbox.restock(TEAPOT, 0)
    assert http.post(f"{sandbox.url}/sandbox/reset").status_code == 200
    assert sandbox.stock(TEAPOT) == 5
    assert sandbox.cart(USER) is None
