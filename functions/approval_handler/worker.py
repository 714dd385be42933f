"""Approval's trigger from RabbitMQ: consumes the queue `order_approval`, always on.

Lives here: the queue, acknowledgements, a graceful stop. Not here: the decision
(`common/approval.py`). Surprise: RabbitMQ cannot call a function, so this runs where a
process may stay, such as a Cloud Run worker pool: `python worker.py`.
"""

import argparse
import signal
import time
from contextlib import suppress
from typing import Any

import pika

from common import approval, logs, wiring
from common.config import ConfigError
from common.db import ping
from common.errors import ServiceError
from common.events import STATUS_UPDATED
from common.publishing.rabbitmq import EXCHANGE, connection_parameters

QUEUE = "order_approval"
DEAD_LETTER_EXCHANGE = "order_approval.dead"
DELIVERY_LIMIT = 20
PREFETCH = 16
RECONNECT_SECONDS = 2.0
RETRY_SECONDS = 1.0

log = logs.get("approval.worker")


def declare(channel: Any) -> None:  # noqa: ANN401 pika's
    """Declare our queue, its binding, and where its dead letters go."""
    channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
    channel.exchange_declare(DEAD_LETTER_EXCHANGE, exchange_type="fanout", durable=True)
    channel.queue_declare(DEAD_LETTER_EXCHANGE, durable=True)
    channel.queue_bind(DEAD_LETTER_EXCHANGE, DEAD_LETTER_EXCHANGE)
    channel.queue_declare(
        QUEUE,
        durable=True,
        arguments={
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": DEAD_LETTER_EXCHANGE,
        },
    )
    channel.queue_bind(QUEUE, EXCHANGE, routing_key=STATUS_UPDATED)


def consume(stop: list[bool]) -> None:
    """Take messages until `stop` says so; raises pika's errors when the link breaks."""
    broker = wiring.settings().rabbitmq
    if broker is None:
        raise ConfigError("RABBITMQ_HOST is not set")
    connection = pika.BlockingConnection(connection_parameters(broker))
    try:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=PREFETCH)
        declare(channel)
        log.info("consuming %s", QUEUE)
        for delivery, properties, body in channel.consume(
            QUEUE, inactivity_timeout=0.5
        ):
            if delivery is not None:
                _take(channel, delivery, properties, body, stop)
            if stop:
                channel.cancel()  # what is prefetched goes back to the queue
                return
    finally:
        if connection.is_open:
            connection.close()


def _take(
    channel: Any,  # noqa: ANN401 pika's
    delivery: Any,  # noqa: ANN401 pika's
    properties: Any,  # noqa: ANN401 pika's
    body: bytes,
    stop: list[bool],
) -> None:
    """Handle one message; only an error that may pass puts it back."""
    given = properties.headers or {}
    headers = {str(k).lower(): str(v) for k, v in given.items()}
    headers["content-type"] = properties.content_type or "application/json"
    with logs.request_context(properties.message_id, headers.get("traceparent")):
        try:
            bus = wiring.settings().bus
            order_id = approval.take(wiring.engine(), headers, body, bus)
        except ServiceError as error:
            log.warning("put back: %s", error.detail)
            _wait_for_database(channel.connection, stop)
            channel.basic_nack(delivery.delivery_tag, requeue=True)
            return
        channel.basic_ack(delivery.delivery_tag)
        if order_id is not None:
            wiring.relay().hand_over(order_id)


def _wait_for_database(connection: Any, stop: list[bool]) -> None:  # noqa: ANN401 pika's
    """Wait until a redelivery can help, or it would only spend the delivery limit."""
    while not stop:
        connection.sleep(RETRY_SECONDS)  # answers heartbeats meanwhile
        with suppress(ServiceError):
            ping(wiring.engine())
            return


def main() -> None:
    """Consume until SIGTERM or SIGINT, connecting again whenever the link breaks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    wiring.start("DATABASE", "EVENT_BUS")
    stop: list[bool] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.append(True))
    while not stop:
        try:
            consume(stop)
        except (pika.exceptions.AMQPError, OSError) as error:  # OSError: no such name
            log.warning("the link broke: %s", type(error).__name__)
            time.sleep(RECONNECT_SECONDS)
        except ConfigError as error:
            raise SystemExit(f"configuration error: {error}") from error
    wiring.close()


if __name__ == "__main__":
    main()
