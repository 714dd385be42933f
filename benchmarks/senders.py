"""Send a backlog with the relay, parts of it, or pika alone, each in its own process.

The service's exchange is renamed in the measured process, so that no other consumer
receives its events.
"""

import contextlib
import importlib.util
import json
import multiprocessing
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pika
from msgspec import Struct

from benchmarks.bus import own_exchange
from common import wiring
from common.config import endpoints
from common.domain.model import Event
from common.messaging.relay import Relay
from common.publishing import rabbitmq, rabbitmq_connection
from common.publishing.publisher import Message, Outcome, Result

CHECKOUT = Path(__file__).parents[1]
WORKER = CHECKOUT / "functions" / "outbox_relay" / "worker.py"
LONGEST_SECONDS = 600.0
_FORK = multiprocessing.get_context("fork")


class Setup(Struct, frozen=True):
    """The database, the broker, and the exchange and queue of this run."""

    database_url: str
    broker: endpoints.RabbitMQ
    exchange: str

    @property
    def queue(self) -> str:
        """Return the queue that receives everything."""
        return f"{self.exchange}.all"


def timed(*runs: Callable[[], None]) -> float:
    """Run each in a process, all at once; return the seconds until the last ended."""
    start = _FORK.Event()

    def child(run: Callable[[], None]) -> None:
        start.wait()
        run()

    processes = [_FORK.Process(target=child, args=(run,)) for run in runs]
    for process in processes:
        process.start()
    time.sleep(0.5)
    began_at = time.monotonic()
    start.set()
    for process in processes:
        process.join()
    seconds = time.monotonic() - began_at
    if failed := [process.exitcode for process in processes if process.exitcode]:
        raise SystemExit(f"a measured process ended with {failed[0]}")
    return seconds


def relay_until_empty(setup: Setup) -> None:
    """Do one round of the relay's worker: it ends when no events are due."""
    _configure_service(setup)
    spec = importlib.util.spec_from_file_location("relay_worker", WORKER)
    assert spec
    assert spec.loader
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    worker.main(["--once"])


def relay_without_broker(setup: Setup) -> None:
    """Claim everything and record it as sent, without sending anything."""
    _configure_service(setup)

    class NullPublisher:
        def publish(
            self, messages: Sequence[Message], _deadline: float
        ) -> list[Outcome]:
            return [Outcome(message.id, Result.SENT) for message in messages]

        def close(self) -> None:
            pass

    Relay(wiring.engine(), {"rabbitmq": NullPublisher()}).sweep(LONGEST_SECONDS)


def _configure_service(setup: Setup) -> None:
    rabbitmq_connection.EXCHANGE = setup.exchange
    os.environ |= {
        "DATABASE_URL": setup.database_url,
        "EVENT_BUS": "rabbitmq",
        "RABBITMQ_URL": "",
        "RABBITMQ_HOST": setup.broker.host,
        "RABBITMQ_PORT": str(setup.broker.port),
        "RABBITMQ_USER": setup.broker.user,
        "RABBITMQ_PASS": setup.broker.password,
        "RABBITMQ_VHOST": setup.broker.vhost,
        "ANALYTIC_SERVICE": "",
        "LOG_LEVEL": "WARNING",
    }
    wiring.start("DATABASE", "EVENT_BUS")


def publisher_alone(setup: Setup, backlog_: Sequence[Event], batch: int) -> None:
    """Send everything through the service's publisher, without a database."""
    _configure_service(setup)
    publisher = rabbitmq.RabbitMQPublisher(setup.broker)
    now = datetime.now(UTC)
    messages = [
        Message(n, e.id, e.type, e.order_id, e.body, None, now, 1, is_doubtful=False)
        for n, e in enumerate(backlog_)
    ]
    for start in range(0, len(messages), batch):
        part = messages[start : start + batch]
        outcomes = publisher.publish(part, time.monotonic() + 20)
        assert all(outcome.result is Result.SENT for outcome in outcomes), outcomes
    publisher.close()


def bare_pika(setup: Setup, backlog_: Sequence[Event], batch: int) -> None:
    """Send everything with pika as documented, in batches with pipelined confirms."""
    parts = iter(
        [backlog_[start : start + batch] for start in range(0, len(backlog_), batch)]
    )
    unconfirmed = 0
    published = confirmed = 0

    def on_channel(channel: Any) -> None:  # noqa: ANN401 pika's
        channel.confirm_delivery(lambda frame: on_confirm(channel, frame.method))
        publish(channel)

    def publish(channel: Any) -> None:  # noqa: ANN401 pika's
        nonlocal unconfirmed, published
        part = next(parts, None)
        if part is None:
            connection.close()
            return
        unconfirmed = len(part)
        published += len(part)
        for event in part:
            properties = pika.BasicProperties(delivery_mode=2, message_id=event.id)
            body = event.body.encode()
            channel.basic_publish(setup.exchange, event.type, body, properties)

    def on_confirm(channel: Any, method: Any) -> None:  # noqa: ANN401 pika's
        nonlocal unconfirmed, confirmed
        assert method.NAME == "Basic.Ack"
        count = method.delivery_tag - confirmed if method.multiple else 1
        # Single confirms may arrive out of order, so only their number counts.
        confirmed += count
        unconfirmed -= count
        if unconfirmed == 0:
            publish(channel)

    connection = pika.SelectConnection(
        rabbitmq_connection.connection_parameters(setup.broker),
        on_open_callback=lambda c: c.channel(on_open_callback=on_channel),
        on_close_callback=lambda c, _: c.ioloop.stop(),
    )
    connection.ioloop.start()


def topology(setup: Setup) -> contextlib.AbstractContextManager[None]:
    """Declare an exchange and a durable queue that receives everything."""
    return own_exchange(partial(_connected, setup), setup.exchange)


def _connected(setup: Setup) -> pika.BlockingConnection:
    parameters = rabbitmq_connection.connection_parameters(setup.broker)
    return pika.BlockingConnection(parameters)


def take_all(setup: Setup) -> dict[str, list[str]]:
    """Empty the queue; return the ids of events by order, as they arrived."""
    received: dict[str, list[str]] = defaultdict(list)
    with contextlib.closing(_connected(setup)) as connection:
        channel = connection.channel()
        for delivery, properties, body in channel.consume(
            setup.queue, auto_ack=True, inactivity_timeout=1.0
        ):
            if delivery is None:
                break
            event = json.loads(body)
            event = event.get("data", event)
            received[str(event["order_id"])].append(properties.message_id)
        channel.cancel()
    return received
