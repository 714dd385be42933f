"""Publish to a topic of Google Cloud Pub/Sub, in the order of each order's events.

Google's client only queues, and one RPC carries what one order publishes together;
after a rejected RPC its events go one by one, to find the one at fault.
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
    outcomes,
    waves,
)

if TYPE_CHECKING:
    import grpc  # type: ignore[import-untyped]
    from google.cloud.pubsub_v1 import PublisherClient  # type: ignore[import-untyped]

T = TypeVar("T")
Confirm = concurrent.futures.Future[str]

CONFIRM_TIMEOUT_SECONDS = 5.0
GRACE_SECONDS = 0.2  # gRPC's own word on a time-out comes before ours
SUBSCRIPTION_SECONDS = 0.02  # gRPC's own thread needs to see that one has ended
GATHER_SECONDS = 0.002  # how long the client looks for more to put into an RPC
GATHERED = 1000  # the most that an RPC may carry
LONGEST_BODY = 9_900_000  # of 10,000,000 bytes that a request may have in all
_MEANINGS: dict[str, End] = {
    # The destination's trouble, and never an event's.
    "NOT_FOUND": (Result.UNAVAILABLE, "no such topic"),
    "PERMISSION_DENIED": (Result.UNAVAILABLE, "permission denied"),
    "UNAUTHENTICATED": (Result.UNAVAILABLE, "not authenticated"),
    "INVALID_ARGUMENT": (Result.REFUSED, "refused: invalid argument"),
    "FAILED_PRECONDITION": (Result.REFUSED, "refused: failed precondition"),
    "OUT_OF_RANGE": (Result.REFUSED, "refused: out of range"),
    "RESOURCE_EXHAUSTED": (Result.DEFERRED, "quota exhausted"),
}
# None of these left, in the client's and in gRPC's own words.
_CANCELLED = "Batch cancelled because prior ordered message"
_UNSENT = {
    "Getting metadata from plugin failed": "no credentials",
    "failed to connect to all addresses": "no connection",
    "DNS resolution failed": "no connection",
}


class PubSubPublisher:
    """Publishes with the order's id as ordering key, and waits for every confirm."""

    def __init__(self, where: PubSub) -> None:
        self._topic = f"projects/{where.project}/topics/{where.topic}"
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
            # Nothing that the client still holds may go out after we have spoken; and
            # its pauses between attempts to connect are not to delay our next one.
            self.close()
        return outcomes(messages, ends)

    def close(self) -> None:
        """Close the channel; the next `publish` opens another.

        Not by the client's `stop`, which would send what is queued.
        """
        client, self._client = self._client, None
        if client is not None:
            client.transport.close()

    def _ready(self, deadline: float) -> "PublisherClient":
        """Return a client whose channel has been open; raise ConnectError.

        A channel that has lost its connection opens another by itself.
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
        """Send wave by wave, until there is no time or nobody there any more."""
        held_back: set[int] = set()
        for wave in waves(messages):
            due = [m for m in wave if m.order_id not in held_back]
            too_long = [m for m in due if len(m.body.encode()) > LONGEST_BODY]
            self._ends |= {m.id: (Result.REFUSED, "too long") for m in too_long}
            fitting = [m for m in due if m.id not in self._ends]
            if not _has_time(self._deadline) or not self._send(fitting):
                break
            if not all(self._find_culprit(group) for group in self._refused(fitting)):
                break
            held_back |= {m.order_id for m in due if not self._has_gone(m)}
        return self._ends

    def _send(self, messages: Sequence[Message]) -> bool:
        """Send side by side and wait for the confirms; tell whether anybody is there.

        That a batch found nobody is said once, of its first event.
        """
        timeout = min(self._deadline - time.monotonic(), CONFIRM_TIMEOUT_SECONDS)
        until = time.monotonic() + timeout
        failpoints.reach("publish pubsub before")
        handed = [self._hand_over(m, timeout - GRACE_SECONDS) for m in messages]
        failpoints.reach("publish pubsub after")
        failpoints.reach("confirm pubsub before")
        ends = [_end(confirm, until) for confirm in handed]
        failpoints.reach("confirm pubsub after")
        is_there = True
        for message, end in zip(messages, ends, strict=True):
            is_repeated = end[0] is Result.UNAVAILABLE and not is_there
            self._ends[message.id] = NOT_TRIED if is_repeated else end
            is_there &= end[0] not in AWAY
        if is_there:
            # What failed has paused its key.
            for order_id in {m.order_id for m in messages if not self._has_gone(m)}:
                self._client.resume_publish(self._topic, str(order_id))
        return is_there

    def _hand_over(self, message: Message, seconds: float) -> Confirm:
        """Give it to the client, which sends it soon; return what will be known."""
        try:
            confirm: Confirm = self._client.publish(
                self._topic,
                message.body.encode(),
                ordering_key=str(message.order_id),
                retry=None,  # that is the outbox's
                timeout=seconds,
                **_attributes(message),
            )
        except Exception as error:  # noqa: BLE001 whatever it is, its event is in doubt
            confirm = concurrent.futures.Future()
            confirm.set_exception(error)
        return confirm

    def _refused(self, messages: Iterable[Message]) -> list[list[Message]]:
        """Return, for each order, events that were refused together."""
        groups: dict[int, list[Message]] = {}
        for message in messages:
            if not self._has_gone(message):
                groups.setdefault(message.order_id, []).append(message)
        return [
            group
            for group in groups.values()
            if len(group) > 1 and self._ends[group[0].id][0] is Result.REFUSED
        ]

    def _find_culprit(self, group: Sequence[Message]) -> bool:
        """Send one by one what was refused as one; tell whether anybody is there."""
        self._ends |= dict.fromkeys((m.id for m in group[1:]), NOT_TRIED)
        for message in group:
            if not _has_time(self._deadline):
                break
            if not self._send([message]):
                return False
            if not self._has_gone(message):
                break
        return True

    def _has_gone(self, message: Message) -> bool:
        return self._ends[message.id][0] in THROUGH


def _has_time(deadline: float) -> bool:
    return deadline - time.monotonic() >= SHORTEST_SECONDS


def _make_client() -> "PublisherClient":
    """Find credentials and build a client, which does not connect yet.

    Channels to one address share their connections, and the pauses between attempts to
    make one; a new channel would inherit those of one that has just been closed.
    """
    import grpc  # noqa: PLC0415 0.4 s of a cold start
    from google.cloud import pubsub_v1  # noqa: PLC0415

    usual = pubsub_v1.PublisherClient.get_transport_class("grpc")
    apart = [("grpc.use_local_subchannel_pool", 1)]

    class Apart(usual):  # type: ignore[misc,valid-type]
        def __init__(self, *, channel: Any = None, **settings: Any) -> None:  # noqa: ANN401 the vendor's
            if channel is None:
                super().__init__(**settings)
            else:  # an emulator's, which is not opened yet
                channel.close()
                plain = grpc.insecure_channel(settings["host"], options=apart)
                super().__init__(channel=plain, **settings)

        @classmethod
        def create_channel(
            cls,
            *where: Any,  # noqa: ANN401
            options: list[tuple[str, int]],
            **how: Any,  # noqa: ANN401
        ) -> Any:  # noqa: ANN401
            return super().create_channel(*where, options=options + apart, **how)

    types = pubsub_v1.types
    return pubsub_v1.PublisherClient(
        transport=Apart,
        batch_settings=types.BatchSettings(
            max_latency=GATHER_SECONDS, max_messages=GATHERED
        ),
        publisher_options=types.PublisherOptions(enable_message_ordering=True),
    )


def _within(seconds: float, make: Callable[[], T]) -> T:
    """Return what `make` does; raise ConnectError when it fails, or takes too long.

    Without credentials in the environment the vendor's library looks for a metadata
    server for as long as ten seconds.
    """
    made: queue.SimpleQueue[T | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            made.put(make())
        except Exception as error:  # noqa: BLE001 told to whoever waits
            made.put(error)

    threading.Thread(target=run, name="pubsub-client", daemon=True).start()
    try:
        answer = made.get(timeout=max(0.0, seconds))
    except queue.Empty:
        raise ConnectError("no credentials in time") from None
    if isinstance(answer, Exception):
        raise ConnectError(type(answer).__name__) from answer
    return answer


def _is_ready(channel: "grpc.Channel", seconds: float) -> bool:
    """Return whether the channel is open, opening it if need be."""
    from grpc import ChannelConnectivity as States  # noqa: PLC0415 see _make_client

    states: queue.SimpleQueue[States] = queue.SimpleQueue()
    until = time.monotonic() + seconds
    channel.subscribe(states.put, try_to_connect=True)
    try:
        while True:
            state = states.get(timeout=max(0.0, until - time.monotonic()))
            if state is States.READY:
                return True
            if state in (States.TRANSIENT_FAILURE, States.SHUTDOWN):
                return False
    except queue.Empty:
        return False
    finally:
        channel.unsubscribe(states.put)


def _attributes(message: Message) -> dict[str, str]:
    """Return the attributes: ours, and a CloudEvent's in binary mode.

    As headers of an unwrapped push they make its request that CloudEvent.
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


def _end(confirm: Confirm, until: float) -> End:
    """Wait for the confirm and answer how its message ended."""
    try:
        error = confirm.exception(max(0.0, until - time.monotonic()))
    except concurrent.futures.TimeoutError:
        return Result.UNCONFIRMED, "no confirm in time"
    return (Result.SENT, None) if error is None else meaning(error)


def meaning(error: BaseException) -> End:
    """Return what an error of the client's means for an event."""
    kind, text = type(error).__name__, str(error)
    if kind == "PublishToPausedOrderingKeyException" or _CANCELLED in text:
        return NOT_TRIED
    for words, why in _UNSENT.items():
        if words in text:
            return Result.UNAVAILABLE, why
    code = getattr(getattr(error, "grpc_status_code", None), "name", "")
    return _MEANINGS.get(code, (Result.UNCONFIRMED, kind))
