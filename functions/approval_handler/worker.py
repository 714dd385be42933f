"""The RabbitMQ trigger of approval: an always-on consumer of `order_approval`.

RabbitMQ cannot call a function, so this runs as a worker pool or similar. It also moves
the broker's dead letters to our table.
"""

import argparse
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import pika
from msgspec import Struct

from common import approval, failpoints, startup, wiring
from common.domain.events import STATUS_UPDATED
from common.errors import BusyError, DatabaseUnavailableError
from common.messaging import envelopes
from common.messaging.pending import PendingEvents
from common.publishing.rabbitmq_connection import (
    EXCHANGE,
    connection_parameters,
    reason,
)
from common.publishing.rabbitmq_received import Received, copied, install, received
from common.telemetry import logs

QUEUE = "order_approval"
DEAD_LETTERS = "order_approval.dead"  # an exchange and its queue
RELEASED = "order_approval.released"  # an exchange that routes to our queue only
DELIVERY_LIMIT = 20  # of redeliveries
PREFETCH = 8  # each of these counts one when the process is killed
RECONNECT_SECONDS = 2.0
RETRY_SECONDS = 1.0  # for the first pause; each is twice as long as the last
MAX_RETRY_SECONDS = 15.0
# After this, a message goes to the end of its queue. It must be less than the broker's
# consumer_timeout (30 minutes by default), which closes the channel.
HOLD_SECONDS = 300.0
RELEASE_SECONDS = 4
# Before it cancels, wait for deliveries in transit: pika rejects them, which counts.
DRAIN_SECONDS = 0.2
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
    """Declare our queue, its bindings, and the queue of its dead letters.

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
    channel.exchange_declare(RELEASED, exchange_type="fanout", durable=True)
    channel.queue_bind(QUEUE, RELEASED)


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


class _Source(Struct, frozen=True):
    """A queue, the exchange that routes only to it, and how to process its messages."""

    queue: str
    exchange: str
    handle: Handle
    prefetch: int


def consume(stop: list[bool]) -> None:
    """Process messages until `stop` is filled, or a queue or a channel is gone.

    Raise pika's errors if the connection breaks.
    """
    install(envelopes.MAX_EVENT_BYTES)
    connection = _connect()
    try:
        declare(connection.channel())
        consumers = [
            _Consumer(connection, _Source(QUEUE, RELEASED, approve, PREFETCH)),
            _Consumer(
                connection, _Source(DEAD_LETTERS, DEAD_LETTERS, keep_given_up, 1)
            ),
        ]
        log.info("consuming %s, %s", QUEUE, DEAD_LETTERS)
        while not stop and all(each.is_alive() for each in consumers):
            has_worked = [each.work() for each in consumers]
            connection.process_data_events(
                0 if any(has_worked) else SIGNAL_POLL_SECONDS
            )
        connection.sleep(DRAIN_SECONDS)
        for each in consumers:
            if each.is_alive():
                each.stop()
    finally:
        if connection.is_open:
            connection.close()  # unacknowledged messages go back to their queues


class _Consumer:
    """Processes messages of one queue one by one; holds those the database refuses.

    A held message is retried after growing pauses. It counts as prefetched, so an
    unavailable database stops consumption, and a locked order delays only itself.
    """

    def __init__(
        self,
        connection: Any,  # noqa: ANN401 pika's
        source: _Source,
    ) -> None:
        self._connection = connection
        self._source = source
        self._in_hand: list[Received] = []
        self._channel = connection.channel()
        self._channel.basic_qos(prefetch_count=source.prefetch)
        self._tag = self._channel.basic_consume(source.queue, self._receive)

    def is_alive(self) -> bool:
        """Return whether it still consumes a queue."""
        return bool(self._channel.is_open and self._channel.consumer_tags)

    def _receive(
        self,
        _: Any,  # noqa: ANN401 pika's
        delivery: Any,  # noqa: ANN401 pika's
        properties: Any,  # noqa: ANN401 pika's
        body: bytes,
    ) -> None:
        self._in_hand.append(received(delivery, properties, body))

    def work(self) -> bool:
        """Process the message that is due first; return whether there is one."""
        now = time.monotonic()
        message = min(self._in_hand, key=lambda each: each.due_at, default=None)
        if message is None or message.due_at > now:
            return False
        if now - message.received_at > HOLD_SECONDS:
            self._release([message])
            return True
        headers = message.headers
        with logs.request_context(
            headers.get("ce-id"),
            headers.get("traceparent"),
            headers.get("tracestate"),
            "approval_worker",
        ):
            self._handle(message)
        return True

    def _handle(self, message: Received) -> None:
        """Process a message, and acknowledge, hold or requeue it.

        A message that raises an unexpected error is redelivered until the broker's
        limit makes it a dead letter.
        """
        headers = envelopes.cut(message.headers, message.body, message.size)
        try:
            pending = self._source.handle(headers, message.body)
        except (BusyError, DatabaseUnavailableError) as error:
            pause = min(2 * message.pause_seconds or RETRY_SECONDS, MAX_RETRY_SECONDS)
            log.warning("message held for %g s: %s", pause, error.detail)
            message.pause_seconds = pause
            message.due_at = time.monotonic() + pause
            return
        except Exception:
            log.exception("message requeued after an unexpected error")
            self._connection.sleep(RETRY_SECONDS)  # pika sends heartbeats meanwhile
            # Every release counts a reject towards the limit; 4.3 no longer a nack.
            self._channel.basic_reject(message.tag, requeue=True)
            self._in_hand.remove(message)
            return
        failpoints.reach("acknowledge before")
        self._channel.basic_ack(message.tag)
        self._in_hand.remove(message)
        failpoints.reach("acknowledge after")
        wiring.relay().send(pending)

    def stop(self) -> None:
        """Stop consuming, and put unacknowledged messages back."""
        self._channel.basic_cancel(self._tag)
        self._release(list(self._in_hand))

    def _release(self, messages: list[Received]) -> None:
        """Put messages back at the end of their queue, as new messages.

        Before RabbitMQ 4.3, every other way counts towards the delivery limit.
        """
        copies = _publish(self._source.exchange, [m for m in messages if m.is_whole])
        for message in messages:
            if message in copies:
                self._channel.basic_ack(message.tag)
            else:
                self._channel.basic_nack(message.tag, requeue=True)
            self._in_hand.remove(message)


def _publish(exchange: str, messages: list[Received]) -> list[Received]:
    """Publish messages again; return those that were confirmed.

    This takes a connection of its own, because a broker that is short of memory blocks
    connections that publish, and acknowledgements with them.
    """
    confirmed: list[Received] = []
    if not messages:
        return confirmed
    try:
        with closing(_connect(RELEASE_SECONDS)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            for each in messages:
                channel.basic_publish(
                    exchange, each.routing_key, each.body, copied(each), mandatory=True
                )
                confirmed.append(each)
    except Exception as error:  # noqa: BLE001 also for values that cannot be encoded
        log.warning("messages are returned to the broker: %s", reason(error))
    return confirmed


def _connect(silence: float | None = None) -> Any:  # noqa: ANN401 pika's
    """Connect; after `silence` seconds without the broker, the connection ends."""
    broker = startup.settings().rabbitmq
    assert broker is not None, "config.load has checked it"
    parameters = connection_parameters(broker)
    if silence is not None:
        parameters.heartbeat = parameters.blocked_connection_timeout = silence
    return pika.BlockingConnection(parameters)


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
