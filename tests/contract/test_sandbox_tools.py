"""What the sandbox gives to tests and demos: the sink, faults, and a record of calls.

The siblings themselves are in `test_sandbox.py`.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from infra.local.http_server import serving
from infra.local.sandbox import Sandbox, running_sandbox
from infra.local.sandbox.catalogue import MUG, TEAPOT
from tests.support.bodies import USER, completed_order, order_created

NO_STORE = {"Cache-Control": "no-store"}

Read = Callable[..., requests.Response]
Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]
App = Callable[[Environ, StartResponse], list[bytes]]


def hear(sandbox: Sandbox, body: dict[str, Any]) -> None:
    sandbox.hear(body)
    sandbox.wait_until(lambda: not sandbox.owed())


# The sink.


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
        sandbox.wait_until(lambda: not sandbox.owed())
        assert sandbox.stock(MUG) == 998
        [event] = sandbox.events
        assert (event.type, event.attributes["ce-subject"]) == ("order.created", "4")
        assert event.json == body


def test_sink_posts_status_updates_to_the_approval_handler_until_it_takes_them() -> (
    None
):
    seen: list[Environ] = []
    answers = ["503 Service Unavailable", "204 No Content"]

    def approval_handler(
        environ: Environ, start_response: StartResponse
    ) -> list[bytes]:
        seen.append(environ)
        start_response(answers[min(len(seen), 2) - 1], [])
        return []

    body = {"event_type": "order.item.status.updated", "order_item_id": "9"}
    with (
        serving(approval_handler) as url,
        running_sandbox(approval_url=url) as sandbox,
    ):
        hear(sandbox, body)
    assert [call["HTTP_CE_TYPE"] for call in seen] == [body["event_type"]] * 2
    assert seen[0]["HTTP_CE_ID"] == seen[1]["HTTP_CE_ID"]


def test_a_paused_queue_falls_behind_and_catches_up(sandbox: Sandbox) -> None:
    sandbox.add_to_cart(USER, MUG, 2)
    sandbox.sink.pause("shopcart")
    sandbox.hear(order_created(USER, [(MUG, 2)]))
    sandbox.wait_until(lambda: sandbox.stock(MUG) == 998)
    assert sandbox.owed("shopcart") == 1
    assert len(sandbox.cart(USER)["items"]) == 1
    sandbox.sink.resume("shopcart")
    sandbox.wait_until(lambda: not sandbox.cart(USER)["items"])


# Faults and records.


def test_a_fault_lasts_as_many_calls_as_it_says(sandbox: Sandbox, read: Read) -> None:
    sandbox.fault("product", status=503, times=2, path=MUG)
    assert [read(MUG).status_code, read(TEAPOT).status_code] == [503, 200]
    assert [read(MUG).status_code, read(MUG).status_code] == [503, 200]


def test_a_fault_after_work_loses_only_the_answer(
    sandbox: Sandbox, http: requests.Session
) -> None:
    sandbox.fault("analytics", status=504, after_work=True)
    url = f"{sandbox.environ['ANALYTIC_SERVICE']}/api/analitic-order-completed/"
    assert http.post(url, json=completed_order()).status_code == 504
    assert len(sandbox.completed_orders) == 1


def test_a_sibling_can_hang_up_and_talk_nonsense(sandbox: Sandbox, read: Read) -> None:
    sandbox.fault("product", hang_up=True, times=1)
    with pytest.raises(requests.ConnectionError):
        read(MUG)
    sandbox.fault("product", body="<html>")
    assert read(MUG).text == "<html>"
    assert [call.status for call in sandbox.calls_to("product")] == [None, 200]


def test_faults_are_set_over_http_and_checked(
    sandbox: Sandbox, http: requests.Session, read: Read
) -> None:
    url = f"{sandbox.url}/sandbox/faults/product"
    assert http.put(url, json={"status": "503"}).status_code == 400
    assert http.put(url, json={"stauts": 503}).status_code == 400
    assert http.put(url, json={"status": 503}).status_code == 200
    assert read(MUG).status_code == 503
    assert http.delete(url).status_code == 200
    assert read(MUG).status_code == 200


def test_reset_brings_back_the_first_stock_and_no_carts(
    sandbox: Sandbox, http: requests.Session
) -> None:
    sandbox.add_to_cart(USER, MUG, 2)
    sandbox.restock(TEAPOT, 0)
    assert http.post(f"{sandbox.url}/sandbox/reset").status_code == 200
    assert sandbox.stock(TEAPOT) == 5
    assert sandbox.cart(USER) is None


def test_overlapping_calls_are_one_wait(sandbox: Sandbox, read: Read) -> None:
    sandbox.fault("product", delay_seconds=0.3)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, [MUG] * 8))
    assert sandbox.waits("product") == 1
    assert sandbox.most_at_once("product") == 8
    read(MUG)
    assert sandbox.waits("product") == 2


def test_calls_are_recorded_with_their_headers(sandbox: Sandbox, read: Read) -> None:
    read(MUG)
    [call] = sandbox.calls
    assert (call.sibling, call.method, call.status) == ("product", "GET", 200)
    assert call.path == f"/api/products/variations/{MUG}"
    assert call.headers["cache-control"] == "no-store"


def test_a_hundred_kept_alive_connections_are_served_at_once(sandbox: Sandbox) -> None:
    url = f"{sandbox.environ['PRODUCT_SERVICE']}/api/products/variations/{MUG}"
    sandbox.fault("product", delay_seconds=1)

    def read_twice(_: int) -> set[int]:
        with requests.Session() as session:
            session.trust_env = False
            return {session.get(url, headers=NO_STORE).status_code for _ in range(2)}

    began_at = time.monotonic()
    with ThreadPoolExecutor(120) as pool:
        answers = list(pool.map(read_twice, range(120)))
    assert answers == [{200}] * 120
    assert time.monotonic() - began_at < 10
    assert sandbox.most_at_once("product") > 60
