"""Publishes to RabbitMQ's topic exchange `order_events`, with publisher confirms.

Lives here: the link, message properties, what a confirm means. Not here: queues, which
belong to their consumers. Surprise: pika's event loop runs only inside `publish`, so
nobody answers heartbeats in between; each publish first looks whether the broker has
hung up, and opens the link again if so.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from common.config import RabbitMQ
from common.events import EXPECTED, ITEM_CREATED
from common.publishing import (
    SHORTEST_SECONDS,
    THROUGH,
    Message,
    Outcome,
    Result,
    cloud_event_attributes,
)

if TYPE_CHECKING:
    import pika

EXCHANGE = "order_events"
APP_ID = "order-service"
CONNECT_TIMEOUT_SECONDS = 2.0
CONFIRM_TIMEOUT_SECONDS = 5.0
CLOSE_TIMEOUT_SECONDS = 0.5


class LinkError(Exception):
    """The broker is not there, or turned us away; nothing was sent."""


def connection_parameters(broker: RabbitMQ) -> "pika.ConnectionParameters":
    """Answer how to connect, with every wait bounded."""
    import pika  # noqa: PLC0415 70 ms of a cold start, and only where it is used

    return pika.ConnectionParameters(
        host=broker.host,
        port=broker.port,
        credentials=pika.PlainCredentials(broker.user, broker.password),
        socket_timeout=CONNECT_TIMEOUT_SECONDS,
        stack_timeout=CONNECT_TIMEOUT_SECONDS,
        blocked_connection_timeout=CONFIRM_TIMEOUT_SECONDS,
        connection_attempts=1,
    )


class RabbitMQPublisher:
    """Publishes what may go together at once, and waits for those confirms together."""

    def __init__(self, broker: RabbitMQ) -> None:
        self._broker = broker
        self._link: _Link | None = None

    def publish(self, messages: Sequence[Message], deadline: float) -> list[Outcome]:
        """Send in order; see `Publisher.publish`."""
        try:
            if self._link is None or self._link.has_closed():
                self.close()
                self._link = _Link(self._broker)
        except LinkError as error:
            lost = Outcome(messages[0].id, Result.UNAVAILABLE, str(error))
            rest = [Outcome(m.id, Result.NOT_TRIED) for m in messages[1:]]
            return [lost, *rest]
        patience = deadline - time.monotonic()
        if patience < SHORTEST_SECONDS:
            return [Outcome(m.id, Result.NOT_TRIED) for m in messages]
        outcomes = self._link.send(messages, min(patience, CONFIRM_TIMEOUT_SECONDS))
        if any(outcome.result is Result.UNCONFIRMED for outcome in outcomes):
            self.close()  # late confirms must not be taken for the next batch's
        return outcomes

    def close(self) -> None:
        """Close the link; the next `publish` opens another."""
        link, self._link = self._link, None
        if link is not None:
            link.close()


class _Link:
    """One connection with one confirming channel; its loop runs only inside calls."""

    def __init__(self, broker: RabbitMQ) -> None:
        """Connect and declare the exchange; raises LinkError."""
        import pika  # noqa: PLC0415 see connection_parameters

        self._failure: str | None
        self._failure = None
        self._is_ready = False
        self._is_closing = False
        self._published = 0
        self._waiting: dict[int, Message] = {}
        self._results: dict[int, tuple[Result, str | None]] = {}
        self._unroutable: set[str] = set()
        self._connection = pika.SelectConnection(
            connection_parameters(broker),
            on_open_callback=lambda c: c.channel(on_open_callback=self._on_channel),
            on_open_error_callback=self._on_failure,
            on_close_callback=self._on_failure,
        )
        self._channel: Any = None
        self._run(lambda: self._is_ready, CONNECT_TIMEOUT_SECONDS)
        if not self._is_ready:
            failure: str | None = self._failure  # set by a callback meanwhile
            self.close()
            raise LinkError("no answer" if failure is None else failure)

    def has_closed(self) -> bool:
        """Let the loop look at the socket once, and tell whether the link is gone."""
        self._run(lambda: True, 0)
        return self._failure is not None or not self._channel.is_open

    def send(self, messages: Sequence[Message], patience: float) -> list[Outcome]:
        """Publish all, wait up to `patience` seconds, answer an outcome for each.

        What follows a message that was not confirmed is not tried.
        """
        self._results.clear()
        self._unroutable.clear()
        deadline = time.monotonic() + patience
        held_back: set[int] = set()
        for wave in _waves(messages):
            left = deadline - time.monotonic()
            if self._failure or left <= 0:
                break
            self._publish([m for m in wave if m.order_id not in held_back], left)
            held_back |= {m.order_id for m in wave if not self._has_gone(m)}
        not_tried = (Result.NOT_TRIED, None)
        return [Outcome(m.id, *self._results.get(m.id, not_tried)) for m in messages]

    def _publish(self, messages: Iterable[Message], patience: float) -> None:
        self._waiting.clear()
        for message in messages:
            self._published += 1
            self._waiting[self._published] = message
            self._channel.basic_publish(
                EXCHANGE,
                message.type,
                message.body.encode(),
                properties=_properties(message),
                mandatory=message.type in EXPECTED,
            )
        self._run(lambda: not self._waiting, patience)
        why = self._failure or "no confirm in time"
        for message in self._waiting.values():
            self._results[message.id] = (Result.UNCONFIRMED, why)

    def _has_gone(self, message: Message) -> bool:
        result, _ = self._results.get(message.id, (Result.NOT_TRIED, None))
        return result in THROUGH

    def close(self) -> None:
        """Close in good order if the broker answers soon, else just let go."""
        self._is_closing = True
        if self._connection.is_open:
            self._connection.close()
            self._run(lambda: self._connection.is_closed, CLOSE_TIMEOUT_SECONDS)
        if not self._connection.is_closed:
            # pika has no public way to hang up on a broker that does not answer.
            self._connection._terminate_stream(LinkError("let go"))  # noqa: SLF001
            self._run(lambda: self._connection.is_closed, CLOSE_TIMEOUT_SECONDS)
        self._connection.ioloop.close()

    def _run(self, is_done: Callable[[], bool], patience: float) -> None:
        """Run the loop until `is_done`, a failure, or `patience` seconds passed."""
        loop = self._connection.ioloop
        deadline = time.monotonic() + patience
        timers: list[object] = []

        def look() -> None:
            # That the channel closes is no failure of a link that is being closed.
            has_failed = self._failure is not None and not self._is_closing
            if is_done() or has_failed or time.monotonic() >= deadline:
                loop.stop()
            else:
                timers[:] = [loop.call_later(min(0.05, patience), look)]

        self._look = look
        timers.append(loop.call_later(0, look))
        try:
            loop.start()
        finally:
            loop.remove_timeout(timers[0])
            self._look = lambda: None

    def _on_channel(self, channel: Any) -> None:  # noqa: ANN401 pika's
        self._channel = channel
        channel.add_on_close_callback(self._on_failure)
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm)
        channel.exchange_declare(
            EXCHANGE, exchange_type="topic", durable=True, callback=self._on_exchange
        )

    def _on_exchange(self, _frame: object) -> None:
        self._is_ready = True
        self._look()

    def _on_failure(self, _source: object, error: object) -> None:
        if self._failure is None:
            self._failure = type(error).__name__
        self._look()

    def _on_return(self, *returned: Any) -> None:  # noqa: ANN401 pika's
        _channel, _method, properties, _body = returned
        self._unroutable.add(properties.message_id)

    def _on_confirm(self, frame: Any) -> None:  # noqa: ANN401 pika's
        method = frame.method
        tag = method.delivery_tag
        tags = [t for t in self._waiting if t <= tag] if method.multiple else [tag]
        for each in tags:
            message = self._waiting.pop(each, None)
            if message is None:
                continue
            if method.NAME == "Basic.Nack":
                self._results[message.id] = (Result.REFUSED, "refused by the broker")
            elif message.event_id in self._unroutable:
                self._results[message.id] = (Result.UNROUTABLE, "no queue is bound")
            else:
                self._results[message.id] = (Result.SENT, None)
        if not self._waiting:
            self._look()


def _waves(messages: Iterable[Message]) -> list[list[Message]]:
    """Split into what may be published side by side, in the order it must go.

    An order's event waits for the confirm of the one before: it may be refused. Only
    its items are announced together; a cart of a hundred lines is two waits, not 101.
    """
    waves: list[list[Message]] = []
    last: dict[int, tuple[int, str]] = {}
    for message in messages:
        number, before = last.get(message.order_id, (-1, ""))
        if number < 0 or not before == message.type == ITEM_CREATED:
            number += 1
        last[message.order_id] = (number, message.type)
        if number == len(waves):
            waves.append([])
        waves[number].append(message)
    return waves


def _properties(message: Message) -> "pika.BasicProperties":
    import pika  # noqa: PLC0415 see connection_parameters

    headers = cloud_event_attributes(message, "cloudEvents:")
    if message.traceparent:
        headers["traceparent"] = message.traceparent
    return pika.BasicProperties(
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=pika.DeliveryMode.Persistent.value,
        message_id=message.event_id,
        timestamp=int(message.created_at.timestamp()),
        type=message.type,
        app_id=APP_ID,
        headers=headers,
    )
