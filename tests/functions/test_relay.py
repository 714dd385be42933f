"""The relay as the scheduler calls it: what it does, says, and leaves alone."""

import sys
import time
from types import SimpleNamespace

import pytest

from common import approval
from tests.support.approvals import DELIVERED, completed
from tests.support.service import Service


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
        "purged_keys": 0,
        "purged_events": 0,
    }


def test_reading_does_not_sweep(service: Service, user: str) -> None:
    service.sandbox.fault("sink", status=503)
    service.ordered(user)
    is_back(service)
    assert service.call("outbox_relay", "GET", "/").status_code == 405
    assert service.sandbox.events == []


def test_it_approves_first_so_that_what_that_owes_goes_out_in_the_same_sweep(
    service: Service, user: str
) -> None:
    order = completed(service, user, DELIVERED)
    swept = service.sweep()
    assert swept["approved"] == [order["id"]]
    assert swept["events"] == {"sent": 2}  # the announcement, and analytics
    assert len(service.sandbox.completed_orders) == 1


def test_a_sink_that_is_away_is_told_in_the_reply_and_is_no_error(
    service: Service, user: str
) -> None:
    service.set(EVENT_SINK_URL="http://sink.invalid")
    service.ordered(user)
    service.restart()
    assert service.sweep()["events"] == {"unavailable": 1, "not tried": 1}


def test_events_sent_longer_ago_than_they_are_kept_are_forgotten(
    service: Service, user: str
) -> None:
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


def test_the_traceparent_of_the_request_travels_with_its_events(
    service: Service, user: str
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    article = service.sandbox.add_article(amount=5)
    service.sandbox.add_to_cart(user, article)
    service.sandbox.fault("sink", status=503)
    service.checkout(user, traceparent=trace)
    is_back(service)
    service.sweep()
    found = {event.attributes["traceparent"] for event in service.sandbox.events}
    assert found == {trace}


@pytest.mark.parametrize(("policy", "times"), [("resend", 2), ("hold", 1)])
def test_the_policy_on_doubt_is_a_setting(
    service: Service, user: str, policy: str, times: int
) -> None:
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
