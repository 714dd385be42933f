"""What the log says of a story and of trouble: traces, request ids, no secret."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from common.telemetry import logs
from tests.support.observed import captured, problem
from tests.support.service import Service, new_user
from tests.support.tokens import SECRET, bearer

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"

DELIVERED = 3


@contextmanager
def logged(service: Service, file: Path, **settings: str) -> Iterator[None]:
    """Have the service log to `file` while the block runs."""
    ours = logging.getLogger("orders")
    before = (ours.handlers[:], ours.level, ours.propagate)
    ours.handlers = []
    try:
        service.set(LOG_LEVEL="INFO", LOG_FILE=str(file), **settings)
        yield
    finally:
        for each in ours.handlers:
            each.close()
        logs.configure(logs.Options())
        ours.handlers, ours.level, ours.propagate = before


def lines(file: Path, message: str) -> list[dict[str, Any]]:
    told = [json.loads(line) for line in file.read_text().splitlines()]
    return [line for line in told if line["message"] == message]


def test_request_is_one_timed_line(service: Service, user: str, tmp_path: Path) -> None:
    with logged(service, tmp_path / "log"):
        article = service.sandbox.add_article(amount=10)
        service.sandbox.add_to_cart(user, article, 1)
        service.checkout(user, traceparent=TRACEPARENT)
    [line] = lines(tmp_path / "log", "request")
    named = (line["method"], line["route"], line["status"])
    assert named == ("POST", "/api/orders-from-shopcart", 201)
    assert 0 < line["database_ms"] < line["latency_ms"]
    assert 0 < line["upstream_ms"] < line["latency_ms"]
    assert line["statements"] >= 2
    assert line[logs.TRACE] == TRACE
    asked = line["httpRequest"]
    assert (asked["requestMethod"], asked["status"]) == ("POST", 201)
    assert asked["latency"].endswith("s")


def test_request_without_waits_has_no_times(service: Service, tmp_path: Path) -> None:
    with logged(service, tmp_path / "log"):
        service.call("orders_crud", "GET", "/health/live")
    [line] = lines(tmp_path / "log", "request")
    assert not {"database_ms", "upstream_ms", "statements"} & line.keys()


def test_delivery_is_in_its_trace(service: Service, user: str, tmp_path: Path) -> None:
    [item] = service.ordered(user)["items"]
    with logged(service, tmp_path / "log"):
        service.sandbox.fault("sink", status=503)
        service.move(item["id"], 2, headers={"traceparent": TRACEPARENT})
        service.sandbox.mend()
        service.rows("UPDATE outbox SET available_at = now()")
        service.sweep()
    [failed] = lines(tmp_path / "log", "an event was not sent: deferred")
    [sent] = lines(tmp_path / "log", "an event was sent")
    assert sent["event_id"] == failed["event_id"]
    assert sent["event_type"] == "order.item.status.updated"
    told = [
        (line["severity"], line["destination"], line["outcome"], line["attempt"])
        for line in (failed, sent)
    ]
    assert told == [("WARNING", "http", "deferred", 1), ("INFO", "http", "sent", 2)]
    assert {line[logs.TRACE] for line in (failed, sent)} == {TRACE}
    assert all(line["milliseconds"] > 0 for line in (failed, sent))


def test_delivery_at_once_is_the_rule_and_no_line(
    service: Service, user: str, tmp_path: Path
) -> None:
    with logged(service, tmp_path / "log"):
        service.ordered(user)
        service.set(LOG_LEVEL="DEBUG")
        service.ordered(user)
    sent = lines(tmp_path / "log", "an event was sent")
    assert [line["severity"] for line in sent] == ["DEBUG"] * 2


@pytest.mark.parametrize("user_ids", ["none", "hashed"])
def test_a_whole_story_leaves_no_body_no_token_and_no_user_in_the_log(
    service: Service, tmp_path: Path, user_ids: str
) -> None:
    user, shop = new_user(), new_user()
    marks = [user, shop, SECRET, "Bearer", "a-private-remark", "a-key-of-mine"]
    with logged(
        service,
        tmp_path / "log",
        GATEWAY_JWT_SECRET=SECRET,
        LOG_USER_IDS=user_ids,
        LOG_USER_ID_KEY="k" * 16,
    ):
        headers = bearer(user)
        mine = headers["Authorization"].split()[1]
        marks.append(mine)
        article = service.sandbox.add_article(amount=10)
        service.sandbox.add_to_cart(user, article, 1)
        made = service.checkout(user, Idempotency_Key="a-key-of-mine", **headers)
        assert made.status_code == 201, made.get_data(as_text=True)
        order = made.get_json()["order"]
        body = {"metadata": {"note": "a-private-remark"}}
        path = f"/api/orders/{order['id']}/"
        done = service.crud("PATCH", path, user, json=body, headers=headers)
        assert done.status_code == 200
        item_id = order["items"][0]["id"]
        moved = service.move(item_id, DELIVERED, user=shop)
        assert moved.status_code == 200, moved.get_data(as_text=True)
        broken = b'{"event_type": "a-private-remark", "note": "a-private-remark"'
        service.call("approval_handler", "POST", "/", data=broken)
        service.trigger_approval(order["id"])
        service.crud("GET", "/api/orders/?limit=a-private-remark", user)
        service.sweep()
    text = (tmp_path / "log").read_text()
    assert [mark for mark in marks if mark in text] == []
    assert logs.LABELS in text
    assert ("user_id" in text) is (user_ids == "hashed")
    assert str(UUID(user)) not in text
    assert article not in text


# An order's metadata cannot be read or written: an error that nobody expects.
DEFECT = (
    "DO $$ BEGIN ALTER TABLE orders RENAME TO real_orders;"
    " CREATE VIEW orders AS SELECT id, user_id, version, created_at, is_approved,"
    " is_complete, approved_at, cart_id, to_jsonb(1 / (id - id)) AS metadata"
    " FROM real_orders; END $$"
)


def test_unexpected_error_is_500_without_details(service: Service, user: str) -> None:
    order = service.ordered(user)
    service.rows(DEFECT)
    item_id = order["items"][0]["id"]
    for response in (
        service.crud("GET", f"/api/orders/{order['id']}/", user),
        service.crud("POST", "/api/orders/", user, json={}),
        service.crud("PATCH", f"/api/orders/{order['id']}/", user, json={}),
        service.move(item_id, 2),
    ):
        body = problem(response, 500, "internal-error")
        assert set(body) == {"type", "title", "status", "detail", "instance", "error"}
        shown = response.get_data(as_text=True)
        for secret in ("SELECT", "division", "Traceback", "pg8000", "sqlalchemy"):
            assert secret not in shown


def test_log_has_the_details_under_the_request_id(service: Service, user: str) -> None:
    service.ordered(user)
    service.rows(DEFECT)
    with captured() as lines:
        headers = {"X-Request-ID": "find-me"}
        service.crud("GET", "/api/orders/", user, headers=headers)
    [line] = [line for line in lines if line["severity"] == "ERROR"]
    assert line["request_id"] == "find-me"
    assert "division by zero" in line["exception"]
    assert "Traceback" in line["exception"]


def test_what_request_did_wrong_is_no_error_in_log(service: Service, user: str) -> None:
    with captured() as lines:
        service.crud("POST", "/api/orders/", user, data="{", headers={})
        service.crud("GET", "/api/orders/?limit=0", user)
        service.crud("GET", "/nowhere", user)
        service.crud("BREW", "/api/orders/", user)
    assert [line for line in lines if line["severity"] == "ERROR"] == []
