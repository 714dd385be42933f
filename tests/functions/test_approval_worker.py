"""The approval worker as a process of its own, fed by a real RabbitMQ."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from tests.support.approvals import (
    DELIVERED,
    completed,
    dead_letters,
    is_approved,
    status_event,
)
from tests.support.link import Link, link_to
from tests.support.rabbitmq import EXCHANGE, OWN_DEAD_LETTERS, Broker
from tests.support.service import Service, new_user

CHECKOUT = Path(__file__).parents[2]
WORKER = CHECKOUT / "functions" / "approval_handler" / "worker.py"
QUEUE = "order_approval"
STATUS_UPDATED = "order.item.status.updated"
PATIENCE_SECONDS = 30


@pytest.fixture
def broker(rabbitmq_server: Broker, rabbitmq_channel: BlockingChannel) -> Broker:
    """The broker, with clean queues."""
    assert rabbitmq_channel.is_open
    return rabbitmq_server


@pytest.fixture
def link(broker: Broker) -> Iterator[Link]:
    with link_to(broker.port) as link:
        yield link


@contextmanager
def worker(
    service: Service, broker: Broker, port: int | None = None, **settings: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the worker; it hears from the broker, and tells the sandbox's sink."""
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(CHECKOUT),
        **service.environ,
        **broker.environ,
        **settings,
        "LOG_LEVEL": "INFO",
    }
    if port is not None:
        environ["RABBITMQ_PORT"] = str(port)
    command = [sys.executable, str(WORKER)]
    process = subprocess.Popen(command, env=environ, cwd="/")
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE_SECONDS)


