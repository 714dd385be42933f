"""The RabbitMQ trigger of approval: an always-on consumer of `order_approval`.

RabbitMQ cannot call a function, so this runs as a worker pool or similar. It also moves
the broker's dead letters to our table.
"""

import argparse
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pika
import pika.spec

from common import approval, failpoints, startup, wiring
from common.domain.events import STATUS_UPDATED
from common.errors import ServiceError
from common.messaging.pending import PendingEvents
from common.publishing.rabbitmq_connection import (
    EXCHANGE,
    connection_parameters,
    reason,
)
from common.telemetry import logs

QUEUE = "order_approval"
DEAD_LETTERS = "order_approval.dead"  # an exchange and its queue
DELIVERY_LIMIT = 20  # of redeliveries
PREFETCH = 16
RECONNECT_SECONDS = 2.0
RETRY_SECONDS = 1.0
SIGNAL_POLL_SECONDS = 0.5

SETTINGS = """\
settings, from the environment:
  DATABASE_URL         or POSTGRES_HOST, _PORT, _DB, _USER, _PASSWORD
  RABBITMQ_URL         or RABBITMQ_HOST, _PORT, _USER, _PASS, _VHOST, _TLS
  RABBITMQ_CA_FILE     the authority that signed the broker's certificate
  EVENT_BUS            where approvals are published, and that bus's own settings
  ANALYTIC_SERVICE     if set, notified of an approval at once, else by the relay
  LOG_LEVEL            DEBUG, INFO, WARNING or ERROR

SIGTERM and SIGINT stop it once the current message is processed.
"""

log = logs.get("approval.worker")

# Processes a message, and returns the events to publish now.
Handle = Callable[[Mapping[str, str], bytes], PendingEvents | None]


def declare(channel: Any) -> None:  # noqa: ANN401 pika's
    """Declare our queue, its binding, and the queue of its dead letters.

    They must equal those of `infra/rabbitmq/definitions.json`; the broker refuses a
    different declaration.
    """
    channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
    channel.exchange_declare(DEAD_LETTERS, exchange_type="fanout", durable=True)
    channel.queue_declare(DEAD_LETTERS, durable=True)
    channel.queue_bind(DEAD_LETTERS, DEAD_LETTERS)
    channel.queue_declare(
        QUEUE,
        durable=True,
        arguments={
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": DEAD_LETTERS,
        },
    )
    channel.queue_bind(QUEUE, EXCHANGE, routing_key=STATUS_UPDATED)


def approve(headers: Mapping[str, str], body: bytes) -> PendingEvents | None:
    """Process an event from our queue; its results are sent once it is acknowledged."""
    bus = wiring.bus(claims=False)
    return approval.take(wiring.engine(), headers, body, bus)


def keep_given_up(headers: Mapping[str, str], body: bytes) -> None:
    """Store a message that the broker has given up."""
    if headers.get("x-first-death-reason") == "delivery_limit":
        # RabbitMQ drops the count after the limit. The header's name is Pub/Sub's.
        count = {"cloudpubsubdeadlettersourcedeliverycount": str(DELIVERY_LIMIT + 1)}
        headers = {**headers, **count}
    approval.keep_given_up(wiring.engine(), headers, body)


HANDLES: Mapping[str, Handle] = {QUEUE: approve, DEAD_LETTERS: keep_given_up}


def consume(stop: list[bool]) -> None:
    """Process messages until `stop` is filled, or a queue or the channel is gone.

    Raise pika's errors if the connection breaks.
    """
    broker = startup.settings().rabbitmq
    assert broker is not None, "config.load has checked it"
    pika.spec.props[pika.BasicProperties.INDEX] = _Properties
    connection = pika.BlockingConnection(connection_parameters(broker))
    try:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=PREFETCH)
        declare(channel)
        for queue, handle in HANDLES.items():
            channel.basic_consume(queue, _Consumer(handle, stop))
        log.info("consuming %s", ", ".join(HANDLES))
        while not stop and len(channel.consumer_tags) == len(HANDLES):
            connection.process_data_events(time_limit=SIGNAL_POLL_SECONDS)
    finally:
        if connection.is_open:
            connection.close()  # unacknowledged messages go back to their queues


