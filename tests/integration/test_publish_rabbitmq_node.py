"""A broker in trouble: short of memory, restarted, killed, closing connections.

The node is this run's own; the machine's would take other tests down with it.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from common.config.settings import load
from common.publishing.publisher import Message, Outcome, Result
from common.publishing.rabbitmq import BLOCKED, RabbitMQPublisher
from tests.support.factories import message
from tests.support.link import Link, link_to
from tests.support.rabbitmq import EXCHANGE, clean_topology
from tests.support.rabbitmq_node import OwnBroker
from tests.support.tls import identity, tls_to

SPY = "spy"  # a durable queue that gets every event
PLENTY = 10.0
WATERMARK = "vm_memory_monitor:set_vm_memory_high_watermark(%s)"
HEARTBEAT = "application:set_env(rabbit, heartbeat, %d)"
BYE = '[rabbit_networking:close_connection(C, "bye") || C <- {}]'.format(
    "rabbit_networking:connections()"
)


@pytest.fixture
def node(own_rabbitmq: OwnBroker) -> OwnBroker:
    """The node with the platform's queues, all empty, and the spy's."""
    with clean_topology(own_rabbitmq.broker) as channel:
        channel.queue_declare(SPY, durable=True)
        channel.queue_bind(SPY, EXCHANGE, "#")
        channel.queue_purge(SPY)
    return own_rabbitmq


@contextmanager
def publisher_to(node: OwnBroker, **settings: str) -> Iterator[RabbitMQPublisher]:
    broker = load(node.environ | settings, needs=()).rabbitmq
    assert broker
    publisher = RabbitMQPublisher(broker)
    yield publisher
    publisher.close()


@pytest.fixture
def publisher(node: OwnBroker) -> Iterator[RabbitMQPublisher]:
    with publisher_to(node) as publisher:
        yield publisher


@contextmanager
def shortage(node: OwnBroker) -> Iterator[None]:
    """Let the node believe that it has no memory left."""
    node.tell(WATERMARK % "{absolute, 1}")
    try:
        yield
    finally:
        node.tell(WATERMARK % "0.4")


def event(name: str, order_id: int = 4, body: str | None = None) -> Message:
    """Return an event that nobody has to listen to."""
    return message(
        id=order_id, order_id=order_id, type="x", event_id=name, body=body or name
    )


def outcomes(
    publisher: RabbitMQPublisher, *messages: Message, seconds: float = PLENTY
) -> list[Outcome]:
    return publisher.publish(messages, time.monotonic() + seconds)


def results(
    publisher: RabbitMQPublisher, *messages: Message, seconds: float = PLENTY
) -> list[Result]:
    return [each.result for each in outcomes(publisher, *messages, seconds=seconds)]


@contextmanager
def channel_of(node: OwnBroker) -> Iterator[BlockingChannel]:
    connection = node.connect()
    yield connection.channel()
    connection.close()


def spied(node: OwnBroker) -> list[str]:
    """Take out every event that arrived; answer their ids in order."""
    found = []
    with channel_of(node) as channel:
        while True:
            delivery, properties, _ = channel.basic_get(SPY, auto_ack=True)
            if delivery is None:
                return found
            found.append(str(properties.message_id))


def wait_until_spied(node: OwnBroker, count: int) -> None:
    deadline = time.monotonic() + 30
    with channel_of(node) as channel:
        while channel.queue_declare(SPY, passive=True).method.message_count < count:
            assert time.monotonic() < deadline, "it did not arrive"
            time.sleep(0.05)


# Short of memory: the broker stops reading what it is sent.


def test_a_shortage_costs_one_publish_its_certainty_and_turns_the_next_away_at_once(
    node: OwnBroker, publisher: RabbitMQPublisher
) -> None:
    assert results(publisher, event("a")) == [Result.SENT]
    with shortage(node):
        assert results(publisher, event("b"), seconds=1) == [Result.UNCONFIRMED]
        began = time.monotonic()
        [lost, rest] = outcomes(publisher, event("c"), event("d", order_id=5))
        assert time.monotonic() - began < 2
    assert (lost.result, lost.reason) == (Result.UNAVAILABLE, BLOCKED)
    assert rest.result is Result.NOT_TRIED
    assert results(publisher, event("e")) == [Result.SENT]
    assert spied(node) == ["a", "b", "e"]


def test_a_new_link_to_a_broker_that_is_short_of_memory_learns_of_it(
    node: OwnBroker, publisher: RabbitMQPublisher
) -> None:
    with shortage(node):
        assert results(publisher, event("a"), seconds=1) == [Result.UNCONFIRMED]
        assert results(publisher, event("b")) == [Result.UNAVAILABLE]
    wait_until_spied(node, 1)
    assert results(publisher, event("c")) == [Result.SENT]
    assert spied(node) == ["a", "c"]


def test_a_shortage_that_ends_in_time_is_not_noticed(
    node: OwnBroker, publisher: RabbitMQPublisher
) -> None:
    results(publisher, event("a"))
    with shortage(node):
        waiting: list[Result] = []
        thread = threading.Thread(
            target=lambda: waiting.extend(results(publisher, event("b")))
        )
        thread.start()
        time.sleep(0.3)
    thread.join(PLENTY)
    assert waiting == [Result.SENT]


def test_what_never_left_this_process_in_a_shortage_is_not_in_doubt_nor_ever_sent(
    node: OwnBroker, publisher: RabbitMQPublisher
) -> None:
    body = "x" * 300_000  # 18 MB in all: more than a connection holds
    batch = [event(str(n), order_id=n, body=body) for n in range(60)]
    with shortage(node):
        found = results(publisher, *batch, seconds=2)
    doubtful = found.count(Result.UNCONFIRMED)
    assert 0 < doubtful < 60
    assert found == [Result.UNCONFIRMED] * doubtful + [Result.UNAVAILABLE] * (
        60 - doubtful
    )
    assert results(publisher, event("after")) == [Result.SENT]
    sent = [name for name in spied(node) if name != "after"]
    assert sent == [str(n) for n in range(len(sent))]
    assert len(sent) <= doubtful


def test_what_was_not_sent_in_a_shortage_is_not_sent_in_closing_the_link_either(
    node: OwnBroker, publisher: RabbitMQPublisher
) -> None:
    """The shortage ends about when the publisher gives up; before is as well."""
    body = "x" * 300_000
    batch = [event(str(n), order_id=n, body=body) for n in range(60)]
    node.tell(WATERMARK % "{absolute, 1}")
    over = threading.Timer(0.7, node.tell, args=[WATERMARK % "0.4"])
    over.start()
    found = results(publisher, *batch, seconds=1)
    over.join()
    publisher.close()
    assert results(publisher, event("after", order_id=99)) == [Result.SENT]
    unsent = {
        message.event_id
        for message, result in zip(batch, found, strict=True)
        if result in (Result.UNAVAILABLE, Result.NOT_TRIED)
    }
    assert unsent.isdisjoint(spied(node))


def test_over_tls_nobody_knows_what_never_left_this_process(
    node: OwnBroker, tmp_path: Path
) -> None:
    """TLS sends part of a large write before it says that it cannot send it."""
    shown = identity(tmp_path)
    batch = [event(str(n), order_id=n, body="x" * 300_000) for n in range(60)]
    with tls_to(node.port, shown) as front:
        through = {
            "RABBITMQ_HOST": "localhost",
            "RABBITMQ_PORT": str(front.port),
            "RABBITMQ_TLS": "true",
            "RABBITMQ_CA_FILE": shown.ca_file,
        }
        with publisher_to(node, **through) as publisher, shortage(node):
            assert set(results(publisher, *batch, seconds=2)) == {Result.UNCONFIRMED}


# Connections that the broker ends.


def test_a_connection_that_the_broker_closes_is_missed_in_mid_publish_only(
    node: OwnBroker, publisher: RabbitMQPublisher
) -> None:
    results(publisher, event("a"))
    node.tell(BYE)
    assert results(publisher, event("b")) == [Result.SENT]
    with shortage(node):  # so that there is a middle
        waiting: list[Outcome] = []
        thread = threading.Thread(
            target=lambda: waiting.extend(outcomes(publisher, event("c")))
        )
        thread.start()
        time.sleep(0.3)
        node.tell(BYE)
        thread.join(PLENTY)
    [outcome] = waiting
    assert outcome.result is Result.UNCONFIRMED
    assert "bye" in (outcome.reason or "")
    assert results(publisher, event("d")) == [Result.SENT]
    assert set(spied(node)) >= {"a", "b", "d"}


def test_what_was_confirmed_survives_that_the_broker_is_killed(
    node: OwnBroker, publisher: RabbitMQPublisher
) -> None:
    told: dict[str, Result] = {}
    has_begun = threading.Event()

    def publish_until_it_fails() -> None:
        for number in range(100_000):
            batch = [event(f"{number}-{n}", order_id=n) for n in range(20)]
            found = results(publisher, *batch)
            told.update(
                zip((m.event_id for m in batch), found, strict=True),
            )
            if number == 20:
                has_begun.set()
            if Result.UNAVAILABLE in found:
                return

    thread = threading.Thread(target=publish_until_it_fails)
    thread.start()
    assert has_begun.wait(PLENTY)
    node.kill()
    thread.join(PLENTY)
    assert not thread.is_alive()
    node.start()
    arrived = set(spied(node))
    sent = {name for name, result in told.items() if result is Result.SENT}
    doubtful = {name for name, result in told.items() if result is Result.UNCONFIRMED}
    assert sent <= arrived <= sent | doubtful
    assert results(publisher, event("after")) == [Result.SENT]


# Connections that nobody has heard of for longer than two heartbeats.


@pytest.fixture
def link(node: OwnBroker) -> Iterator[Link]:
    """The node with a heartbeat a second, through a network."""
    node.tell(HEARTBEAT % 1)
    with link_to(node.port) as link:
        yield link
    node.tell(HEARTBEAT % 60)


@pytest.fixture
def far_publisher(node: OwnBroker, link: Link) -> Iterator[RabbitMQPublisher]:
    with publisher_to(node, RABBITMQ_PORT=str(link.port)) as publisher:
        yield publisher


def test_a_connection_that_the_network_forgot_costs_neither_time_nor_certainty(
    node: OwnBroker, link: Link, far_publisher: RabbitMQPublisher
) -> None:
    assert results(far_publisher, event("a")) == [Result.SENT]
    link.forget()
    time.sleep(2.5)
    began = time.monotonic()
    assert results(far_publisher, event("b")) == [Result.SENT]
    assert time.monotonic() - began < 2
    assert link.attempts == 2
    assert spied(node) == ["a", "b"]


def test_a_connection_in_use_is_kept_for_longer_than_two_heartbeats(
    link: Link, far_publisher: RabbitMQPublisher
) -> None:
    for number in range(5):
        assert results(far_publisher, event(str(number))) == [Result.SENT]
        time.sleep(0.7)
    assert link.attempts == 1


def test_a_blocked_connection_is_kept_as_long_as_the_broker_sends_heartbeats(
    node: OwnBroker, link: Link, far_publisher: RabbitMQPublisher
) -> None:
    with shortage(node):
        assert results(far_publisher, event("a"), seconds=1) == [Result.UNCONFIRMED]
        time.sleep(3)
        assert results(far_publisher, event("b")) == [Result.UNAVAILABLE]
        assert link.attempts == 1
        link.forget()
        time.sleep(2.5)
        results(far_publisher, event("b"), seconds=1)
    assert link.attempts == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"RABBITMQ_VHOST": "nowhere"}, "nowhere"), ({"RABBITMQ_PASS": "hush-hush"}, "")],
)
def test_a_login_that_is_refused_is_unavailable_and_shows_no_password(
    node: OwnBroker, settings: dict[str, str], said: str
) -> None:
    with publisher_to(node, **settings) as publisher:
        [outcome] = outcomes(publisher, event("a"))
    assert outcome.result is Result.UNAVAILABLE
    assert said in (outcome.reason or "")
    assert "hush" not in (outcome.reason or "")
