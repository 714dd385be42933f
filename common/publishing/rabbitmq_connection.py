"""One connection to RabbitMQ: its channel, writing, and the meaning of confirms.

pika's loop runs only inside calls, so that publishing needs no thread. Between calls
heartbeats go unanswered, and `is_usable` returns whether that took too long.
"""

import contextlib
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pika
from pika.adapters.select_connection import IOLoop
from pika.adapters.utils.nbio_interface import AbstractStreamTransport
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter

from common import failpoints
from common.config.endpoints import RabbitMQ
from common.domain.events import EXPECTED
from common.publishing.publisher import (
    CONNECT_TIMEOUT_SECONDS,
    NOT_TRIED,
    THROUGH,
    ConnectError,
    End,
    Message,
    Outcome,
    Result,
    cloud_event_attributes,
    ordered_batches,
    outcomes,
)

EXCHANGE = "order_events"
APP_ID = "order-service"
CLOSE_TIMEOUT_SECONDS = 0.5
HEARTBEAT_SECONDS = 60  # assumed if the broker has heartbeats disabled


def connection_parameters(
    broker: RabbitMQ, timeout: float = CONNECT_TIMEOUT_SECONDS
) -> pika.ConnectionParameters:
    """Return pika's parameters, with timeouts of at most `timeout` seconds.

    With TLS, the certificate must be for the host, by an authority of `ca_file`
    or of this machine. Raise OSError if `ca_file` is unreadable.
    """
    ssl_options = None
    if broker.has_tls:
        context = ssl.create_default_context(cafile=broker.ca_file)
        ssl_options = pika.SSLOptions(context, broker.host)
    return pika.ConnectionParameters(
        host=broker.host,
        port=broker.port,
        virtual_host=broker.vhost,
        credentials=pika.PlainCredentials(broker.user, broker.password),
        ssl_options=ssl_options,
        socket_timeout=min(timeout, CONNECT_TIMEOUT_SECONDS),
        stack_timeout=min(timeout, CONNECT_TIMEOUT_SECONDS),
        connection_attempts=1,
    )


class _Transport(AbstractStreamTransport):  # type: ignore[misc] # pika has no types
    """pika's transport, but writes are buffered until `flush`.

    pika makes three small writes for a message, each of which would be a packet.
    """

    def __init__(self, transport: AbstractStreamTransport) -> None:
        self._transport = transport
        self._buffered: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._buffered.append(data)

    def flush(self) -> None:
        """Pass what is buffered to pika, which writes it as soon as it can."""
        if self._buffered:
            self._transport.write(b"".join(self._buffered))
            self._buffered.clear()

    def get_write_buffer_size(self) -> int:
        buffered = sum(map(len, self._buffered))
        return buffered + int(self._transport.get_write_buffer_size())

    def abort(self) -> None:
        self._transport.abort()

    def get_protocol(self) -> Any:  # noqa: ANN401 pika's
        return self._transport.get_protocol()


class _Services(SelectorIOServicesAdapter):  # type: ignore[misc] # pika has no types
    """pika's I/O services with a `_Transport`; a connection's `custom_ioloop`."""

    transport: _Transport | None = None

    def create_streaming_connection(
        self,
        protocol_factory: Callable[[], Any],
        *arguments: Any,  # noqa: ANN401 pika's
        **keywords: Any,  # noqa: ANN401 pika's
    ) -> Any:  # noqa: ANN401 pika's
        def make_protocol() -> Any:  # noqa: ANN401 pika's
            protocol = protocol_factory()
            connection_made = protocol.connection_made

            def wrap(transport: AbstractStreamTransport) -> None:
                self.transport = _Transport(transport)
                connection_made(self.transport)

            protocol.connection_made = wrap
            return protocol

        create = super().create_streaming_connection
        return create(make_protocol, *arguments, **keywords)


