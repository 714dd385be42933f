"""What the sandbox gives to tests and demos: the sink, faults, and a record of calls.

The siblings themselves are in `test_sandbox.py`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests

from infra.local.http_server import serving
from infra.local.sandbox.catalogue import MUG, TEAPOT
from tests.support.bodies import USER, order_created
from tests.support.sandbox import Sandbox, running_sandbox

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
