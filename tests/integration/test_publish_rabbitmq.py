"""Publishing to a real RabbitMQ: what consumers get, and connections that fail.

What every publisher promises is in `tests/contract/test_publishers.py`.
"""

import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter

from common import failpoints
from common.config.endpoints import RabbitMQ
from common.publishing.publisher import Message, Result
from common.publishing.rabbitmq import RabbitMQPublisher
from tests.support.factories import message
from tests.support.link import LOOPBACK, Link, link_to
from tests.support.rabbitmq import EXCHANGE, Broker

CREATED, ITEM = "order.created", "order.item.created"
STATUS = "order.item.status.updated"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FDS = Path("/proc/self/fd")
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

    def make(port: int, host: str = LOOPBACK, **changes: str) -> RabbitMQPublisher:
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


def publish(publisher: RabbitMQPublisher, *messages: Message) -> list[Result]:
    outcomes = publisher.publish(messages, time.monotonic() + 10)
    return [outcome.result for outcome in outcomes]


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


def take(channel: BlockingChannel, queue: str) -> list[tuple[Any, Any, bytes]]:
    """Take everything out of a queue: delivery, properties, body of each."""
    taken = []
    while True:
        delivery, properties, body = channel.basic_get(queue, auto_ack=True)
        if delivery is None:
            return taken
        taken.append((delivery, properties, body))


def bodies(channel: BlockingChannel) -> list[str]:
    return [body.decode() for *_, body in take(channel, "product_events")]


# What consumers get.


def test_a_message_is_what_its_consumers_expect_to_the_letter(
    publisher: RabbitMQPublisher, rabbitmq_channel: BlockingChannel
) -> None:
    body = '{"event":"order.created","name":"Größe"}'
    created_at = datetime(2025, 12, 1, 10, 0, 0, 58493, tzinfo=UTC)
    sent = message(
        type=CREATED, body=body, order_id=7, traceparent=TRACE, created_at=created_at
    )
    assert publish(publisher, sent) == [Result.SENT]
    [(delivery, properties, received)] = take(rabbitmq_channel, "product_events")
    assert received == body.encode()
    assert (delivery.exchange, delivery.routing_key) == (EXCHANGE, CREATED)
    assert properties.delivery_mode == 2
    assert properties.content_type == "application/json"
    assert properties.content_encoding == "utf-8"
    assert properties.message_id == sent.event_id
    assert properties.timestamp == int(created_at.timestamp())
    assert properties.type == CREATED
    assert properties.app_id == "order-service"
    assert properties.headers == {
        "traceparent": TRACE,
        "cloudEvents:specversion": "1.0",
        "cloudEvents:id": sent.event_id,
        "cloudEvents:type": CREATED,
        "cloudEvents:source": "/order-service",
        "cloudEvents:subject": "7",
        "cloudEvents:time": "2025-12-01T10:00:00.058493+00:00",
    }


@pytest.mark.parametrize(
    ("event_type", "queues", "result"),
    [
        (CREATED, ["product_events", "shopcart_events"], Result.UNROUTABLE),
        (ITEM, ["shop_order_items_queue"], Result.UNROUTABLE),
        (STATUS, [], Result.SENT),
        ("order.approved", [], Result.SENT),
        ("order.deleted", [], Result.SENT),
    ],
)
def test_nobody_listening_is_reported_where_somebody_should(
    publisher: RabbitMQPublisher,
    rabbitmq_channel: BlockingChannel,
    event_type: str,
    queues: list[str],
    result: Result,
) -> None:
    for queue in queues:
        rabbitmq_channel.queue_unbind(queue, EXCHANGE, event_type)
    other = message(id=2, order_id=2, type="order.deleted", event_id="other")
    assert publish(publisher, message(type=event_type), other) == [result, Result.SENT]
    for queue in queues:
        rabbitmq_channel.queue_bind(queue, EXCHANGE, event_type)
    again = message(type=event_type, event_id="e0000000-0000-4000-8000-00000000000f")
    assert publish(publisher, again) == [Result.SENT]