class Connection:
    """A connection with one confirming channel; its loop runs only inside calls."""

    def __init__(self, broker: RabbitMQ, timeout: float) -> None:
        """Connect and declare the exchange within `timeout`; raise ConnectError."""
        self.is_blocked = False  # by the broker, which stopped reading
        self.is_spent = False  # confirms may still arrive that came too late
        self._has_tls = broker.has_tls
        self._failure: str | None = None
        self._is_ready = self._is_silent = False
        self._heard_at = time.monotonic()
        self._received = 0  # bytes until `_heard_at`
        self._published = 0
        self._waiting: dict[int, Message] = {}
        self._results: dict[int, End] = {}
        self._unroutable: set[str] = set()
        self._channel: Any = None
        deadline = time.monotonic() + timeout
        try:
            parameters = connection_parameters(broker, timeout)
        except OSError as error:
            raise ConnectError(reason(error)) from error
        self._loop = IOLoop()
        self._loop.activate_poller()
        self._services = _Services(self._loop)
        self._connection = pika.SelectConnection(
            parameters,
            on_open_callback=lambda c: c.channel(on_open_callback=self._on_channel),
            on_open_error_callback=self._on_failure,
            on_close_callback=self._on_failure,
            custom_ioloop=self._services,
        )
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)
        try:
            self._run(lambda: self._is_ready or self._failure is not None, deadline)
        except ValueError as error:  # pika's, if the peer closes at once
            self._failure = reason(error)
        if not self._is_ready:
            failure: str | None = self._failure  # set by a callback meanwhile
            self.close()
            raise ConnectError("no answer" if failure is None else failure)

    def is_usable(self) -> bool:
        """Read what has arrived; return whether the broker can be expected to confirm.

        A broker that has received nothing for two heartbeats closes the connection,
        which a network may fail to report. A blocked one that still sends stays open.
        """
        heard_at = self._heard_at
        self._turn(0)
        if self.is_blocked:
            heard_at = self._heard_at
        heartbeat = self._connection.params.heartbeat or HEARTBEAT_SECONDS
        self._is_silent = time.monotonic() - heard_at > 2 * heartbeat
        is_open = self._failure is None and self._channel.is_open
        return is_open and not self._is_silent

    def publish(self, messages: Sequence[Message], timeout: float) -> list[Outcome]:
        """Publish all, wait up to `timeout` seconds, return an outcome for each.

        After a message that was not confirmed, later ones of its order are not tried.
        If the connection `is_spent` afterwards, it cannot be used again.
        """
        self._results.clear()
        self._unroutable.clear()
        deadline = time.monotonic() + timeout
        held_back: set[int] = set()
        for batch in ordered_batches(messages):
            if self._failure or self.is_blocked or time.monotonic() >= deadline:
                break
            self._publish([m for m in batch if m.order_id not in held_back], deadline)
            for message in batch:
                if self._results.get(message.id, NOT_TRIED)[0] not in THROUGH:
                    held_back.add(message.order_id)
        return outcomes(messages, self._results)

    def _publish(self, messages: Iterable[Message], deadline: float) -> None:
        self._waiting.clear()
        ends: dict[int, int] = {}  # position in the stream after each message
        failpoints.reach("publish rabbitmq before")
        for message in messages:
            self._published += 1
            self._waiting[self._published] = message
            self._channel.basic_publish(
                EXCHANGE,
                message.type,
                message.body.encode(),
                _properties(message),
                mandatory=message.type in EXPECTED,
            )
            ends[message.id] = self._connection.bytes_sent
        self._run(lambda: not self._unwritten(), deadline)
        if not self._unwritten():
            failpoints.reach("publish rabbitmq after")
        failpoints.reach("confirm rabbitmq before")
        self._run(lambda: not self._waiting or self._failure is not None, deadline)
        failpoints.reach("confirm rabbitmq after")
        if self._waiting:
            self._give_up(ends)

    def _give_up(self, ends: dict[int, int]) -> None:
        """Record messages as in doubt, unless their end was not written."""
        unwritten = self._unwritten()
        written = self._connection.bytes_sent - unwritten
        # TLS may have sent part of a write that still counts as unwritten.
        is_known = bool(unwritten) and not self._has_tls
        for message in self._waiting.values():
            if is_known and ends[message.id] > written:
                outcome = Result.UNAVAILABLE, "the broker reads no further"
            else:
                outcome = Result.UNCONFIRMED, self._failure or "no confirm in time"
            self._results[message.id] = outcome
        self.is_spent = bool(unwritten) or not self.is_blocked

    def _unwritten(self) -> int:
        """Return how many bytes are buffered in this process; 0 if it is closed."""
        transport = self._services.transport
        if transport is None or not self._connection.is_open:
            return 0
        return transport.get_write_buffer_size()

    def close(self) -> None:
        """Close gracefully if the broker responds soon, else abort."""
        connection = self._connection

        def is_closed() -> bool:
            return bool(connection.is_closed)

        is_orderly = connection.is_open and not (self._unwritten() or self._is_silent)
        # pika raises one after closing everything, if it was still connecting.
        with contextlib.suppress(AssertionError):
            if not (connection.is_closing or connection.is_closed):
                connection.close()
            if is_orderly:
                self._run(is_closed, time.monotonic() + CLOSE_TIMEOUT_SECONDS)
            if not connection.is_closed and self._services.transport:
                self._services.transport.abort()
            self._run(is_closed, time.monotonic() + CLOSE_TIMEOUT_SECONDS)
        self._loop.close()

    def _run(self, is_done: Callable[[], bool], deadline: float) -> None:
        """Run the loop until `is_done` or `deadline`."""
        while not is_done() and (left := deadline - time.monotonic()) > 0:
            self._turn(left)

    def _turn(self, seconds: float) -> None:
        """Wait up to `seconds` for an event, and let pika handle it."""
        timer = self._loop.call_later(seconds, lambda: None)
        if self._services.transport is not None:
            self._services.transport.flush()
        self._loop.poll()
        self._loop.process_timeouts()
        self._loop.remove_timeout(timer)
        if self._connection.bytes_received != self._received:
            self._received = self._connection.bytes_received
            self._heard_at = time.monotonic()

    def _on_channel(self, channel: Any) -> None:  # noqa: ANN401 pika's
        self._channel = channel
        channel.add_on_close_callback(self._on_failure)
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm)
        channel.exchange_declare(
            EXCHANGE, exchange_type="topic", durable=True, callback=self._on_ready
        )

    def _on_ready(self, _frame: object) -> None:
        self._is_ready = True

    def _on_failure(self, _source: object, error: object) -> None:
        if self._failure is None:
            self._failure = reason(error)

    def _on_blocked(self, *_: object) -> None:
        self.is_blocked = True

    def _on_unblocked(self, *_: object) -> None:
        self.is_blocked = False

    def _on_return(self, *returned: Any) -> None:  # noqa: ANN401 pika's
        self._unroutable.add(returned[2].message_id)  # of its properties

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


def reason(error: object) -> str:
    """Return in one line what went wrong, without the address in pika's own text."""
    wrapped: object = error
    while wrapped is not None:
        error = wrapped
        causes = getattr(error, "exceptions", ()) or getattr(error, "args", ())
        causes = [getattr(error, "exception", None), *causes]
        wrapped = next((c for c in causes if isinstance(c, BaseException)), None)
    name = type(error).__name__
    is_text_safe = isinstance(error, OSError) or hasattr(error, "reply_code")
    is_text_safe |= name.startswith("Probable")
    text = " ".join(str(error).split()) if is_text_safe else ""
    return f"{name}: {text}"[:300] if text else name


def _properties(message: Message) -> pika.BasicProperties:
    headers = cloud_event_attributes(message, "cloudEvents:")
    if message.traceparent:
        headers["traceparent"] = message.traceparent
    return pika.BasicProperties(
        content_type="application/json",
        content_encoding="utf-8",
        headers=headers,
        delivery_mode=pika.DeliveryMode.Persistent.value,
        message_id=message.event_id,
        timestamp=int(message.created_at.timestamp()),
        type=message.type,
        app_id=APP_ID,
    )
