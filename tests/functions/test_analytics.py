"""Analytics that takes its time: it is given it, and nobody else waits for it."""

import time
import uuid
from pathlib import Path

import pytest

from tests.support.approvals import DELIVERED, completed
from tests.support.relay_worker import relay_worker
from tests.support.service import Service, new_user
from tests.support.worker import eventually

LINES, SECONDS_A_LINE = 60, 0.1  # of an order, each read of the product service
LONGEST_SECONDS = 15 + 60 + 10  # until it is begun, has answered, and that is kept
BOUND_SECONDS = 4.0  # of a request's wait for deliveries, on a busy machine


@pytest.fixture(autouse=True)
def _slow_analytics(service: Service) -> None:
    service.sandbox.fault("analytics", delay_seconds=LINES * SECONDS_A_LINE)


def approved_while_analytics_was_away(service: Service) -> int:
    """Make an order that is approved, and of which analytics has not heard."""
    analytics = service.environ["ANALYTIC_SERVICE"]
    service.set(ANALYTIC_SERVICE="http://analytics.invalid")
    order = completed(service, new_user(), DELIVERED)
    service.trigger_approval(order["id"])
    service.set(ANALYTIC_SERVICE=analytics)
    service.rows("UPDATE outbox SET available_at = now()")
    return int(order["id"])


def told_once(service: Service, *orders: int) -> None:
    """Check that analytics heard of each order once, and that this is known."""
    eventually(lambda: service.rows("SELECT 1 FROM outbox") == [])
    calls = service.sandbox.calls_to("analytics", method="POST")
    assert sorted(call.json["id"] for call in calls) == sorted(map(str, orders))
    doubts = "SELECT doubts FROM sent_events WHERE destination = 'analytics'"
    assert {row["doubts"] for row in service.rows(doubts)} == {0}


def test_a_trigger_s_request_begins_it_and_waits_no_longer_than_for_others(
    service: Service,
) -> None:
    orders = [completed(service, new_user(), DELIVERED)["id"] for _ in range(2)]
    for order in orders:
        began = time.monotonic()
        assert service.trigger_approval(order).status_code == 204
        assert time.monotonic() - began < BOUND_SECONDS
        assert (
            len(service.sandbox.events_of("order.approved")) == orders.index(order) + 1
        )
    eventually(lambda: len(service.rows("SELECT 1 FROM outbox")) < 2)
    service.sweep()
    told_once(service, *orders)


def test_a_sweep_by_request_waits_for_it(service: Service) -> None:
    order = approved_while_analytics_was_away(service)
    assert service.sweep()["events"] == {"sent": 1}
    told_once(service, order)


def test_the_relay_s_worker_sends_other_events_meanwhile(
    service: Service, tmp_path: Path
) -> None:
    order = approved_while_analytics_was_away(service)
    with relay_worker(service, tmp_path / uuid.uuid4().hex, "--poll-seconds=0.2"):
        begun = "SELECT 1 FROM outbox WHERE sending_since IS NOT NULL"
        eventually(lambda: service.rows(begun))
        sink = service.environ["EVENT_SINK_URL"]
        for _ in range(2):
            service.set(EVENT_SINK_URL="http://sink.invalid")
            service.ordered(new_user())
            service.set(EVENT_SINK_URL=sink)
        eventually(lambda: len(service.rows("SELECT 1 FROM outbox")) == 1)
        assert service.sandbox.completed_orders == []
        told_once(service, order)


def test_no_other_relay_tells_it_again_meanwhile(
    service: Service, tmp_path: Path
) -> None:
    order = completed(service, new_user(), DELIVERED)["id"]
    with relay_worker(service, tmp_path / uuid.uuid4().hex, "--poll-seconds=0.2"):
        assert service.trigger_approval(order).status_code == 204
        claim = "SELECT available_at - sending_since AS lasts FROM outbox"
        [row] = service.rows(f"{claim} WHERE destination = 'analytics'")
        assert row["lasts"].total_seconds() > LONGEST_SECONDS
        told_once(service, order)
