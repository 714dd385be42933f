"""Approval happens once, analytics hears of it once, and nothing is forgotten."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
from werkzeug.test import TestResponse

from common import wiring
from tests.support.approvals import CANCELLED, DELIVERED, binary, completed, is_approved
from tests.support.bodies import status_event
from tests.support.parallel import sender
from tests.support.service import Service, new_user

WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


def test_many_triggers_at_once_approve_only_once(service: Service, user: str) -> None:
    """All of them see an order that is not approved before the first can write."""
    order = completed(service, user, DELIVERED, CANCELLED)
    headers, data = binary(json.dumps(status_event(order["id"])).encode())
    send = sender(
        service, "approval_handler", "POST", "/", user, headers=headers, data=data
    )
    with (
        wiring.engine().connect() as holder,
        wiring.engine().connect() as observer,
        ThreadPoolExecutor(10) as pool,
    ):
        holder.exec_driver_sql("BEGIN")
        holder.exec_driver_sql("SELECT id FROM orders FOR UPDATE")
        running = [pool.submit(send) for _ in range(10)]
        while observer.exec_driver_sql(WAITING).scalar_one() < len(running):
            assert not any(call.done() for call in running)
        holder.exec_driver_sql("ROLLBACK")
        statuses = [call.result().status_code for call in running]
    assert statuses == [204] * 10
    service.sweep()
    assert len(service.sandbox.events_of("order.approved")) == 1
    [heard] = service.sandbox.completed_orders
    assert heard["times_heard"] == 1


def test_analytics_gets_delivered_items_and_prices(service: Service, user: str) -> None:
    mug = service.sandbox.add_article(price="19.99", amount=10)
    pin = service.sandbox.add_article(price="0.05", amount=10)
    for article, quantity in ((mug, 2), (pin, 7)):
        service.sandbox.add_to_cart(user, article, quantity)
    order = service.checkout(user).get_json()["order"]
    delivered, cancelled = order["items"]
    service.move(delivered["id"], DELIVERED)
    service.move(cancelled["id"], CANCELLED)
    service.trigger_approval(order["id"])
    [call] = service.sandbox.calls_to("analytics")
    assert call.path == "/api/analitic-order-completed/"
    assert call.json == {
        "id": str(order["id"]),
        "user_id": user,
        "created_at": order["created_at"].replace("Z", "+00:00"),
        "items": [
            {
                "id": str(delivered["id"]),
                "quantity": 2,
                "product_variation": mug,
                "price": "19.99",
            }
        ],
    }


def test_lost_answer_of_analytics_is_asked_again(service: Service, user: str) -> None:
    order = completed(service, user, DELIVERED)
    service.sandbox.fault("analytics", hang_up=True, after_work=True, times=1)
    service.trigger_approval(order["id"])
    service.rows("UPDATE outbox SET available_at = now()")
    service.restart()
    service.sweep()
    [heard] = service.sandbox.completed_orders
    assert heard["times_heard"] == 2
    assert service.rows("SELECT 1 FROM outbox") == []


def test_notification_waits_for_an_address(service: Service, user: str) -> None:
    analytics = service.environ["ANALYTIC_SERVICE"]
    service.set(ANALYTIC_SERVICE=None)
    order = completed(service, user, DELIVERED)
    service.trigger_approval(order["id"])
    service.sweep()
    assert service.sandbox.completed_orders == []
    service.set(ANALYTIC_SERVICE=analytics)
    service.sweep()
    assert len(service.sandbox.completed_orders) == 1


def test_sweep_approves_orders_without_a_trigger(service: Service, user: str) -> None:
    complete = completed(service, user, DELIVERED)
    half = service.ordered(user, 1, 1)
    service.move(half["items"][0]["id"], DELIVERED)
    swept = service.sweep()
    assert swept["approved"] == [complete["id"]]
    assert swept["events"] == {"sent": 2}  # the announcement, and analytics
    assert is_approved(service, complete["id"])
    assert not is_approved(service, half["id"])
    [heard] = service.sandbox.completed_orders
    assert heard["id"] == str(complete["id"])
    assert service.sweep()["approved"] == []


def test_locked_order_delays_no_other_order_or_its_events(service: Service) -> None:
    held, free = (completed(service, new_user(), DELIVERED) for _ in range(2))
    with wiring.engine().connect() as holder:
        holder.exec_driver_sql("BEGIN")
        holder.exec_driver_sql(
            f"SELECT 1 FROM orders WHERE id = {held['id']} FOR UPDATE"
        )
        swept = service.sweep()
        holder.exec_driver_sql("ROLLBACK")
    assert swept["approved"] == [free["id"]]
    assert [order["id"] for order in service.sandbox.completed_orders] == [
        str(free["id"])
    ]
    assert service.sweep()["approved"] == [held["id"]]


def test_order_reopened_by_an_item_is_not_approved(service: Service, user: str) -> None:
    order = completed(service, user, DELIVERED)
    article = service.sandbox.add_article(amount=5)
    added = {"order": order["id"], "product_variation": article}
    assert (
        service.crud("POST", "/api/order-items/", user, json=added).status_code == 201
    )
    service.trigger_approval(order["id"])
    assert service.sweep()["approved"] == []
    assert not is_approved(service, order["id"])


def deliver(service: Service, body: object) -> TestResponse:
    """Send an event as whoever delivers it would."""
    headers, data = binary(json.dumps(body).encode())
    return service.call("approval_handler", "POST", "/", headers=headers, data=data)


def test_order_with_open_item_is_not_approved(service: Service, user: str) -> None:
    order = service.ordered(user, 1, 1)
    service.move(order["items"][0]["id"], DELIVERED)
    assert deliver(service, status_event(order["id"])).status_code == 204
    assert not is_approved(service, order["id"])
    assert service.sandbox.completed_orders == []


def test_an_order_without_items_is_not_approved(service: Service, user: str) -> None:
    order = service.crud("POST", "/api/orders/", user, json={}).get_json()
    assert deliver(service, status_event(order["id"])).status_code == 204
    assert not is_approved(service, order["id"])


def test_status_in_the_event_is_not_believed(service: Service, user: str) -> None:
    order = service.ordered(user)
    assert deliver(service, status_event(order["id"], status=4)).status_code == 204
    assert not is_approved(service, order["id"])


def test_letters_are_logged(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    ours = logging.getLogger("orders")
    ours.addHandler(caplog.handler)
    try:
        deliver(service, "junk")
    finally:
        ours.removeHandler(caplog.handler)
    errors = {r.message for r in caplog.records if r.levelno == logging.ERROR}
    assert errors == {"a message became a dead letter"}


def test_order_somebody_holds_is_redelivered_later(service: Service, user: str) -> None:
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
