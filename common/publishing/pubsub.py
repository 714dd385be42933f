"""Publish to a topic of Google Cloud Pub/Sub, in the order of each order's events.

Google's client only queues messages, and puts those of one ordering key into one RPC;
after a rejected RPC its messages are sent one by one, to find the one at fault.
"""

import concurrent.futures
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from common import failpoints
from common.config.endpoints import PubSub
from common.publishing.publisher import (
    AWAY,
    CONNECT_TIMEOUT_SECONDS,
    NOT_TRIED,
    SHORTEST_SECONDS,
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

if TYPE_CHECKING:
    import grpc  # type: ignore[import-untyped]
    from google.cloud.pubsub_v1 import PublisherClient  # type: ignore[import-untyped]

T = TypeVar("T")
Confirm = concurrent.futures.Future[str]

CONFIRM_TIMEOUT_SECONDS = 5.0
GRACE_SECONDS = 0.2  # by which gRPC's timeout comes before ours
SUBSCRIPTION_SECONDS = 0.02  # until gRPC's own thread notices the end of one
BATCH_SECONDS = 0.002  # how long the client waits for more messages for an RPC
BATCH_MESSAGES = 1000  # the most that an RPC may carry
LONGEST_BODY = 9_900_000  # of the 10,000,000 bytes of a whole request
_MEANINGS: dict[str, End] = {
    # The destination is at fault, not the event.
    "NOT_FOUND": (Result.UNAVAILABLE, "no such topic"),
    "PERMISSION_DENIED": (Result.UNAVAILABLE, "permission denied"),
    "UNAUTHENTICATED": (Result.UNAVAILABLE, "not authenticated"),
    "INVALID_ARGUMENT": (Result.REFUSED, "refused: invalid argument"),
    "FAILED_PRECONDITION": (Result.REFUSED, "refused: failed precondition"),
    "OUT_OF_RANGE": (Result.REFUSED, "refused: out of range"),
    "RESOURCE_EXHAUSTED": (Result.DEFERRED, "quota exhausted"),
}
# Texts of the client's and gRPC's errors after which nothing was sent.
_CANCELLED = "Batch cancelled because prior ordered message"
_UNSENT = {
    "Getting metadata from plugin failed": "no credentials",
    "failed to connect to all addresses": "no connection",
    "DNS resolution failed": "no connection",
}


class PubSubPublisher:
    """Publishes with the order's id as ordering key, and waits for every confirm."""

    def __init__(self, topic: PubSub) -> None:
        self._topic = f"projects/{topic.project}/topics/{topic.topic}"
        self._client: PublisherClient | None = None

    def publish(self, messages: Sequence[Message], deadline: float) -> list[Outcome]:
        """Send in order; see `Publisher.publish`."""
        ends: dict[int, End] = {}
        if messages and _has_time(deadline):
            try:
                batch = _Batch(self._ready(deadline), self._topic, deadline)
                ends = batch.publish(messages)
            except ConnectError as error:
                ends[messages[0].id] = (Result.UNAVAILABLE, str(error))
        if any(result in AWAY for result, _ in ends.values()):
            # Queued messages must not go out once their outcome is reported, and the
            # client's reconnect backoff must not delay our next attempt.
            self.close()
        return outcomes(messages, ends)

    def close(self) -> None:
        """Close the channel; the next `publish` opens another.

        The client's `stop` would send what is queued.
        """
        client, self._client = self._client, None
        if client is not None:
            client.transport.close()

    def _ready(self, deadline: float) -> "PublisherClient":
        """Return a client whose channel was opened successfully; raise ConnectError.

        A channel that has lost its connection reconnects by itself.
        """
        if self._client is None:
            self._client = _within(deadline - time.monotonic(), _make_client)
            timeout = min(deadline - time.monotonic(), CONNECT_TIMEOUT_SECONDS)
            if not _is_ready(self._client.transport.grpc_channel, timeout):
                time.sleep(SUBSCRIPTION_SECONDS)
                self.close()
                raise ConnectError("no connection")
        return self._client


class _Batch:
    """One call of `publish`: a client that is connected, and how each message ended."""

    def __init__(self, client: "PublisherClient", topic: str, deadline: float) -> None:
        self._client = client
        self._topic = topic
        self._deadline = deadline
        self._ends: dict[int, End] = {}

    def publish(self, messages: Iterable[Message]) -> dict[int, End]:
        """Send until all is sent, time is up, or the destination is unavailable."""
        held_back: set[int] = set()
        for batch in ordered_batches(messages):
            due = [m for m in batch if m.order_id not in held_back]
            too_long = [m for m in due if len(m.body.encode()) > LONGEST_BODY]
            self._ends |= {m.id: (Result.REFUSED, "too long") for m in too_long}
            fitting = [m for m in due if m.id not in self._ends]
            if not _has_time(self._deadline) or not self._send(fitting):
                break
            if not all(self._resend_each(group) for group in self._refused(fitting)):
                break
            held_back |= {m.order_id for m in due if not self._is_through(m)}
        return self._ends

    def _send(self, messages: Sequence[Message]) -> bool:
        """Send at once, wait for the confirms, return whether Pub/Sub is available.

        If it is not, only the first event is UNAVAILABLE; the others are NOT_TRIED.
        """
        timeout = min(self._deadline - time.monotonic(), CONFIRM_TIMEOUT_SECONDS)
        deadline = time.monotonic() + timeout
        failpoints.reach("publish pubsub before")
        confirms = [self._enqueue(m, timeout - GRACE_SECONDS) for m in messages]
        failpoints.reach("publish pubsub after")
        failpoints.reach("confirm pubsub before")
        ends = [_end(confirm, deadline) for confirm in confirms]
        failpoints.reach("confirm pubsub after")
        is_available = True
        for message, end in zip(messages, ends, strict=True):
            is_repeated = end[0] is Result.UNAVAILABLE and not is_available
            self._ends[message.id] = NOT_TRIED if is_repeated else end
            is_available &= end[0] not in AWAY
        if is_available:
            # A failure has paused its ordering key.
            for order_id in {m.order_id for m in messages if not self._is_through(m)}:
                self._client.resume_publish(self._topic, str(order_id))
        return is_available

    def _enqueue(self, message: Message, seconds: float) -> Confirm:
        """Pass it to the client, which sends it soon; return its future confirm."""
        try:
            confirm: Confirm = self._client.publish(
                self._topic,
                message.body.encode(),
                ordering_key=str(message.order_id),
                retry=None,  # the relay does that
                timeout=seconds,
                **_attributes(message),
            )
        except Exception as error:  # noqa: BLE001 any error leaves the event in doubt
            confirm = concurrent.futures.Future()
            confirm.set_exception(error)
        return confirm

    def _refused(self, messages: Iterable[Message]) -> list[list[Message]]:
        """Return each group of an order's events that were refused together."""
        groups: dict[int, list[Message]] = {}
        for message in messages:
            if not self._is_through(message):
                groups.setdefault(message.order_id, []).append(message)
        return [
            group
            for group in groups.values()
            if len(group) > 1 and self._ends[group[0].id][0] is Result.REFUSED
        ]

    def _resend_each(self, group: Sequence[Message]) -> bool:
        """Send a refused group one by one; return whether Pub/Sub is available."""
        self._ends |= dict.fromkeys((m.id for m in group[1:]), NOT_TRIED)
        for message in group:
            if not _has_time(self._deadline):
                break
            if not self._send([message]):
                return False
            if not self._is_through(message):
                break
        return True

    def _is_through(self, message: Message) -> bool:
        return self._ends[message.id][0] in THROUGH


def _has_time(deadline: float) -> bool:
    return deadline - time.monotonic() >= SHORTEST_SECONDS


def _make_client() -> "PublisherClient":
    """Find credentials and build a client, which does not connect yet.

    By default, channels to one address share their connections and reconnect backoff;
    a new channel would inherit the backoff of one that was just closed.
    """
    import grpc  # noqa: PLC0415 0.4 s of a cold start
    from google.cloud import pubsub_v1  # noqa: PLC0415

    default_transport = pubsub_v1.PublisherClient.get_transport_class("grpc")
    own_pool = [("grpc.use_local_subchannel_pool", 1)]

    class Transport(default_transport):  # type: ignore[misc,valid-type]
        def __init__(self, *, channel: Any = None, **settings: Any) -> None:  # noqa: ANN401 the vendor's
            if channel is None:
                super().__init__(**settings)
            else:  # an emulator's, which is not opened yet
                channel.close()
                plain = grpc.insecure_channel(settings["host"], options=own_pool)
                super().__init__(channel=plain, **settings)

        @classmethod
        def create_channel(
            cls,
            *arguments: Any,  # noqa: ANN401
            options: list[tuple[str, int]],
            **keywords: Any,  # noqa: ANN401
        ) -> Any:  # noqa: ANN401
            options = options + own_pool
            return super().create_channel(*arguments, options=options, **keywords)

    types = pubsub_v1.types
    return pubsub_v1.PublisherClient(
        transport=Transport,
        batch_settings=types.BatchSettings(
            max_latency=BATCH_SECONDS, max_messages=BATCH_MESSAGES
        ),
        publisher_options=types.PublisherOptions(enable_message_ordering=True),
    )


def _within(seconds: float, make: Callable[[], T]) -> T:
    """Return the result of `make`; raise ConnectError if it fails or takes too long.

    Without credentials in the environment the vendor's library looks for a metadata
    server for as long as ten seconds.
    """
    made: queue.SimpleQueue[T | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            made.put(make())
        except Exception as error:  # noqa: BLE001 raised by the waiting thread
            made.put(error)

    threading.Thread(target=run, name="pubsub-client", daemon=True).start()
    try:
        result = made.get(timeout=max(0.0, seconds))
    except queue.Empty:
        raise ConnectError("no credentials in time") from None
    if isinstance(result, Exception):
        raise ConnectError(type(result).__name__) from result
    return result


def _is_ready(channel: "grpc.Channel", seconds: float) -> bool:
    """Return whether the channel is open, opening it if need be."""
    from grpc import ChannelConnectivity as States  # noqa: PLC0415 see _make_client

    states: queue.SimpleQueue[States] = queue.SimpleQueue()
    deadline = time.monotonic() + seconds
    channel.subscribe(states.put, try_to_connect=True)
    try:
        while True:
            state = states.get(timeout=max(0.0, deadline - time.monotonic()))
            if state is States.READY:
                return True
            if state in (States.TRANSIENT_FAILURE, States.SHUTDOWN):
                return False
    except queue.Empty:
        return False
    finally:
        channel.unsubscribe(states.put)


def _attributes(message: Message) -> dict[str, str]:
    """Return our attributes, and those of a CloudEvent in binary mode.

    An unwrapped push sends them as headers, which makes its request a CloudEvent.
    """
    attributes = {
        "event_type": message.type,
        "event_id": message.event_id,
        "order_id": str(message.order_id),
        "content-type": "application/json",
    }
    if message.traceparent:
        attributes["traceparent"] = message.traceparent
    return attributes | cloud_event_attributes(message, "ce-")


def _end(confirm: Confirm, deadline: float) -> End:
    """Wait for the confirm and return how the attempt ended."""
    try:
        error = confirm.exception(max(0.0, deadline - time.monotonic()))
    except concurrent.futures.TimeoutError:
        return Result.UNCONFIRMED, "no confirm in time"
    return (Result.SENT, None) if error is None else meaning(error)


def meaning(error: BaseException) -> End:
    """Return how an attempt ended that raised this error of the client."""
    kind, text = type(error).__name__, str(error)
    if kind == "PublishToPausedOrderingKeyException" or _CANCELLED in text:
        return NOT_TRIED
    for pattern, reason in _UNSENT.items():
        if pattern in text:
            return Result.UNAVAILABLE, reason
    code = getattr(getattr(error, "grpc_status_code", None), "name", "")
    return _MEANINGS.get(code, (Result.UNCONFIRMED, kind))
