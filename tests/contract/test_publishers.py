"""What every publisher promises, whatever kind of destination is behind it.

What is special to one kind is in `tests/integration`; what a kind of destination cannot
show is in `GAPS`.
"""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from common.publishing.publisher import Message, Publisher, Result
from tests.support import destinations, pubsub_destinations, pubsub_emulator
from tests.support.destinations import Destination
from tests.support.factories import message
from tests.support.link import LOOPBACK

CREATED, ITEM = "order.created", "order.item.created"
STATUS, APPROVED = "order.item.status.updated", "order.approved"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SENT, REFUSED, NOT_TRIED = Result.SENT, Result.REFUSED, Result.NOT_TRIED
UNCONFIRMED, UNAVAILABLE = Result.UNCONFIRMED, Result.UNAVAILABLE
EMULATOR = "pubsub_emulator"  # not every machine has it
OPEN: dict[str, Any] = {  # and the fixtures that it takes
    "rabbitmq": (destinations.rabbitmq, "rabbitmq_server", "rabbitmq_channel"),
    "pubsub": (pubsub_destinations.pubsub,),
    EMULATOR: (pubsub_destinations.pubsub_emulator, "emulator"),
    "http": (destinations.http,),
}


_ONE_BY_ONE = "A request carries one event, and the next waits for its answer."
_TAKES_ALL = "The emulator has no way to refuse a well-formed event."
# The test's name and the destination: why it cannot be shown there.
GAPS = {
    ("test_different_orders_do_not_wait_for_each_other", "http"): _ONE_BY_ONE,
    ("test_a_refused_event_holds_back_its_own_order_only", EMULATOR): _TAKES_ALL,
    ("test_what_was_refused_goes_out_once_it_is_taken", EMULATOR): _TAKES_ALL,
}


@pytest.fixture(scope="module")
def emulator() -> Iterator[pubsub_emulator.Emulator]:
    try:
        pubsub_emulator.emulator_program()
    except pubsub_emulator.NoEmulatorError as error:
        pytest.skip(str(error))
    with pubsub_emulator.running_emulator() as running:
        yield running


@pytest.fixture(params=OPEN)
def destination(request: pytest.FixtureRequest) -> Iterator[Destination]:
    if gap := GAPS.get((request.function.__name__, request.param)):
        request.applymarker(pytest.mark.xfail(reason=gap))  # a gap that closed fails
    open_, *fixtures = OPEN[request.param]
    with open_(*map(request.getfixturevalue, fixtures)) as opened:
        yield opened


@pytest.fixture
def publisher(destination: Destination) -> Iterator[Publisher]:
    made = destination.publisher()
    yield made
    made.close()


def event(number: int, order_id: int = 4, event_type: str = STATUS) -> Message:
    """Return outbox row `number`; its id and its body say the number, too."""
    return message(
        id=number,
        order_id=order_id,
        type=event_type,
        event_id=f"e-{number}",
        body=f'{{"number":{number}}}',
    )


def send(publisher: Publisher, *messages: Message, seconds: float = 20) -> list[Result]:
    """Publish, see that each message has its outcome, and answer how each ended."""
    outcomes = publisher.publish(messages, time.monotonic() + seconds)
    assert [outcome.id for outcome in outcomes] == [m.id for m in messages]
    return [outcome.result for outcome in outcomes]


def ids(destination: Destination, count: int) -> list[str]:
    """Return the ids of all that arrived, which is `count` events."""
    return [each.id for each in destination.arrived(count)]


# What arrives.


def test_a_body_arrives_to_the_byte(
    publisher: Publisher, destination: Destination
) -> None:
    body = '{"name":"Größe 4 \\u00e9 ☃"' + " " * 300_000 + "}"
    assert send(publisher, message(body=body)) == [SENT]
    [came] = destination.arrived(1)
    assert came.body == body.encode()