# Connections that fail.


def test_a_channel_that_the_broker_closed_is_in_doubt_and_then_opened_again(
    publisher: RabbitMQPublisher, rabbitmq_channel: BlockingChannel
) -> None:
    """Nobody should delete the exchange; who does, costs nothing but time."""
    send(publisher, "a")
    rabbitmq_channel.exchange_delete(EXCHANGE)
    assert send(publisher, "b") == [Result.UNCONFIRMED]
    assert send(publisher, "c", type="order.approved") == [Result.SENT]


def test_a_broker_without_a_name_or_a_listener_is_unavailable_at_once(
    make_publisher: MakePublisher,
) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
    for to in (make_publisher(port), make_publisher(5672, host="broker.invalid")):
        began = time.monotonic()
        assert send(to, "a", "b") == [Result.UNAVAILABLE, Result.NOT_TRIED]
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_a_broker_that_hangs_up_is_unavailable_and_found_again(
    link: Link,
    make_publisher: MakePublisher,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
) -> None:
    """It may hang up before pika has looked."""
    connect = SelectorIOServicesAdapter.connect_socket

    def connect_and_look_late(
        services: SelectorIOServicesAdapter,
        sock: socket.socket,
        address: tuple[str, int],
        on_done: Callable[[object], None],
    ) -> object:
        def late(error: object) -> None:
            time.sleep(seconds)
            on_done(error)

        return connect(services, sock, address, late)

    monkeypatch.setattr(
        SelectorIOServicesAdapter, "connect_socket", connect_and_look_late
    )
    link.is_hanging_up = True
    publisher = make_publisher(link.port)
    assert send(publisher, "a") == [Result.UNAVAILABLE]
    link.restore()
    assert send(publisher, "a") == [Result.SENT]


@pytest.mark.parametrize(("seconds", "at_most"), [(0.25, 3), (0.75, 3), (10, 6)])
def test_a_broker_that_says_nothing_costs_no_more_than_the_time_there_is(
    make_publisher: MakePublisher, seconds: float, at_most: float
) -> None:
    with socket.create_server((LOOPBACK, 0)) as silent:
        publisher = make_publisher(silent.getsockname()[1])
        began = time.monotonic()
        assert send(publisher, "a", seconds=seconds) == [Result.UNAVAILABLE]
        assert min(seconds, 2) <= time.monotonic() - began < at_most


def test_with_little_time_a_connection_is_opened_and_kept_and_nothing_sent(
    publisher: RabbitMQPublisher, link: Link, rabbitmq_channel: BlockingChannel
) -> None:
    assert send(publisher, "a", "b", seconds=0.45) == [Result.NOT_TRIED] * 2
    assert send(publisher, "c", seconds=0.45) == [Result.NOT_TRIED]
    assert bodies(rabbitmq_channel) == []
    assert send(publisher, "d") == [Result.SENT]
    assert link.attempts == 1


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


counts_descriptors = pytest.mark.skipif(
    not FDS.exists(), reason="counts what /proc/self/fd shows"
)


def open_descriptors() -> int:
    return len(list(FDS.iterdir()))


@counts_descriptors
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
    before = open_descriptors()
    for _ in range(3):
        lose_it_each_way()
    deadline = time.monotonic() + 10  # the link's threads close theirs when they can
    while open_descriptors() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert open_descriptors() <= before


@counts_descriptors
def test_fifty_attempts_to_reach_a_mute_broker_leak_no_descriptor(
    make_publisher: MakePublisher,
) -> None:
    with socket.create_server((LOOPBACK, 0), backlog=64) as silent:
        publisher = make_publisher(silent.getsockname()[1])
        before = open_descriptors()
        for _ in range(50):
            assert send(publisher, "a", seconds=0.02) == [Result.UNAVAILABLE]
            assert open_descriptors() == before
