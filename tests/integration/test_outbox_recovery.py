"""Events that failed go out as soon as their destination is well again."""

import re

import pytest

from common.messaging import destination, marks
from common.messaging.relay import MAX_ATTEMPTS
from common.publishing.publisher import Result
from infra.local import system
from tests.support.database import execute
from tests.support.relaying import Recorder, column, owe, pending, relay_to

CREATED = "order.created"
SECONDS_LEFT = "extract(epoch FROM available_at - now())"
FAILED_LONG_AGO = (
    "UPDATE outbox SET available_at = now() + interval '50 minutes',"
    " attempts = {attempts}, last_error = 'answered 500'"
)


@pytest.mark.parametrize(
    "result", [Result.REFUSED, Result.DEFERRED, Result.UNCONFIRMED]
)
def test_a_backlog_does_not_wait_for_the_times_of_its_events(
    database_url: str, monkeypatch: pytest.MonkeyPatch, result: Result
) -> None:
    """Those of an outage of hours are far away, and nothing new comes in."""
    monkeypatch.setattr(destination, "PAUSE_SECONDS", 0.0)
    bus = Recorder(lambda _: result)
    for order_id in range(1, 31):
        owe(database_url, order_id, "a", "b")
    with relay_to(database_url, bus=bus) as relay:
        relay.sweep(5)
    # What had to wait behind an event has no reason of its own.
    behind = "body = 'b'"
    execute(database_url, FAILED_LONG_AGO.format(attempts=12))
    execute(database_url, f"UPDATE outbox SET last_error = NULL WHERE {behind}")
    well = Recorder()
    with relay_to(database_url, bus=well) as relay:
        relay.sweep(5)
    assert pending(database_url) == []
    assert sorted(well.bodies) == ["a"] * 30 + ["b"] * 30
    for order_id in range(1, 31):
        assert [m.body for m in well.sent if m.order_id == order_id] == ["a", "b"]


def test_an_event_that_is_refused_again_keeps_its_time_and_its_attempts(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    owe(database_url, 4, "a")
    execute(database_url, FAILED_LONG_AGO.format(attempts=MAX_ATTEMPTS - 1))
    bus = Recorder(lambda _: Result.REFUSED)
    with relay_to(database_url, bus=bus) as relay:
        for _ in range(3):
            relay.sweep(5)
    # The second look comes only seconds later.
    assert [m.body for m in bus.tried] == ["a"]
    assert column(database_url, "attempts") == [MAX_ATTEMPTS - 1]
    assert column(database_url, "sending_since") == [None]
    assert 2900 < float(column(database_url, SECONDS_LEFT)[0]) <= 3000
    assert column(database_url, "id", "dead_letters") == []
    assert "dead letter" not in caplog.text


def test_an_event_that_fails_for_its_own_reason_comes_no_nearer_to_its_end(
    database_url: str,
) -> None:
    """It may be tried whenever others go through; those attempts do not count."""
    owe(database_url, 4, "bad")
    owe(database_url, 5, "good")
    execute(database_url, FAILED_LONG_AGO.format(attempts=MAX_ATTEMPTS - 1))
    bus = Recorder(lambda m: Result.REFUSED if m.body == "bad" else Result.SENT)
    with relay_to(database_url, bus=bus) as relay:
        relay.sweep(5)
    assert bus.bodies == ["good"]
    assert pending(database_url) == ["bad"]
    assert column(database_url, "attempts") == [MAX_ATTEMPTS - 1]


def test_order_created_in_doubt_is_not_tried_before_its_time(
    database_url: str,
) -> None:
    """Each attempt may lower stock once more; another event finds out as well."""
    owe(database_url, 4, "doubt", event_type=CREATED)
    execute(database_url, FAILED_LONG_AGO.format(attempts=3) + ", doubts = 1")
    bus = Recorder(lambda _: Result.SENT)
    with relay_to(database_url, bus=bus) as relay:
        relay.sweep(5)
    assert bus.tried == []
    owe(database_url, 5, "other")
    execute(database_url, FAILED_LONG_AGO.format(attempts=3) + " WHERE body = 'other'")
    with relay_to(database_url, bus=bus) as relay:
        relay.sweep(5)
    assert bus.bodies == ["other", "doubt"]


def test_an_event_that_was_never_tried_or_is_being_sent_is_left_alone(
    database_url: str,
) -> None:
    owe(database_url, 4, "sending")
    owe(database_url, 5, "planned")
    execute(database_url, FAILED_LONG_AGO.format(attempts=1))
    execute(
        database_url, "UPDATE outbox SET sending_since = now() WHERE body = 'sending'"
    )
    execute(database_url, "UPDATE outbox SET last_error = NULL WHERE body = 'planned'")
    bus = Recorder()
    with relay_to(database_url, bus=bus) as relay:
        relay.sweep(5)
    assert bus.tried == []


def test_a_destination_that_is_back_is_found_within_ten_seconds() -> None:
    longest = max(destination.MAX_PAUSE_SECONDS, marks.PROBE_SECONDS)
    worker = system.CHECKOUT / "functions" / "outbox_relay" / "worker.py"
    poll = re.search(r"^POLL_SECONDS = (\S+)", worker.read_text(), re.MULTILINE)
    assert poll
    assert longest + float(poll[1]) <= 10
    assert longest + system.SWEEP_SECONDS <= 10
