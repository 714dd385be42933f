"""Approval's trigger from RabbitMQ: consumes the queue `order_approval`, always on.

RabbitMQ cannot call a function, so this runs as a worker pool or similar. It also moves
the broker's dead letters into our table.
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
DELIVERY_LIMIT = 20  # how often a message may come back
PREFETCH = 16
RECONNECT_SECONDS = 2.0
RETRY_SECONDS = 1.0
LOOK_SECONDS = 0.5

SETTINGS = """\
settings, from the environment:
  DATABASE_URL         or POSTGRES_HOST, _PORT, _DB, _USER, _PASSWORD
  RABBITMQ_URL         or RABBITMQ_HOST, _PORT, _USER, _PASS, _VHOST, _TLS
  RABBITMQ_CA_FILE     the authority behind the broker's certificate
  EVENT_BUS            where an approval is announced, and that bus's own settings
  ANALYTIC_SERVICE     told of an approval at once where it is set, else by the relay
  LOG_LEVEL            DEBUG, INFO, WARNING or ERROR

SIGTERM and SIGINT stop it once the message in hand is done.
"""

log = logs.get("approval.worker")

# Does what is due about a message, and answers what is to be sent now, if anything is.
Handle = Callable[[Mapping[str, str], bytes], PendingEvents | None]


def declare(channel: Any) -> None:  # noqa: ANN401 pika's
    """Declare our queue, its binding, and where its dead letters go.

    `infra/rabbitmq/definitions.json` says the same; a broker refuses what differs.
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
    """Take one event from our queue; what that owes is sent once it is acknowledged."""
    bus = wiring.bus(claims=False)
    return approval.take(wiring.engine(), headers, body, bus)


def bury(headers: Mapping[str, str], body: bytes) -> None:
    """Take one message that the broker has given up."""
    if headers.get("x-first-death-reason") == "delivery_limit":
        # RabbitMQ drops the count when the limit is passed. The name is Pub/Sub's.
        count = {"cloudpubsubdeadlettersourcedeliverycount": str(DELIVERY_LIMIT + 1)}
        headers = {**headers, **count}
    approval.keep_given_up(wiring.engine(), headers, body)


HANDLES: Mapping[str, Handle] = {QUEUE: approve, DEAD_LETTERS: bury}


def consume(stop: list[bool]) -> None:
    """Take messages until `stop` says so, or a queue or the channel has gone away.

    Raise pika's errors when the link breaks.
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
            connection.process_data_events(time_limit=LOOK_SECONDS)
    finally:
        if connection.is_open:
            connection.close()  # what is not acknowledged goes back to its queue


class _Consumer:
    """Handles messages of one queue, one by one; what fails goes back after a pause."""

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
        """Handle one message, unless we are to stop: then it goes to the next worker.

        A message that we have a defect with comes back, until the broker's limit makes
        it a dead letter.
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
        """Wait until a redelivery helps, or it would only spend the delivery limit."""
        while not self._stop:
            connection.sleep(RETRY_SECONDS)  # answers heartbeats meanwhile
            with suppress(ServiceError):
                wiring.check_ready()
                return


def headers_of(delivery: Any, properties: Any) -> dict[str, str]:  # noqa: ANN401 pika's
    """Return a message's headers as HTTP would have them, by lower-case name.

    CloudEvents' attributes are `ce-…`, with what else the message says in their place.
    """
    given = properties.headers or {}
    headers = {_text(name).lower(): _text(value) for name, value in given.items()}
    for name in [name for name in headers if name.startswith("cloudevents")]:
        prefix, attribute = name[:12], name[12:]
        if prefix in ("cloudevents:", "cloudevents_"):  # AMQP's binding has both
            headers[f"ce-{attribute}"] = headers.pop(name)
    known = {
        "ce-id": properties.message_id,
        "ce-type": properties.type or delivery.routing_key,
    }
    for name, value in known.items():
        if value:
            headers.setdefault(name, _text(value))
    headers["content-type"] = _text(properties.content_type or "application/json")
    encoding = _text(properties.content_encoding or "")
    if encoding.lower() not in ("", "utf-8"):  # a charset is often put there
        headers["content-encoding"] = encoding
    return headers


def _text(value: object) -> str:
    # pika gives bytes where it expected UTF-8 and found something else.
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


class _Properties(pika.BasicProperties):  # type: ignore[misc] # it has no types
    """Properties of which some cannot be decoded, such as a date in the year 50 000.

    pika would break the link at each delivery, and so never get past such a message.
    """

    def decode(self, encoded: bytes, offset: int = 0) -> "_Properties":
        """Decode what can be; without more ado where something cannot."""
        try:
            super().decode(encoded, offset)
        except Exception as error:  # noqa: BLE001 whatever a publisher made it raise
            log.warning("a message's properties cannot be read: %s", error)
            self.headers = {"x-undecoded": encoded.hex()}
        return self


def main(argv: Sequence[str] | None = None) -> None:
    """Consume until SIGTERM or SIGINT, connecting again whenever the link breaks."""
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
