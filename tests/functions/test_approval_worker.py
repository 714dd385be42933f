"""The approval worker as a process of its own, fed by a real RabbitMQ."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.support.approvals import DELIVERED, completed, dead_letters, is_approved
from tests.support.link import Link, link_to
from tests.support.rabbitmq import OWN_DEAD_LETTERS, Broker
from tests.support.service import Service, new_user
from tests.support.worker import (
    CHECKOUT,
    PATIENCE_SECONDS,
    QUEUE,
    WORKER,
    channel_of,
    consumers,
    eventually,
    publish,
    ready,
    trigger,
    waiting,
    worker,
)


@pytest.fixture
def broker(rabbitmq_server: Broker, rabbitmq_channel: BlockingChannel) -> Broker:
    """The broker, with clean queues."""
    assert rabbitmq_channel.is_open
    return rabbitmq_server


@pytest.fixture
def link(broker: Broker) -> Iterator[Link]:
    with link_to(broker.port) as link:
        yield link


def test_it_approves_from_a_queue(service: Service, broker: Broker, user: str) -> None:
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


def test_a_message_nobody_can_work_off_ends_among_the_dead_letters_of_the_broker(
    service: Service, broker: Broker
) -> None:
    with worker(service, broker) as process:
        eventually(ready(broker))
        process.terminate()
        process.wait(PATIENCE_SECONDS)
    publish(broker, b"too heavy")
    limits = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": OWN_DEAD_LETTERS,
    }
    with channel_of(broker) as channel:
        # Declaring it with other arguments would close the channel.
        channel.queue_declare(QUEUE, durable=True, arguments=limits)
        for _ in range(21):
            delivery, _, _ = channel.basic_get(QUEUE)
            assert delivery is not None
            channel.basic_nack(delivery.delivery_tag, requeue=True)
            time.sleep(0.01)
    eventually(lambda: waiting(broker, OWN_DEAD_LETTERS) == [b"too heavy"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_within_seconds(
    service: Service, broker: Broker, tmp_path: Path, number: signal.Signals
) -> None:
    output = tmp_path / "output"
    with worker(service, broker, prelude="", output=output) as process:
        eventually(ready(broker))
        process.send_signal(number)
        assert process.wait(8) == 0
    assert consumers(broker) == 0
    assert output.read_text().endswith("main has returned\n")


def test_killed_worker_loses_none(service: Service, broker: Broker, user: str) -> None:
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


def test_cut_link_is_opened_again(service: Service, broker: Broker, link: Link) -> None:
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


def test_absent_broker_is_awaited(service: Service, broker: Broker, link: Link) -> None:
    link.refuse()
    with (
        worker(service, broker, link.port) as process,
        worker(service, broker, RABBITMQ_HOST="broker.invalid") as nameless,
    ):
        time.sleep(2)
        assert (process.poll(), nameless.poll()) == (None, None)
        link.restore()
        eventually(ready(broker))
        assert nameless.poll() is None


def test_database_outage_spends_no_deliveries(service: Service, broker: Broker) -> None:
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
    assert done.stderr.splitlines() == [
        "configuration error: RABBITMQ_URL is not set, and neither is RABBITMQ_HOST"
    ]
