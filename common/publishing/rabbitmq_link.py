"""A link to RabbitMQ: a connection, its one confirming channel, and its event loop.

Lives here: connecting, writing, what a confirm means, message properties. Not here:
who opens a link again (`rabbitmq.py`), frames (`amqp_frames.py`). Surprise: pika's loop
runs only inside calls, so nobody answers heartbeats in between; `has_closed` looks
whether the broker has hung up meanwhile.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from common import failpoints
from common.endpoints import RabbitMQ
from common.events import EXPECTED
from common.links import has_spoken, is_readable
from common.publishing import (
    THROUGH,
    Message,
    Outcome,
    Result,
    cloud_event_attributes,
    waves,
)
from common.publishing.amqp_frames import Encoder, Publication

if TYPE_CHECKING:
    import pika

EXCHANGE = "order_events"
APP_ID = "order-service"
CONNECT_TIMEOUT_SECONDS = 2.0
CLOSE_TIMEOUT_SECONDS = 0.5


class LinkError(Exception):
    """The broker is not there, or turned us away; nothing was sent."""


def connection_parameters(
    broker: RabbitMQ, patience: float = CONNECT_TIMEOUT_SECONDS
) -> "pika.ConnectionParameters":
    """Answer how to connect, with every wait bounded, by `patience` if that is less.

    Whoever speaks TLS shows a certificate for the broker's name, signed by an authority
    of `ca_file` or, without one, of this machine. Raises OSError if that is unreadable.
    """
    import pika  # noqa: PLC0415 70 ms of a cold start, and only where it is used

    ssl_options = None
    if broker.has_tls:
        import ssl  # noqa: PLC0415 only where it is used

        context = ssl.create_default_context(cafile=broker.ca_file)
        ssl_options = pika.SSLOptions(context, broker.host)
    return pika.ConnectionParameters(
        host=broker.host,
        port=broker.port,
        virtual_host=broker.vhost,
        credentials=pika.PlainCredentials(broker.user, broker.password),
        ssl_options=ssl_options,
        socket_timeout=min(patience, CONNECT_TIMEOUT_SECONDS),
        stack_timeout=min(patience, CONNECT_TIMEOUT_SECONDS),
        connection_attempts=1,
    )


class Link:
    """One connection with one confirming channel; its loop runs only inside calls."""

    def __init__(self, broker: RabbitMQ, patience: float) -> None:
        """Connect and declare the exchange within `patience`; raises LinkError."""
        import pika  # noqa: PLC0415 see connection_parameters

        self.is_blocked = False  # the broker has said that it reads no further
        self.is_spent = False  # late confirms are due that nobody waits for any more
        self._has_tls = broker.has_tls
        self._failure: str | None
        self._failure = None
        self._is_ready = False
        self._is_closing = False
        self._published = 0
        self._waiting: dict[int, Message] = {}
        self._results: dict[int, tuple[Result, str | None]] = {}
        self._unroutable: set[str] = set()
        deadline = time.monotonic() + patience
        try:
            parameters = connection_parameters(broker, patience)
        except OSError as error:
            raise LinkError(reason(error)) from error
        self._connection = pika.SelectConnection(
            parameters,
            on_open_callback=lambda c: c.channel(on_open_callback=self._on_channel),
            on_open_error_callback=self._on_failure,
            on_close_callback=self._on_failure,
        )
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)
        self._channel: Any = None
        try:
            self._run(lambda: self._is_ready, deadline - time.monotonic())
        except ValueError as error:  # pika's, of who hangs up as soon as we are through
            self._failure = reason(error)
        if not self._is_ready:
            failure: str | None = self._failure  # set by a callback meanwhile
            self.close()
            raise LinkError("no answer" if failure is None else failure)

    def has_closed(self) -> bool:
        """Let the loop read what has come meanwhile; tell whether it was the end."""
        transport = self._connection._transport  # noqa: SLF001 pika has no public way
        if transport is None or has_spoken(transport._sock):  # noqa: SLF001
            self._run(lambda: True, 0)
        return self._failure is not None or not self._channel.is_open

    def send(self, messages: Sequence[Message], patience: float) -> list[Outcome]:
        """Publish all, wait up to `patience` seconds, answer an outcome for each.

        What follows a message that was not confirmed is not tried. Afterwards the link
        is of no more use if it `is_spent`.
        """
        self._results.clear()
        self._unroutable.clear()
        deadline = time.monotonic() + patience
        held_back: set[int] = set()
        for wave in waves(messages):
            left = deadline - time.monotonic()
            if self._failure or self.is_blocked or left <= 0:
                break
            self._publish([m for m in wave if m.order_id not in held_back], left)
            held_back |= {m.order_id for m in wave if not self._has_gone(m)}
        not_tried = (Result.NOT_TRIED, None)
        return [Outcome(m.id, *self._results.get(m.id, not_tried)) for m in messages]

    def _publish(self, messages: Iterable[Message], patience: float) -> None:
        deadline = time.monotonic() + patience
        self._waiting.clear()
        ends: dict[int, int] = {}  # where in the stream each message's last byte is
        failpoints.reach("publish rabbitmq before")
        end = self._connection.bytes_sent
        frames = []
        for message in messages:
            self._published += 1
            self._waiting[self._published] = message
            frames.append(self._encoder.encode(_publication(message)))
            ends[message.id] = end = end + len(frames[-1])
        if frames:
            # All in one write: pika would make three system calls of each message.
            self._connection._output_marshaled_frames([b"".join(frames)])  # noqa: SLF001
            self._write()
        if self._unwritten():
            self._run(lambda: not self._unwritten(), patience, look_every=0.001)
        if not self._unwritten():
            failpoints.reach("publish rabbitmq after")
        failpoints.reach("confirm rabbitmq before")
        self._await_confirms(deadline)
        failpoints.reach("confirm rabbitmq after")
        if self._waiting:
            self._give_up(ends)

    def _await_confirms(self, deadline: float) -> None:
        """Read until all is confirmed, a failure, or `deadline`.

        What the loop would do, without its timers, of which none is due in between, and
        without building it up and down again: half of what a publish costs.
        """
        while self._waiting and self._failure is None and time.monotonic() < deadline:
            transport = self._connection._transport  # noqa: SLF001 as `_unwritten`
            if transport is None or self._has_tls:
                self._run(lambda: not self._waiting, deadline - time.monotonic())
            elif is_readable(transport._sock, deadline - time.monotonic()):  # noqa: SLF001
                transport._on_socket_readable()  # noqa: SLF001
                if transport._state != transport._STATE_ACTIVE:  # noqa: SLF001
                    self._run(lambda: True, 0)  # has it tell us why

    def _give_up(self, ends: dict[int, int]) -> None:
        """Settle what nobody confirmed: in doubt, unless it cannot have arrived whole.

        What is still unwritten never will be: `close` drops it.
        """
        unwritten = self._unwritten()
        written = self._connection.bytes_sent - unwritten
        # TLS may have sent part of a write that it does not count as begun.
        is_known = bool(unwritten) and not self._has_tls
        for message in self._waiting.values():
            if is_known and ends[message.id] > written:
                outcome = Result.UNAVAILABLE, "the broker reads no further"
            else:
                outcome = Result.UNCONFIRMED, self._failure or "no confirm in time"
            self._results[message.id] = outcome
        self.is_spent = bool(unwritten) or not self.is_blocked

    def _write(self) -> None:
        """Write what the socket takes now; the loop would first ask whether it does."""
        if transport := self._connection._transport:  # noqa: SLF001 as `_unwritten`
            transport._on_socket_writable()  # noqa: SLF001

    def _unwritten(self) -> int:
        """Answer how many bytes wait in this process; none where the link is gone."""
        # pika has no public way to tell.
        transport = self._connection._transport  # noqa: SLF001
        return transport.get_write_buffer_size() if transport else 0

    def _has_gone(self, message: Message) -> bool:
        result, _ = self._results.get(message.id, (Result.NOT_TRIED, None))
        return result in THROUGH

    def close(self) -> None:
        """Close in good order if the broker answers soon, else just let go."""
        self._is_closing = True
        if self._connection.is_open and not self._unwritten():
            self._connection.close()
            self._run(lambda: self._connection.is_closed, CLOSE_TIMEOUT_SECONDS)
        if not self._connection.is_closed:
            # pika has no public way to hang up on a broker that does not answer.
            self._connection._terminate_stream(LinkError("let go"))  # noqa: SLF001
            self._run(lambda: self._connection.is_closed, CLOSE_TIMEOUT_SECONDS)
        self._connection.ioloop.close()

    def _run(
        self,
        is_done: Callable[[], bool],
        patience: float,
        look_every: float = 0.05,
    ) -> None:
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
                timers[:] = [loop.call_later(min(look_every, patience), look)]

        self._look = look
        timers.append(loop.call_later(0, look))
        try:
            loop.start()
        finally:
            loop.remove_timeout(timers[0])
            self._look = lambda: None

    def _on_channel(self, channel: Any) -> None:  # noqa: ANN401 pika's
        self._channel = channel
        frame_max = self._connection.params.frame_max  # as agreed with the broker
        self._encoder = Encoder(EXCHANGE, APP_ID, channel.channel_number, frame_max)
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
            self._failure = reason(error)
        self._look()

    def _on_blocked(self, *_: object) -> None:
        self.is_blocked = True

    def _on_unblocked(self, *_: object) -> None:
        self.is_blocked = False

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


def reason(error: object) -> str:
    """Answer in one line what went wrong; pika's own words hold the address."""
    wrapped: object = error
    while wrapped is not None:
        error = wrapped
        causes = getattr(error, "exceptions", ()) or getattr(error, "args", ())
        causes = [getattr(error, "exception", None), *causes]
        wrapped = next((c for c in causes if isinstance(c, BaseException)), None)
    name = type(error).__name__
    has_words = isinstance(error, OSError) or hasattr(error, "reply_code")
    has_words |= name.startswith("Probable")
    said = " ".join(str(error).split()) if has_words else ""
    return f"{name}: {said}"[:300] if said else name


def _publication(message: Message) -> Publication:
    headers = cloud_event_attributes(message, "cloudEvents:")
    if message.traceparent:
        headers["traceparent"] = message.traceparent
    return Publication(
        type=message.type,
        body=message.body.encode(),
        headers=headers,
        message_id=message.event_id,
        timestamp=int(message.created_at.timestamp()),
        is_mandatory=message.type in EXPECTED,
    )
