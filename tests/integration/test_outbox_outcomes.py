"""What becomes of an event after each way an attempt can end."""

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.database.engine import POOL_TIMEOUT_SECONDS, Engine
from common.errors import DatabaseUnavailableError
from common.messaging import destination
from common.messaging import relay as relays
from common.messaging.relay import Relay
from common.publishing.publisher import Message, Outcome, Result
from tests.support.database import execute
from tests.support.link import link_to
from tests.support.relaying import (
    Recorder,
    column,
    engine_on,
    hand_over,
    let_time_pass,
    owe,
    pending,
    relay_to,
)

CREATED = "order.created"


def test_exhausted_attempts_make_a_dead_letter_and_an_error_and_let_others_pass(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    bus = Recorder(lambda m: Result.REFUSED if m.body == "bad" else Result.SENT)
    owe(database_url, 4, "bad", "later")
    execute(database_url, f"UPDATE outbox SET attempts = {relays.MAX_ATTEMPTS - 2}")
    [event_id, _] = column(database_url, "event_id")
    with relay_to(database_url, bus=bus) as relay:
        relay.sweep(5)
        assert column(database_url, "id", "dead_letters") == []
        let_time_pass(database_url)
        relay.sweep(5)
        relay.sweep(5)
    columns = "source, destination, order_id, event_id, event_type, body, reason"
    assert execute(database_url, f"SELECT {columns} FROM dead_letters") == [
        [
            "outbox",
            "bus",
            4,
            str(event_id),
            "order.item.status.updated",
            b"bad",
            "told so",
        ]
    ]
    assert bus.bodies == ["later"]
    assert pending(database_url) == []
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert [r.message for r in errors] == ["an event became a dead letter"]


def test_an_unroutable_event_is_kept_as_a_dead_letter_and_holds_up_nobody(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    bus = Recorder(lambda m: Result.UNROUTABLE if m.body == "a" else Result.SENT)
    owe(database_url, 4, "a", "b")
    with relay_to(database_url, bus=bus) as relay:
        assert relay.sweep(5) == {"unroutable": 1, "sent": 1}
    assert column(database_url, "body", "dead_letters") == [b"a"]
    assert pending(database_url) == []
    levels = [r.levelname for r in caplog.records if r.levelname != "INFO"]
    assert levels == ["WARNING", "ERROR"]


@pytest.mark.parametrize(
    ("result", "attempts"), [(Result.UNAVAILABLE, 0), (Result.UNCONFIRMED, 1)]
)
def test_a_destination_that_is_absent_or_mute_is_left_alone_for_a_while(
    database_url: str, monkeypatch: pytest.MonkeyPatch, result: Result, attempts: int
) -> None:
    bus = Recorder(lambda _: result)
    owe(database_url, 4, "a", "b")
    owe(database_url, 5, "c")
    with relay_to(database_url, bus=bus) as relay:
        relay.sweep(5)
        hand_over(relay, 5)
        relay.sweep(5)
        assert [m.body for m in bus.tried] == ["a"]
        assert column(database_url, "attempts") == [attempts, 0, 0]
        assert column(database_url, "sending_since") == [None] * 3
    back = Recorder(lambda _: next(answers))
    answers = iter([Result.UNAVAILABLE, *[Result.SENT] * 3])
    monkeypatch.setattr(destination, "PAUSE_SECONDS", 0.0)
    let_time_pass(database_url)
    with relay_to(database_url, bus=back) as relay:
        for _ in range(2):
            relay.sweep(5)
    assert sorted(back.bodies) == ["a", "b", "c"]
    assert [m.body for m in back.sent if m.is_doubtful] == ["a"] * attempts


def test_a_deferred_event_is_tried_for_ever_about_once_a_minute(
    database_url: str,
) -> None:
    """A notification is owed until it is taken, however long that is."""
    bus = Recorder(lambda m: Result.DEFERRED if m.body == "a" else Result.SENT)
    owe(database_url, 4, "a", "later")
    owe(database_url, 5, "other")
    execute(database_url, "UPDATE outbox SET attempts = 10000 WHERE body = 'a'")
    with relay_to(database_url, bus=bus) as relay:
        assert relay.sweep(5) == {"deferred": 1, "sent": 1, "not tried": 1}
    assert bus.bodies == ["other"]
    assert column(database_url, "id", "dead_letters") == []
    assert column(database_url, "sending_since") == [None, None]
    wait = "SELECT extract(epoch FROM available_at - now()) FROM outbox ORDER BY id"
    [[seconds], _] = execute(database_url, wait)
    assert 20 < float(str(seconds)) <= 60


def test_who_waited_for_a_destination_in_vain_does_not_try_it_again(
    database_url: str,
) -> None:
    """Requests at the same moment must not each wait for a broker that is gone."""
    is_trying, may_fail = threading.Event(), threading.Event()

    def answer(_: Message) -> Result:
        is_trying.set()
        may_fail.wait(10)
        return Result.UNAVAILABLE

    bus = Recorder(answer)
    for order_id in range(1, 6):
        owe(database_url, order_id, str(order_id))
    with relay_to(database_url, bus=bus) as relay:
        first = threading.Thread(target=hand_over, args=[relay, 1])
        first.start()
        assert is_trying.wait(10)
        rest = [threading.Thread(target=hand_over, args=[relay, n]) for n in (2, 3, 4)]
        for thread in rest:
            thread.start()
        waiting = relay._destinations["bus"]._queue
        while len(waiting) < len(rest):
            assert first.is_alive()
        may_fail.set()
        for thread in [first, *rest]:
            thread.join()
    assert len(bus.tried) == 1
    assert column(database_url, "attempts") == [0] * 5
    assert column(database_url, "sending_since") == [None] * 5


class Broken:
    """A publisher that breaks its promise never to raise."""

    def publish(self, messages: Sequence[Message], deadline: float) -> list[Outcome]:
        raise RuntimeError(f"{len(messages)} lost, {deadline} passed")

    def close(self) -> None:
        """Nothing is open."""


def test_a_publisher_that_raises_loses_nothing_and_harms_no_other_destination(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    well = Recorder()
    owe(database_url, 4, "a", to="broken")
    owe(database_url, 4, "b", to="well")
    with relay_to(database_url, broken=Broken(), well=well) as relay:
        hand_over(relay, 4)
    assert well.bodies == ["b"]
    assert pending(database_url) == ["a"]
    assert column(database_url, "attempts") == [1]
    assert "ERROR" in [r.levelname for r in caplog.records]
    mended = Recorder()
    let_time_pass(database_url)
    with relay_to(database_url, broken=mended) as relay:
        relay.sweep(5)
    assert [(m.body, m.is_doubtful) for m in mended.sent] == [("a", True)]


def test_what_was_sent_but_not_noted_is_sent_again_under_the_same_id(
    database_url: str,
) -> None:
    owe(database_url, 4, "a", "b")
    ids = [str(event_id) for event_id in column(database_url, "event_id")]
    with link_to(database_url) as link:

        def answer(message: Message) -> Result:
            if message.body == "b":
                link.refuse()  # the outcome cannot be written down
            return Result.SENT

        bus = Recorder(answer)
        with relay_to(link.through(database_url), bus=bus) as relay:
            hand_over(relay, 4)
            with pytest.raises(DatabaseUnavailableError):
                relay.sweep(1)
            link.restore()
            relay.sweep(1)
            assert bus.bodies == ["a", "b"], "it is claimed still"
            let_time_pass(database_url)
            bus.answer = lambda _: Result.SENT
            relay.sweep(1)
    assert bus.bodies == ["a", "b", "a", "b"]
    assert [m.event_id for m in bus.sent] == ids * 2
    assert [m.is_doubtful for m in bus.sent] == [False, False, True, True]
    assert pending(database_url) == []


def test_a_relay_that_slept_through_its_claim_does_not_undo_anothers(
    database_url: str,
) -> None:
    """A frozen instance wakes up with an outcome while somebody else is sending."""
    owe(database_url, 4, "a")
    other = Recorder(lambda _: Result.UNCONFIRMED)

    def oversleep(_: Message) -> Result:
        let_time_pass(database_url)
        with relay_to(database_url, bus=other) as available:
            hand_over(available, 4)
        return Result.REFUSED

    with relay_to(database_url, bus=Recorder(oversleep)) as relay:
        hand_over(relay, 4)
    assert column(database_url, "attempts") == [2]
    assert column(database_url, "doubts") == [2], "a doubt is forgotten"
    assert len(other.tried) == 1


@pytest.mark.parametrize("event_type", [CREATED, "order.item.created"])
def test_a_doubtful_event_is_sent_again_by_default(
    database_url: str, event_type: str
) -> None:
    bus = Recorder(lambda m: Result.SENT if m.is_doubtful else Result.UNCONFIRMED)
    owe(database_url, 4, "a", event_type=event_type)
    with relay_to(database_url, bus=bus) as relay:
        hand_over(relay, 4)
    let_time_pass(database_url)
    with relay_to(database_url, bus=bus) as relay:
        relay.sweep(5)
    assert [m.event_id for m in bus.tried] == [bus.tried[0].event_id] * 2
    assert bus.bodies == ["a"]


def test_a_doubtful_order_created_can_be_held_for_an_operator(
    database_url: str,
) -> None:
    owe(database_url, 4, "created", event_type=CREATED)
    owe(database_url, 4, "later")
    owe(database_url, 5, "other", event_type=CREATED)
    owe(database_url, 6, "item", event_type="order.item.created")
    bus = Recorder()
    # What is in no doubt is not held, nor another event that is.
    execute(
        database_url,
        "UPDATE outbox SET doubts = 1, attempts = 1 WHERE body IN ('created', 'item')",
    )
    with relay_to(database_url, bus=bus, hold_doubtful_order_created=True) as relay:
        for _ in range(3):
            relay.sweep(5)
            let_time_pass(database_url)
        assert sorted(bus.bodies) == ["item", "other"]
        assert column(database_url, "held_since") != [None, None]
        assert column(database_url, "attempts") == [1, 0]
        release = "UPDATE outbox SET held_since = NULL, is_resend = true"
        execute(database_url, release)
        relay.sweep(5)
    assert bus.bodies[2:] == ["created", "later"]


def test_what_was_sent_is_written_down_however_long_a_connection_takes(
    database_url: str,
) -> None:
    """Nobody else may take it for an attempt of which nobody knows how it ended."""
    owe(database_url, 4, "first")
    is_held = threading.Event()

    def keep(engine: Engine) -> None:
        with engine.connect():
            is_held.set()
            time.sleep(POOL_TIMEOUT_SECONDS + 0.5)

    with engine_on(database_url, pool_size=1) as engine, ThreadPoolExecutor(1) as pool:

        def send(_: Message) -> Result:
            pool.submit(keep, engine)
            assert is_held.wait(10)
            return Result.SENT

        hand_over(Relay(engine, {"bus": Recorder(send)}), 4)
    assert pending(database_url) == []