def test_an_event_says_what_it_is(
    publisher: Publisher, destination: Destination
) -> None:
    sent = message(order_id=7, type=CREATED, traceparent=TRACE)
    assert send(publisher, sent) == [SENT]
    assert send(publisher, message(id=2, order_id=7, traceparent=None)) == [SENT]
    came, other = destination.arrived(2)
    assert other.traceparent is None
    assert came.cloud_event == {
        "specversion": "1.0",
        "id": sent.event_id,
        "type": CREATED,
        "source": "/order-service",
        "subject": "7",
        "time": "2025-12-01T10:00:00+00:00",
    }
    assert came.content_type == "application/json"
    assert came.traceparent == TRACE


def test_a_resend_has_the_same_id(
    publisher: Publisher, destination: Destination
) -> None:
    send(publisher, event(1))
    send(publisher, message(id=1, event_id="e-1", attempts=2, is_doubtful=True))
    assert ids(destination, 2) == ["e-1", "e-1"]


# In which order.


def test_one_orders_events_arrive_in_their_order(
    publisher: Publisher, destination: Destination
) -> None:
    types = [ITEM, ITEM, ITEM, CREATED, STATUS, STATUS, STATUS, APPROVED]
    batch = [event(n, event_type=each) for n, each in enumerate(types)]
    assert set(send(publisher, *batch)) == {SENT}
    assert ids(destination, 8) == [each.event_id for each in batch]


def test_a_hundred_orders_at_once(
    publisher: Publisher, destination: Destination
) -> None:
    batch = [event(n, order_id=1 + n % 100) for n in range(800)]
    for begin in range(0, 800, 200):  # as many as the relay claims at once
        assert set(send(publisher, *batch[begin : begin + 200], seconds=60)) == {SENT}
    came = [int(name.removeprefix("e-")) for name in ids(destination, 800)]
    for rest in range(100):
        assert [n for n in came if n % 100 == rest] == [*range(rest, 800, 100)]


def test_different_orders_do_not_wait_for_each_other(
    publisher: Publisher, destination: Destination
) -> None:
    send(publisher, event(1))
    destination.link.is_mute = True
    orders = [event(n, order_id=n) for n in (2, 3, 4)]
    assert send(publisher, *orders, seconds=1.5) == [UNCONFIRMED] * 3
    assert sorted(ids(destination, 4)) == ["e-1", "e-2", "e-3", "e-4"]


# What is refused.


def test_a_refused_event_holds_back_its_own_order_only(
    publisher: Publisher, destination: Destination
) -> None:
    destination.refuse(APPROVED)
    batch = [
        event(1, 4, STATUS),
        event(2, 4, APPROVED),
        event(3, 5, STATUS),
        event(4, 4, STATUS),
        event(5, 5, STATUS),
    ]
    assert send(publisher, *batch) == [SENT, REFUSED, SENT, NOT_TRIED, SENT]
    came = destination.arrived(3)
    assert [each.id for each in came if each.order_id == 4] == ["e-1"]
    assert [each.id for each in came if each.order_id == 5] == ["e-3", "e-5"]


def test_what_was_refused_goes_out_once_it_is_taken(
    publisher: Publisher, destination: Destination
) -> None:
    destination.refuse(APPROVED)
    batch = [event(1, 4, APPROVED), event(2, 4, STATUS)]
    assert send(publisher, *batch) == [REFUSED, NOT_TRIED]
    destination.accept()
    assert send(publisher, *batch) == [SENT, SENT]
    assert ids(destination, 2) == ["e-1", "e-2"]


# Who is away.


def test_a_reason_is_one_line_and_names_no_host(
    publisher: Publisher, destination: Destination
) -> None:
    destination.link.refuse()
    outcomes = publisher.publish([event(1)], time.monotonic() + 20)
    destination.link.restore()
    destination.link.is_mute = True
    outcomes += publisher.publish([event(1)], time.monotonic() + 1.5)
    for reason in (outcome.reason for outcome in outcomes):
        assert reason
        assert not [part for part in ("\n", LOOPBACK, "localhost") if part in reason]