class _Consumer:
    """Processes messages of one queue one by one; requeues failures after a pause."""

    def __init__(self, handle: Handle, stop: list[bool]) -> None:
        self._handle = handle
        self._stop = stop

    def __call__(
        self,
        channel: Any,  # noqa: ANN401 pika's
        delivery: Any,  # noqa: ANN401 pika's
        properties: Any,  # noqa: ANN401 pika's
        body: bytes,
    ) -> None:
        """Process a message, unless we are stopping: then it goes to the next worker.

        A message that raises an unexpected error is redelivered until the broker's
        limit makes it a dead letter.
        """
        if self._stop:
            return
        headers = headers_of(delivery, properties)
        with logs.request_context(
            headers.get("ce-id"),
            headers.get("traceparent"),
            headers.get("tracestate"),
            "approval_worker",
        ):
            try:
                pending = self._handle(headers, body)
            except ServiceError as error:
                log.warning("message requeued: %s", error.detail)
                self._wait_for_database(channel.connection)
            except Exception:
                log.exception("message requeued after an unexpected error")
                channel.connection.sleep(RETRY_SECONDS)
            else:
                failpoints.reach("acknowledge before")
                channel.basic_ack(delivery.delivery_tag)
                failpoints.reach("acknowledge after")
                wiring.relay().send(pending)
                return
            channel.basic_nack(delivery.delivery_tag, requeue=True)

    def _wait_for_database(self, connection: Any) -> None:  # noqa: ANN401 pika's
        """Wait until a redelivery can succeed, to stay below the delivery limit."""
        while not self._stop:
            connection.sleep(RETRY_SECONDS)  # pika sends heartbeats meanwhile
            with suppress(ServiceError):
                wiring.check_ready()
                return


def headers_of(delivery: Any, properties: Any) -> dict[str, str]:  # noqa: ANN401 pika's
    """Return a message's headers as in HTTP, by lower-case name.

    CloudEvents' attributes become `ce-…`; AMQP's properties fill in missing ones.
    """
    items = (properties.headers or {}).items()
    headers = {_text(name).lower(): _text(value) for name, value in items}
    for name in [name for name in headers if name.startswith("cloudevents")]:
        prefix, attribute = name[:12], name[12:]
        if prefix in ("cloudevents:", "cloudevents_"):  # the AMQP binding allows both
            headers[f"ce-{attribute}"] = headers.pop(name)
    defaults = {
        "ce-id": properties.message_id,
        "ce-type": properties.type or delivery.routing_key,
    }
    for name, value in defaults.items():
        if value:
            headers.setdefault(name, _text(value))
    headers["content-type"] = _text(properties.content_type or "application/json")
    encoding = _text(properties.content_encoding or "")
    if encoding.lower() not in ("", "utf-8"):  # a charset is often put there
        headers["content-encoding"] = encoding
    return headers


def _text(value: object) -> str:
    # pika returns bytes for a string that is not UTF-8.
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


class _Properties(pika.BasicProperties):  # type: ignore[misc] # it has no types
    """Properties that tolerate invalid values, such as a date in the year 50 000.

    pika would close the connection at each delivery of such a message, for ever.
    """

    def decode(self, encoded: bytes, offset: int = 0) -> "_Properties":
        """Decode the properties; keep the raw bytes as a header if that fails."""
        try:
            super().decode(encoded, offset)
        except Exception as error:  # noqa: BLE001 publishers may send anything
            log.warning("a message's properties cannot be read: %s", error)
            self.headers = {"x-undecoded": encoded.hex()}
        return self


def main(argv: Sequence[str] | None = None) -> None:
    """Consume until SIGTERM or SIGINT, reconnecting whenever the connection breaks."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog=SETTINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(argv)
    wiring.start("DATABASE", "EVENT_BUS", "RABBITMQ")
    stop: list[bool] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.append(True))
    while not stop:
        try:
            consume(stop)
        except (pika.exceptions.AMQPError, OSError) as error:  # OSError: no such name
            log.warning("connection to RabbitMQ lost: %s", reason(error))
        except Exception:
            log.exception("unexpected error; connecting again")
        if not stop:
            time.sleep(RECONNECT_SECONDS)
    wiring.close()


if __name__ == "__main__":
    main()
