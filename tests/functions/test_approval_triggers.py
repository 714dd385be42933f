"""Approval's trigger over HTTP: every envelope, every nuisance, and no harm done."""

import json
import logging
from collections.abc import Callable

import pytest
from werkzeug.test import TestResponse

from common import wiring
from tests.support.approvals import (
    CANCELLED,
    DELIVERED,
    ENVELOPES,
    Envelope,
    binary,
    completed,
    dead_letters,
    is_approved,
    raw_push,
    status_event,
    structured,
)
from tests.support.service import Service

Wrap = Callable[[bytes], Envelope]


def deliver(
    service: Service, body: object, wrap: Wrap = binary, path: str = "/"
) -> TestResponse:
    """Send an event as whoever delivers it would; bytes go out as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers, data = wrap(content)
    return service.call("approval_handler", "POST", path, headers=headers, data=data)


@pytest.mark.parametrize("wrap", ENVELOPES, ids=lambda wrap: wrap.__name__)
def test_an_order_is_approved_whatever_envelope_the_event_comes_in(
    service: Service, user: str, wrap: Wrap
) -> None:
    order = completed(service, user, DELIVERED)
    assert deliver(service, status_event(order["id"]), wrap).status_code == 204
    assert is_approved(service, order["id"])
    assert dead_letters(service) == []


@pytest.mark.parametrize("path", ["/", "/events", "/api/some/trigger/path/"])
def test_a_trigger_may_call_any_path(service: Service, user: str, path: str) -> None:
    order = completed(service, user, DELIVERED)
    event = status_event(order["id"])
    assert deliver(service, event, path=path).status_code == 204
    assert is_approved(service, order["id"])


def test_an_order_with_an_open_item_is_not_approved(
    service: Service, user: str
) -> None:
    order = service.ordered(user, 1, 1)
    service.move(order["items"][0]["id"], DELIVERED)
    assert deliver(service, status_event(order["id"])).status_code == 204
    assert not is_approved(service, order["id"])
    assert service.sandbox.completed_orders == []


def test_an_order_without_items_is_not_approved(service: Service, user: str) -> None:
    order = service.crud("POST", "/api/orders/", user, json={}).get_json()
    assert deliver(service, status_event(order["id"])).status_code == 204
    assert not is_approved(service, order["id"])


def test_what_the_event_claims_of_the_status_is_not_believed(
    service: Service, user: str
) -> None:
    order = service.ordered(user)
    assert deliver(service, status_event(order["id"], status=4)).status_code == 204
    assert not is_approved(service, order["id"])


def test_events_in_any_order_and_number_approve_and_tell_once(
    service: Service, user: str
) -> None:
    order = service.ordered(user, 1, 2)
    first, second = (item["id"] for item in order["items"])
    shipped = status_event(order["id"], order_item_id=str(first), status=2)
    delivered = status_event(order["id"], order_item_id=str(first), status=3)
    cancelled = status_event(order["id"], order_item_id=str(second), status=4)
    service.move(first, 2)
    assert deliver(service, cancelled).status_code == 204  # ahead of its time
    service.move(first, DELIVERED)
    service.move(second, CANCELLED)
    for event in (cancelled, delivered, shipped, shipped, cancelled):
        assert deliver(service, event).status_code == 204
    assert is_approved(service, order["id"])
    assert len(service.sandbox.events_of("order.approved")) == 1
    [heard] = service.sandbox.completed_orders
    assert heard["times_heard"] == 1
    assert len(service.sandbox.calls_to("analytics")) == 1


def test_an_event_of_a_deleted_order_is_acknowledged(
    service: Service, user: str
) -> None:
    order = service.ordered(user)
    assert (
        service.crud("DELETE", f"/api/orders/{order['id']}/", user).status_code == 204
    )
    assert deliver(service, status_event(order["id"])).status_code == 204
    assert dead_letters(service) == []


@pytest.mark.parametrize("order_id", [999_999, 2**63 - 1])
def test_an_event_of_an_unknown_order_is_acknowledged(
    service: Service, order_id: int
) -> None:
    assert deliver(service, status_event(order_id)).status_code == 204
    assert dead_letters(service) == []


@pytest.mark.parametrize("event_type", ["order.created", "order.approved"])
def test_events_approval_does_not_care_for_are_acknowledged(
    service: Service, event_type: str
) -> None:
    event = {"event_type": event_type, "order_id": None}
    assert deliver(service, event).status_code == 204
    assert dead_letters(service) == []


@pytest.mark.parametrize(
    ("body", "wrap", "reason"),
    [
        (b"", binary, "not JSON"),
        (b"{not json", binary, "not JSON"),
        (b"\xff\xfe", binary, "not JSON"),
        (b"[" * 50_000, binary, "not JSON"),
        (b"[]", binary, "object"),
        (b"{}", binary, "no event_type"),
        (b"[]", structured, "object"),
        (b"not json", raw_push, "not JSON"),
        (status_event(4, order_id=4), binary, "order_id"),
        (status_event(4, order_id=None), binary, "order_id"),
        (status_event("a0000000-0000-4000-8000-000000000001"), binary, "order_id"),
        (status_event("-4"), binary, "order_id"),
        (status_event("0"), binary, "order_id"),
        (status_event(2**63), binary, "order_id"),
        (status_event("٤"), binary, "order_id"),
        (status_event(4, event_type=7), binary, "event_type"),
        (status_event(4, event_type="new.one"), binary, "'new.one' is foreign"),
    ],
)
def test_what_can_never_be_understood_is_acknowledged_and_kept_as_a_dead_letter(
    service: Service, body: object, wrap: Wrap, reason: str
) -> None:
    assert deliver(service, body, wrap).status_code == 204
    [letter] = dead_letters(service)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    expected = wrap(content)[1]
    assert letter["source"] == "approval"
    assert reason in letter["reason"]
    assert len(letter["body"]) == len(expected)
    if wrap is binary:
        assert letter["body"] == expected


@pytest.mark.parametrize(
    "message",
    [{}, {"data": 7}, {"data": "not base64!"}, {"attributes": {"a": "b"}}, None],
)
def test_a_push_without_readable_data_is_acknowledged_and_kept(
    service: Service, message: object
) -> None:
    response = service.call(
        "approval_handler",
        "POST",
        "/",
        json={"message": message, "subscription": "s"},
    )
    assert response.status_code == 204
    assert len(dead_letters(service)) == 1


def test_a_dead_letter_keeps_headers_but_no_credentials(service: Service) -> None:
    headers = {"ce-id": "7", "Authorization": "Bearer secret", "Cookie": "a=secret"}
    service.call("approval_handler", "POST", "/", headers=headers, data=b"junk")
    [letter] = dead_letters(service)
    assert letter["headers"]["ce-id"] == "7"
    assert "secret" not in json.dumps(letter["headers"])


def test_a_dead_letter_is_an_error_in_the_log(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    ours = logging.getLogger("orders")
    ours.addHandler(caplog.handler)
    try:
        deliver(service, b"junk")
    finally:
        ours.removeHandler(caplog.handler)
    errors = {r.message for r in caplog.records if r.levelno == logging.ERROR}
    assert errors == {"a message became a dead letter"}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_any_other_method_is_told_so(service: Service, method: str) -> None:
    response = service.call("approval_handler", method, "/")
    assert response.status_code == 405
    assert "POST" in response.headers["Allow"]


def test_an_order_somebody_holds_is_redelivered_later(
    service: Service, user: str
) -> None:
    order = completed(service, user, DELIVERED)
    with wiring.engine().connect() as holder:
        holder.exec_driver_sql("BEGIN")
        holder.exec_driver_sql("SELECT id FROM orders FOR UPDATE")
        response = deliver(service, status_event(order["id"]))
        holder.exec_driver_sql("ROLLBACK")
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert deliver(service, status_event(order["id"])).status_code == 204
    assert is_approved(service, order["id"])