def eventually(question: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not question():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@contextmanager
def channel_of(broker: Broker) -> Iterator[BlockingChannel]:
    connection = broker.connect()
    try:
        yield connection.channel()
    finally:
        connection.close()


def consumers(broker: Broker, queue: str = QUEUE) -> int:
    """Answer how many consume the queue; -1 while it does not exist."""
    with channel_of(broker) as channel:
        try:
            declared = channel.queue_declare(queue, passive=True)
        except ChannelClosedByBroker:
            return -1
    count: int = declared.method.consumer_count
    return count


def ready(broker: Broker) -> Callable[[], bool]:
    return lambda: consumers(broker) == 1


def publish(broker: Broker, body: bytes, **properties: Any) -> None:
    with channel_of(broker) as channel:
        channel.basic_publish(
            EXCHANGE, STATUS_UPDATED, body, pika.BasicProperties(**properties)
        )


def trigger(broker: Broker, order_id: int) -> None:
    publish(broker, json.dumps(status_event(order_id)).encode())


def waiting(broker: Broker, queue: str) -> list[bytes]:
    """Look at what is in a queue, leaving it there."""
    found = []
    with channel_of(broker) as channel:
        while True:
            delivery, _, body = channel.basic_get(queue)
            if delivery is None:
                return found
            found.append(body)


def test_it_approves_from_its_queue_and_announces_it(
    service: Service, broker: Broker, user: str
) -> None:
    order = completed(service, user, DELIVERED)
    with worker(service, broker):
        eventually(ready(broker))
        for _ in range(3):
            trigger(broker, order["id"])
        eventually(lambda: service.sandbox.completed_orders)
        eventually(lambda: waiting(broker, QUEUE) == [])
    assert is_approved(service, order["id"])
    assert len(service.sandbox.events_of("order.approved")) == 1
    assert dead_letters(service) == []


def test_its_queue_is_a_quorum_queue_with_a_delivery_limit_and_dead_letters(
    service: Service, broker: Broker
) -> None:
    with worker(service, broker):
        eventually(ready(broker))
        with channel_of(broker) as channel:
            # Declaring it with other arguments would close the channel.
            channel.queue_declare(
                QUEUE,
                durable=True,
                arguments={
                    "x-queue-type": "quorum",
                    "x-delivery-limit": 20,
                    "x-dead-letter-exchange": OWN_DEAD_LETTERS,
                },
            )


def test_a_message_nobody_can_work_off_ends_among_the_dead_letters_of_the_broker(
    service: Service, broker: Broker
) -> None:
    with worker(service, broker) as process:
        eventually(ready(broker))
        process.terminate()
        process.wait(PATIENCE_SECONDS)
    publish(broker, b"too heavy")
    with channel_of(broker) as channel:
        for _ in range(21):
            delivery, _, _ = channel.basic_get(QUEUE)
            assert delivery is not None
            channel.basic_nack(delivery.delivery_tag, requeue=True)
            time.sleep(0.01)
    eventually(lambda: waiting(broker, OWN_DEAD_LETTERS) == [b"too heavy"])


@pytest.mark.parametrize(
    ("body", "properties"),
    [
        (b"junk", {}),
        (b"junk", {"headers": {"x-odd": "a\0b", "n": 7}, "content_type": "a\0b"}),
        (b"\0", {"message_id": "\0" * 9}),
        (b'{"event_type":"order.item.status.updated","order_id":4}', {}),
    ],
)
def test_poison_becomes_a_dead_letter_and_stops_nobody(
    service: Service,
    broker: Broker,
    user: str,
    body: bytes,
    properties: dict[str, Any],
) -> None:
    order = completed(service, user, DELIVERED)
    with worker(service, broker):
        eventually(ready(broker))
        publish(broker, body, **properties)
        trigger(broker, order["id"])
        eventually(lambda: is_approved(service, order["id"]))
    [letter] = dead_letters(service)
    assert letter["body"] == body


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_within_seconds(
    service: Service, broker: Broker, number: signal.Signals
) -> None:
    with worker(service, broker) as process:
        eventually(ready(broker))
        process.send_signal(number)
        assert process.wait(8) == 0
    assert consumers(broker) == 0


def test_what_a_killed_worker_had_in_hand_goes_to_the_next(
    service: Service, broker: Broker, user: str
) -> None:
    order = completed(service, user, DELIVERED)
    with link_to(service.environ["DATABASE_URL"]) as database:
        through = database.through(service.environ["DATABASE_URL"])
        with worker(service, broker, DATABASE_URL=through) as process:
            eventually(ready(broker))
            database.is_mute = True
            trigger(broker, order["id"])
            eventually(lambda: database.attempts and waiting(broker, QUEUE) == [])
            process.kill()
            process.wait(PATIENCE_SECONDS)
    assert not is_approved(service, order["id"])
    with worker(service, broker):
        eventually(lambda: is_approved(service, order["id"]))


def test_a_cut_link_is_opened_again_and_nothing_is_lost(
    service: Service, broker: Broker, link: Link
) -> None:
    first, second = (completed(service, new_user(), DELIVERED) for _ in range(2))
    with worker(service, broker, link.port):
        eventually(ready(broker))
        trigger(broker, first["id"])
        eventually(lambda: is_approved(service, first["id"]))
        link.refuse()
        eventually(lambda: consumers(broker) == 0)
        trigger(broker, second["id"])
        link.restore()
        eventually(lambda: is_approved(service, second["id"]))


def test_a_broker_that_is_absent_at_start_is_waited_for(
    service: Service, broker: Broker, link: Link
) -> None:
    link.refuse()
    with worker(service, broker, link.port) as process:
        time.sleep(1.5)
        assert process.poll() is None
        link.restore()
        eventually(ready(broker))


def test_a_broker_whose_name_is_unknown_is_waited_for(
    service: Service, broker: Broker
) -> None:
    with worker(service, broker, RABBITMQ_HOST="broker.invalid") as process:
        time.sleep(3)
        assert process.poll() is None


def test_a_database_outage_spends_no_deliveries(
    service: Service, broker: Broker
) -> None:
    """A minute without a database must not bury every trigger that came meanwhile."""
    first, second = (completed(service, new_user(), DELIVERED) for _ in range(2))
    with link_to(service.environ["DATABASE_URL"]) as database:
        through = database.through(service.environ["DATABASE_URL"])
        with worker(service, broker, DATABASE_URL=through) as process:
            eventually(ready(broker))
            database.refuse()
            trigger(broker, first["id"])
            time.sleep(1)
            database.restore()
            eventually(lambda: is_approved(service, first["id"]))
            database.refuse()
            trigger(broker, second["id"])
            time.sleep(5)
            process.terminate()
            assert process.wait(8) == 0
    with channel_of(broker) as channel:
        _, properties, _ = channel.basic_get(QUEUE)
    # It was put back at the end, and not in each of the seconds before.
    assert properties.headers["x-delivery-count"] <= 2


def test_without_a_broker_configured_it_says_so_in_one_line(service: Service) -> None:
    environ = {"PYTHONPATH": str(CHECKOUT), **service.environ}
    done = subprocess.run(
        [sys.executable, str(WORKER)],
        check=False,
        capture_output=True,
        text=True,
        env=environ,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["configuration error: RABBITMQ_HOST is not set"]
