"""What is owed goes out once and in order, however many relays there are."""

import random
import threading
import time
from contextlib import ExitStack

import pytest

from common.messaging import outbox
from common.messaging import relay as relays
from common.publishing.publisher import Message, Result
from tests.support.database import execute
from tests.support.parallel import at_once
from tests.support.relaying import (
    Recorder,
    column,
    hand_over,
    let_time_pass,
    owe,
    pending,
    relay_to,
)

PATIENCE_SECONDS = 60


def test_one_orders_events_go_out_in_the_order_they_were_written(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = Recorder()
    owe(database_url, 4, "a", "b", "c")
    owe(database_url, 5, "x")
    owe(database_url, 4, "d")
    owe(database_url, 4, "of nobody here", to="elsewhere")
    with relay_to(database_url, bus=bus) as relay:
        assert relay.sweep(10) == {"sent": 5}
        assert [m.body for m in bus.sent if m.order_id == 4] == ["a", "b", "c", "d"]
        assert pending(database_url) == ["of nobody here"]
        assert column(database_url, "attempts") == [0]
        assert column(database_url, "id", "dead_letters") == []
        # More than a batch, in a sweep or of one order.
        monkeypatch.setattr(outbox, "BATCH", 3)
        for send in (lambda: relay.sweep(20), lambda: hand_over(relay, 4)):
            bus.sent.clear()
            owe(database_url, 4, *"abcdefgh")
            send()
            assert bus.bodies == list("abcdefgh")


def test_a_held_event_holds_back_what_follows_it_wherever_it_stands(
    database_url: str,
) -> None:
    bus = Recorder()
    owe(database_url, 4, "a", "held", "b")
    owe(database_url, 5, "x", "held", "y")
    execute(database_url, "UPDATE outbox SET held_since = now() WHERE body = 'held'")
    with relay_to(database_url, bus=bus) as relay:
        hand_over(relay, 4)
        assert bus.bodies == ["a"]
        assert relay.sweep(10) == {"sent": 1}
        assert pending(database_url) == ["held", "b", "held", "y"]
        execute(database_url, "UPDATE outbox SET held_since = NULL")
        assert relay.sweep(10) == {"sent": 4}


def test_what_is_written_while_its_order_is_being_sent_goes_out_at_once(
    database_url: str,
) -> None:
    """Whoever wrote it found the order claimed, and sent nothing."""

    def answer(sent: Message) -> Result:
        if sent.body == "a":
            owe(database_url, 4, "b")
            hand_over(later, 4)
        return Result.SENT

    bus = Recorder(answer)
    owe(database_url, 4, "a")
    with (
        relay_to(database_url, bus=bus) as first,
        relay_to(database_url, bus=bus) as later,
    ):
        hand_over(first, 4)
    assert bus.bodies == ["a", "b"]


def test_relays_side_by_side_send_nothing_twice_and_nothing_out_of_order(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small batches split orders between relays; refusals leave gaps to overtake in."""
    monkeypatch.setattr(outbox, "BATCH", 7)
    monkeypatch.setattr(relays, "MAX_BACKOFF_SECONDS", 0.05)
    monkeypatch.setattr(relays, "MAX_ATTEMPTS", 1000)
    chance = random.Random(7)

    def answer(_: Message) -> Result:
        time.sleep(chance.random() / 500)
        return Result.SENT if chance.random() > 0.05 else Result.REFUSED

    bus = Recorder(answer)
    execute(
        database_url,
        "INSERT INTO outbox (destination, order_id, event_id, event_type, body)"
        " SELECT 'bus', number, gen_random_uuid(), 'order.deleted', turn"
        " FROM generate_series(0, 14) turn, generate_series(1, 30) number"
        " ORDER BY turn, number",
    )
    deadline = time.monotonic() + PATIENCE_SECONDS

    def sweep() -> None:
        with relay_to(database_url, bus=bus) as relay:
            while pending(database_url) and time.monotonic() < deadline:
                relay.sweep(5)

    def request() -> None:
        with relay_to(database_url, bus=bus) as relay:
            while pending(database_url) and time.monotonic() < deadline:
                hand_over(relay, random.randint(1, 30))

    at_once([sweep, sweep, sweep, request])

    assert pending(database_url) == []
    for order_id in range(1, 31):
        sent = [int(m.body) for m in bus.sent if m.order_id == order_id]
        assert sent == list(range(15))


def test_an_event_stays_behind_what_another_relay_is_sending(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BATCH", 1)
    is_sending, may_finish = threading.Event(), threading.Event()

    def answer(_: Message) -> Result:
        is_sending.set()
        may_finish.wait(PATIENCE_SECONDS)
        return Result.SENT

    slow, fast = Recorder(answer), Recorder()
    owe(database_url, 4, "first", "second")
    with (
        relay_to(database_url, bus=slow) as one,
        relay_to(database_url, bus=fast) as other,
    ):
        thread = threading.Thread(target=hand_over, args=[one, 4])
        thread.start()
        assert is_sending.wait(PATIENCE_SECONDS)
        other.sweep(1)
        assert fast.tried == []
        may_finish.set()
        thread.join()
        other.sweep(5)
    assert slow.bodies + fast.bodies == ["first", "second"]


def test_a_row_that_somebody_holds_holds_back_its_order_only(
    database_url: str,
) -> None:
    """Whoever claims in the very same moment has locks that are skipped over."""
    bus = Recorder()
    owe(database_url, 4, "first", "second")
    owe(database_url, 5, "other")
    with ExitStack() as stack:
        relay = stack.enter_context(relay_to(database_url, bus=bus))
        with relay._engine.connect() as holder:
            holder.exec_driver_sql("BEGIN")
            holder.exec_driver_sql(
                "SELECT 1 FROM outbox WHERE body = 'first' FOR UPDATE"
            )
            relay.sweep(1)
            assert bus.bodies == ["other"]
            holder.exec_driver_sql("ROLLBACK")
        relay.sweep(1)
    assert bus.bodies == ["other", "first", "second"]


def test_a_refused_event_holds_back_its_own_order_only_and_backs_off(
    database_url: str,
) -> None:
    bus = Recorder(lambda m: Result.REFUSED if m.body == "bad" else Result.SENT)
    owe(database_url, 4, "good", "bad", "later")
    owe(database_url, 5, "other")
    with relay_to(database_url, bus=bus) as relay:
        hand_over(relay, 4)
        assert [m.body for m in bus.tried] == ["good", "bad"]
        relay.sweep(5)
        assert bus.bodies == ["good", "other"]
        for _ in range(3):
            let_time_pass(database_url)
            relay.sweep(5)
    assert column(database_url, "attempts") == [4, 0]
    waits = "SELECT extract(epoch FROM available_at - now()) FROM outbox ORDER BY id"
    [[wait], _] = execute(database_url, waits)
    assert 5 < float(str(wait)) <= 16
    assert column(database_url, "last_error") == ["told so", None]
    assert bus.bodies == ["good", "other"]


def test_a_long_queue_behind_a_refused_event_starves_nobody(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BATCH", 5)
    bus = Recorder(lambda m: Result.REFUSED if m.body == "bad" else Result.SENT)
    owe(database_url, 4, "bad", *[str(number) for number in range(20)])
    owe(database_url, 5, "other")
    with relay_to(database_url, bus=bus) as relay:
        for _ in range(3):
            relay.sweep(5)
    assert bus.bodies == ["other"]


def test_handing_over_publishes_this_order_and_no_other(database_url: str) -> None:
    bus = Recorder()
    owe(database_url, 4, "mine")
    owe(database_url, 5, "other")
    with relay_to(database_url, bus=bus) as relay:
        hand_over(relay, 4)
    assert bus.bodies == ["mine"]
    assert pending(database_url) == ["other"]


@pytest.mark.parametrize("way", ["hand over", "sweep"])
def test_a_destination_that_does_not_answer_delays_no_other(
    database_url: str, way: str
) -> None:
    """The slow one answers only when the other has got all that is for it."""
    has_all = threading.Event()

    def wait(_: Message) -> Result:
        assert has_all.wait(PATIENCE_SECONDS)
        return Result.SENT

    def take(sent: Message) -> Result:
        if sent.body == "last":
            has_all.set()
        return Result.SENT

    slow, fast = Recorder(wait), Recorder(take)
    for name in ("slow", "fast"):
        owe(database_url, 4, "first", "last", to=name)
    with relay_to(database_url, slow=slow, fast=fast) as relay:
        if way == "sweep":
            relay.sweep(PATIENCE_SECONDS)
        else:
            hand_over(relay, 4)
    assert slow.bodies == fast.bodies == ["first", "last"]
