"""The link to RabbitMQ: cut, closed, mute, absent; bounded waits and nothing leaked."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnector

from common import failpoints
from common.endpoints import RabbitMQ
from common.publishing import Result
from common.publishing.rabbitmq import RabbitMQPublisher
from tests.support.factories import message
from tests.support.link import Link, link_to
from tests.support.rabbitmq import EXCHANGE, Broker

FDS = Path("/proc/self/fd")
CREATED = "order.created"
MakePublisher = Callable[..., RabbitMQPublisher]


@pytest.fixture
def link(
    rabbitmq_server: Broker,
    rabbitmq_channel: BlockingChannel,  # noqa: ARG001 clean queues
) -> Iterator[Link]:
    with link_to(rabbitmq_server.port) as link:
        yield link


@pytest.fixture
def make_publisher(rabbitmq_server: Broker) -> Iterator[MakePublisher]:
    made = []

    def make(port: int, host: str = "127.0.0.1", **changes: str) -> RabbitMQPublisher:
        login = {
            "user": rabbitmq_server.user,
            "password": rabbitmq_server.password,
            "vhost": rabbitmq_server.vhost,
        }
        broker = RabbitMQ(host=host, port=port, **(login | changes))
        made.append(RabbitMQPublisher(broker))
        return made[-1]

    yield make
    for publisher in made:
        publisher.close()


@pytest.fixture
def publisher(link: Link, make_publisher: MakePublisher) -> RabbitMQPublisher:
    return make_publisher(link.port)


def send(
    publisher: RabbitMQPublisher, *ids: str, seconds: float = 10, **changes: object
) -> list[Result]:
    """Publish an `order.created` of an order of its own for each id."""
    batch = [
        message(
            id=n,
            order_id=n,
            **({"type": CREATED, "event_id": each, "body": each} | changes),
        )
        for n, each in enumerate(ids, start=1)
    ]
    return [o.result for o in publisher.publish(batch, time.monotonic() + seconds)]


def bodies(channel: BlockingChannel) -> list[str]:
    taken = []
    while True:
        delivery, _, body = channel.basic_get("product_events", auto_ack=True)
        if delivery is None:
            return taken
        taken.append(body.decode())


def test_one_connection_serves_many_publishes(
    publisher: RabbitMQPublisher, link: Link
) -> None:
    for name in "abc":
        assert send(publisher, name) == [Result.SENT]
    assert link.attempts == 1


def test_a_link_that_was_cut_while_idle_is_opened_again_unnoticed(
    publisher: RabbitMQPublisher, link: Link, rabbitmq_channel: BlockingChannel
) -> None:
    send(publisher, "a")
    link.cut()
    link.wait_until_quiet()
    assert send(publisher, "b") == [Result.SENT]
    assert bodies(rabbitmq_channel) == ["a", "b"]
    assert link.attempts == 2


def test_a_channel_that_the_broker_closed_is_in_doubt_and_then_opened_again(
    publisher: RabbitMQPublisher, rabbitmq_channel: BlockingChannel
) -> None:
    """Nobody should delete the exchange; who does, costs nothing but time."""
    send(publisher, "a")
    rabbitmq_channel.exchange_delete(EXCHANGE)
    assert send(publisher, "b") == [Result.UNCONFIRMED]
    assert send(publisher, "c", type="order.approved") == [Result.SENT]


def test_a_link_that_dies_while_a_batch_is_on_its_way_leaves_it_in_doubt(
    publisher: RabbitMQPublisher, link: Link
) -> None:
    send(publisher, "a")
    link.is_mute = True
    link.target = 1  # nobody is there afterwards

    def cut_when_it_is_out() -> None:
        time.sleep(0.3)
        link.cut()

    link._start(cut_when_it_is_out)
    began = time.monotonic()
    assert send(publisher, "b", "c") == [Result.UNCONFIRMED] * 2
    assert time.monotonic() - began < 5


def test_withheld_confirms_are_in_doubt_within_the_bound_and_not_taken_for_later_ones(
    publisher: RabbitMQPublisher, link: Link, rabbitmq_channel: BlockingChannel
) -> None:
    send(publisher, "a")
    link.is_mute = True
    began = time.monotonic()
    assert send(publisher, "b", "c", seconds=1) == [Result.UNCONFIRMED] * 2
    assert time.monotonic() - began < 5
    link.restore()
    assert send(publisher, "b", "c") == [Result.SENT] * 2
    assert sorted(bodies(rabbitmq_channel)) == ["a", "b", "b", "c", "c"]
    assert link.attempts == 2, "a link that may be dead was kept"


def test_what_follows_an_event_in_doubt_is_not_tried(
    publisher: RabbitMQPublisher, link: Link
) -> None:
    send(publisher, "a")
    link.is_mute = True
    batch = [
        message(id=1, type="order.item.created", event_id="x"),
        message(id=2, type=CREATED, event_id="y"),
    ]
    outcomes = publisher.publish(batch, time.monotonic() + 1)
    assert [o.result for o in outcomes] == [Result.UNCONFIRMED, Result.NOT_TRIED]


def test_a_broker_that_refuses_connections_is_unavailable_at_once(
    make_publisher: MakePublisher,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    began = time.monotonic()
    results = send(make_publisher(port), "a", "b")
    assert results == [Result.UNAVAILABLE, Result.NOT_TRIED]
    assert time.monotonic() - began < 1.5


def test_a_broker_that_hangs_up_or_has_no_name_is_unavailable(
    link: Link, make_publisher: MakePublisher
) -> None:
    link.is_hanging_up = True
    assert send(make_publisher(link.port), "a") == [Result.UNAVAILABLE]
    assert send(make_publisher(5672, host="broker.invalid"), "a") == [
        Result.UNAVAILABLE
    ]


def test_a_broker_that_hangs_up_before_pika_has_looked_is_unavailable(
    link: Link, make_publisher: MakePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = AMQPConnector._on_tcp_connection_done

    def look_late(connector: AMQPConnector, error: object) -> None:
        time.sleep(0.2)
        connected(connector, error)

    monkeypatch.setattr(AMQPConnector, "_on_tcp_connection_done", look_late)
    link.is_hanging_up = True
    publisher = make_publisher(link.port)
    assert send(publisher, "a") == [Result.UNAVAILABLE]
    link.restore()
    assert send(publisher, "a") == [Result.SENT]


def test_a_wrong_password_is_unavailable_and_not_told(
    link: Link, make_publisher: MakePublisher
) -> None:
    publisher = make_publisher(link.port, password="hush-hush")
    [outcome] = publisher.publish([message()], time.monotonic() + 5)
    assert outcome.result is Result.UNAVAILABLE
    assert "hush" not in (outcome.reason or "")


def test_a_broker_that_says_nothing_is_unavailable_within_the_bound(
    make_publisher: MakePublisher,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        publisher = make_publisher(silent.getsockname()[1])
        began = time.monotonic()
        assert send(publisher, "a") == [Result.UNAVAILABLE]
        assert time.monotonic() - began < 6


@pytest.mark.parametrize("seconds", [0.25, 0.75])
def test_a_broker_that_says_nothing_costs_no_more_than_the_time_there_is(
    make_publisher: MakePublisher, seconds: float
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        publisher = make_publisher(silent.getsockname()[1])
        began = time.monotonic()
        assert send(publisher, "a", seconds=seconds) == [Result.UNAVAILABLE]
        assert seconds <= time.monotonic() - began < seconds + 1


def test_with_little_time_the_link_is_opened_and_kept_and_nothing_sent(
    publisher: RabbitMQPublisher, link: Link, rabbitmq_channel: BlockingChannel
) -> None:
    assert send(publisher, "a", "b", seconds=0.45) == [Result.NOT_TRIED] * 2
    assert send(publisher, "c", seconds=0.45) == [Result.NOT_TRIED]
    assert bodies(rabbitmq_channel) == []
    assert send(publisher, "d") == [Result.SENT]
    assert link.attempts == 1


def test_without_any_time_nobody_is_even_called(
    publisher: RabbitMQPublisher, link: Link
) -> None:
    assert send(publisher, "a", seconds=-1) == [Result.NOT_TRIED]
    assert link.attempts == 0


@pytest.fixture
def passed() -> Iterator[list[str]]:
    """The failpoints that were passed so far."""
    names: list[str] = []
    failpoints.arm(names.append)
    yield names
    failpoints.arm(None)


def test_each_wave_passes_its_failpoints_once_and_in_order(
    publisher: RabbitMQPublisher, passed: list[str]
) -> None:
    batch = [
        message(id=n, type=each, event_id=str(n))
        for n, each in enumerate(["order.item.created"] * 2 + [CREATED])
    ]
    publisher.publish(batch, time.monotonic() + 10)
    wave = [
        f"{step} rabbitmq {moment}"
        for step in ("publish", "confirm")
        for moment in ("before", "after")
    ]
    assert passed == wave * 2
    assert set(passed) <= failpoints.NAMES


@pytest.mark.parametrize(
    ("point", "arrives"),
    [
        ("publish rabbitmq before", False),
        ("publish rabbitmq after", True),
        ("confirm rabbitmq before", True),
        ("confirm rabbitmq after", True),
    ],
)
def test_what_is_published_has_left_the_process_when_its_failpoint_says_so(
    publisher: RabbitMQPublisher,
    rabbitmq_channel: BlockingChannel,
    point: str,
    *,
    arrives: bool,
) -> None:
    """The hook is as far as a process gets that is killed there."""
    send(publisher, "a")
    assert bodies(rabbitmq_channel) == ["a"]
    seen: list[list[str]] = []

    def look(name: str) -> None:
        if name == point:
            time.sleep(0.3)  # the link's own threads are no part of the process
            seen.append(bodies(rabbitmq_channel))

    failpoints.arm(look)
    try:
        send(publisher, "b", body="b" * 200_000)
    finally:
        failpoints.arm(None)
    assert seen == [["b" * 200_000] if arrives else []]


@pytest.mark.skipif(not FDS.exists(), reason="counts what /proc/self/fd shows")
def test_no_way_to_lose_the_broker_leaks_a_descriptor(
    publisher: RabbitMQPublisher, link: Link, make_publisher: MakePublisher
) -> None:
    def lose_it_each_way() -> None:
        link.restore()
        assert send(publisher, "a") == [Result.SENT]
        link.cut()
        assert send(publisher, "a") == [Result.SENT]
        link.is_mute = True
        send(publisher, "a", seconds=0.6)
        link.is_mute, link.is_hanging_up = False, True
        send(publisher, "a")
        link.restore()
        send(make_publisher(link.port, password="wrong"), "a")
        link.cut()
        link.wait_until_quiet()

    lose_it_each_way()
    before = len(list(FDS.iterdir()))
    for _ in range(3):
        lose_it_each_way()
    deadline = (
        time.monotonic() + 10
    )  # the link's own threads close theirs when they can
    while len(list(FDS.iterdir())) > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(list(FDS.iterdir())) <= before
