"""The relay as the scheduler calls it, and analytics that takes its time."""

import sys
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest

from common import approval
from tests.support.approvals import DELIVERED, completed
from tests.support.relay_worker import relay_worker
from tests.support.service import Service, new_user
from tests.support.worker import eventually


def is_back(service: Service) -> None:
    """Mend everything, and let every pause and backoff pass."""
    service.sandbox.mend()
    service.rows("UPDATE outbox SET available_at = now()")
    service.restart()


@pytest.mark.parametrize("path", ["/", "/sweep", "/any/path/"])
def test_a_scheduler_may_call_any_path(service: Service, path: str) -> None:
    response = service.call("outbox_relay", "POST", path)
    assert response.status_code == 200
    assert response.get_json() == {
        "approved": [],
        "events": {},
        "settled_variations": 0,
        "purged_keys": 0,
        "purged_events": 0,
    }


def test_absent_sink_is_in_the_reply_and_no_error(service: Service, user: str) -> None:
    service.set(EVENT_SINK_URL="http://sink.invalid")
    service.ordered(user)
    service.restart()
    assert service.sweep()["events"] == {"unavailable": 1, "not tried": 1}


def test_sent_events_are_kept_for_so_many_days(service: Service, user: str) -> None:
    service.set(EVENT_RETENTION_DAYS="7")
    service.ordered(user)
    age = "UPDATE sent_events SET sent_at = now() - make_interval(days => {})"
    service.rows(age.format(6))
    assert service.sweep()["purged_events"] == 0
    service.rows(age.format(8))
    assert service.sweep()["purged_events"] == 2
    assert service.rows("SELECT 1 FROM sent_events") == []


def test_ten_thousand_forgotten_approvals_are_worked_off_in_bounded_steps(
    service: Service, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call ends in time, and sends what is owed, however many there are."""
    service.ordered(user)
    service.rows(
        "INSERT INTO orders (user_id, is_complete)"
        " SELECT gen_random_uuid(), true FROM generate_series(1, 10000)"
    )
    clock = [1000.0]
    clocked = SimpleNamespace(monotonic=lambda: clock[0])
    monkeypatch.setattr(approval, "time", clocked)

    def slowly(_engine: object, order_id: int, _bus: object) -> bool:
        clock[0] += 0.5
        asked.append(order_id)
        return False

    asked: list[int] = []
    monkeypatch.setattr(approval, "approve", slowly)
    service.sweep()
    assert len(asked) == 20  # ten seconds' worth


def test_a_call_ends_in_time_however_slow_a_destination_is(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.has_made_up_events = True
    service.rows(
        "INSERT INTO outbox (destination, order_id, event_id, event_type, body)"
        " SELECT 'http', o, gen_random_uuid(), 'order.item.status.updated', '{}'"
        " FROM generate_series(1, 100) o"
    )
    service.sandbox.fault("sink", delay_seconds=0.3)
    service.client("outbox_relay")
    monkeypatch.setattr(sys.modules["main"], "SWEEP_SECONDS", 1.0)
    began_at = time.monotonic()
    sent = service.sweep()["events"]["sent"]
    assert time.monotonic() - began_at < 8
    assert 0 < sent < 20


@pytest.mark.parametrize(("policy", "times"), [("resend", 2), ("hold", 1)])
def test_policy_on_doubt(service: Service, user: str, policy: str, times: int) -> None:
    service.set(ORDER_CREATED_ON_DOUBT=policy)
    service.sandbox.fault("sink", status=503)
    service.ordered(user)
    is_back(service)
    service.rows("DELETE FROM outbox WHERE event_type <> 'order.created'")
    service.sandbox.fault("sink", hang_up=True, after_work=True, times=1)
    service.restart()
    service.sweep()
    is_back(service)
    service.sweep()
    assert len(service.sandbox.events_of("order.created")) == times
    assert bool(service.rows("SELECT 1 FROM outbox")) is (policy == "hold")


LINES, SECONDS_A_LINE = 60, 0.1  # of an order, each read of the product service

LONGEST_SECONDS = 15 + 60 + 10  # until it is begun, has answered, and that is kept

BOUND_SECONDS = 4.0  # of a request's wait for deliveries, on a busy machine


def slow_analytics(service: Service, lines: int = LINES) -> None:
    service.sandbox.fault("analytics", delay_seconds=lines * SECONDS_A_LINE)


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


def test_trigger_s_request_waits_no_longer_than_for_others(service: Service) -> None:
    slow_analytics(service)
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


def test_a_sweep_by_request_waits_for_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_analytics(service, LINES // 2)  # more than a request waits for deliveries
    order = approved_while_analytics_was_away(service)
    # Longer than the sweep of all others takes.
    service.client("outbox_relay")
    monkeypatch.setattr(sys.modules["main"], "SWEEP_SECONDS", 0.5)
    assert service.sweep()["events"] == {"sent": 1}
    told_once(service, order)


def test_relay_worker_sends_others_meanwhile(service: Service, tmp_path: Path) -> None:
    slow_analytics(service)
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


def test_no_other_relay_repeats_it_meanwhile(service: Service, tmp_path: Path) -> None:
    slow_analytics(service, LINES // 2)
    order = completed(service, new_user(), DELIVERED)["id"]
    with relay_worker(service, tmp_path / uuid.uuid4().hex, "--poll-seconds=0.2"):
        assert service.trigger_approval(order).status_code == 204
        claim = "SELECT available_at - sending_since AS lasts FROM outbox"
        [row] = service.rows(f"{claim} WHERE destination = 'analytics'")
        assert row["lasts"].total_seconds() > LONGEST_SECONDS
        told_once(service, order)