def test_a_destination_that_goes_away_is_unavailable_and_comes_back(
    publisher: Publisher, destination: Destination
) -> None:
    destination.link.refuse()
    orders = [event(n, order_id=n) for n in (7, 8, 9)]
    assert send(publisher, *orders) == [UNAVAILABLE, NOT_TRIED, NOT_TRIED]
    destination.link.restore()
    assert send(publisher, event(1)) == [SENT]
    destination.link.refuse()
    destination.link.wait_until_quiet()
    for _ in range(3):
        assert send(publisher, event(2), event(3, 5)) == [UNAVAILABLE, NOT_TRIED]
    destination.link.restore()
    assert send(publisher, event(2), event(3, 5)) == [SENT, SENT]
    assert sorted(ids(destination, 3)) == ["e-1", "e-2", "e-3"]


def test_a_destination_that_says_nothing_costs_bounded_time(
    publisher: Publisher, destination: Destination
) -> None:
    destination.link.is_mute = True
    began = time.monotonic()
    assert send(publisher, event(1))[0] in (UNAVAILABLE, UNCONFIRMED)
    assert time.monotonic() - began < 10
    destination.link.restore()
    assert send(publisher, event(1)) == [SENT]


# What is in doubt.


def test_an_answer_that_is_withheld_leaves_doubt_within_the_deadline(
    publisher: Publisher, destination: Destination
) -> None:
    send(publisher, event(1))
    destination.link.is_mute = True
    began = time.monotonic()
    results = send(publisher, event(2), event(3, event_type=APPROVED), seconds=1.5)
    assert results == [UNCONFIRMED, NOT_TRIED]
    assert time.monotonic() - began < 4
    assert ids(destination, 2) == ["e-1", "e-2"]


def test_late_confirms_are_not_taken_for_later_events(
    publisher: Publisher, destination: Destination
) -> None:
    send(publisher, event(1))
    destination.link.is_mute = True
    assert send(publisher, event(2), seconds=1) == [UNCONFIRMED]
    destination.link.restore()
    assert send(publisher, event(2), event(3)) == [SENT, SENT]
    assert ids(destination, 4) == ["e-1", "e-2", "e-2", "e-3"]


def test_a_link_cut_in_mid_publish_leaves_doubt_and_the_next_publish_works(
    publisher: Publisher, destination: Destination
) -> None:
    send(publisher, event(1))
    destination.link.is_mute = True
    cut = threading.Timer(0.3, destination.link.cut)
    cut.start()
    began = time.monotonic()
    assert send(publisher, event(2), event(3)) == [UNCONFIRMED, NOT_TRIED]
    assert time.monotonic() - began < 4
    cut.join()
    destination.link.restore()
    assert send(publisher, event(2), event(3)) == [SENT, SENT]
    assert ids(destination, 4) == ["e-1", "e-2", "e-2", "e-3"]


# Connections and time.


def test_after_the_deadline_nothing_is_tried(
    publisher: Publisher, destination: Destination
) -> None:
    assert send(publisher, event(1), seconds=-1) == [NOT_TRIED]
    assert send(publisher, event(1), seconds=0.1) == [NOT_TRIED]
    assert send(publisher, event(2)) == [SENT]
    assert send(publisher, event(3), seconds=0.1) == [NOT_TRIED]
    assert ids(destination, 1) == ["e-2"]


def test_one_connection_serves_many_publishes(
    publisher: Publisher, destination: Destination
) -> None:
    for number in range(5):
        assert send(publisher, event(number)) == [SENT]
    assert destination.link.attempts == 1


def test_an_idle_link_that_was_cut_is_opened_again_unnoticed(
    publisher: Publisher, destination: Destination
) -> None:
    send(publisher, event(1))
    destination.link.cut()
    destination.link.wait_until_quiet()
    assert send(publisher, event(2)) == [SENT]
    assert ids(destination, 2) == ["e-1", "e-2"]


def test_a_publisher_that_was_closed_publishes_again(
    publisher: Publisher, destination: Destination
) -> None:
    assert send(publisher, event(1)) == [SENT]
    publisher.close()
    publisher.close()
    destination.link.wait_until_quiet()
    assert send(publisher, event(2)) == [SENT]
    assert ids(destination, 2) == ["e-1", "e-2"]
