"""The Publisher protocol between the outbox and destinations.

A failure holds back only the event's own order. "Not sent" and "perhaps sent" are
different results, because the product service lowers stock again on a repeat.
"""

import enum
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from common.domain.events import ITEM_CREATED

SOURCE = "/order-service"  # of every CloudEvent


class Message(Struct, frozen=True):
    """One outbox row on its way to one destination."""

    id: int  # of the outbox row; events of one order go out in this order
    event_id: str  # the same at every attempt
    type: str
    order_id: int
    body: str
    traceparent: str | None
    created_at: datetime
    attempts: int  # this one included
    is_doubtful: bool  # the outcome of an earlier attempt is unknown, and no operator …
    # … has decided since.


def cloud_event_attributes(message: Message, prefix: str) -> dict[str, str]:
    """Return the CloudEvents 1.0 attributes, named as one protocol binding does."""
    return {
        f"{prefix}specversion": "1.0",
        f"{prefix}id": message.event_id,
        f"{prefix}type": message.type,
        f"{prefix}source": SOURCE,
        f"{prefix}subject": str(message.order_id),
        f"{prefix}time": message.created_at.isoformat(),
    }


class Result(enum.Enum):
    """How an attempt ended."""

    SENT = "sent"
    # Confirmed, although a queue that should be bound is not.
    UNROUTABLE = "unroutable"
    # The event was rejected; a later attempt may succeed, as may other events.
    REFUSED = "refused"
    # The destination asked to send it later; retried for as long as it takes.
    DEFERRED = "deferred"
    # Sent, but neither confirmed nor refused.
    UNCONFIRMED = "unconfirmed"
    # The destination is unavailable; certainly not sent.
    UNAVAILABLE = "unavailable"
    # Held for an operator, because sending it again might do harm.
    HELD = "held"
    NOT_TRIED = "not tried"


# No further attempt is needed, so later events of the order may be sent.
THROUGH = frozenset({Result.SENT, Result.UNROUTABLE})
# The destination does not respond, so other orders' events wait, too.
AWAY = frozenset({Result.UNAVAILABLE, Result.UNCONFIRMED})


class Outcome(Struct, frozen=True):
    """How the attempt to send the outbox row `id` ended, and why if it failed."""

    id: int
    result: Result
    reason: str | None = None


class Publisher(Protocol):
    """Sends messages to one destination. Used by one thread at a time."""

    def publish(self, messages: Sequence[Message], deadline: float) -> list[Outcome]:
        """Send in the order given, and return an outcome for each message; never raise.

        After a message that is not SENT or UNROUTABLE no later one of the same order
        may be sent, except that the events of one order's items may be sent together.
        Stop at `deadline` (monotonic seconds); the rest is NOT_TRIED.
        """
        ...

    def close(self) -> None:
        """Close connections. The next `publish` opens them again."""
        ...


class ConnectError(Exception):
    """The destination is unavailable or refused the connection; nothing was sent."""


End = tuple[Result, str | None]  # how an attempt ended, and why if it failed
NOT_TRIED: End = (Result.NOT_TRIED, None)


def outcomes(messages: Iterable[Message], ends: Mapping[int, End]) -> list[Outcome]:
    """Return an outcome for each message, by its id; without an end it is NOT_TRIED."""
    return [Outcome(m.id, *ends.get(m.id, NOT_TRIED)) for m in messages]


def ordered_batches(messages: Iterable[Message]) -> list[list[Message]]:
    """Split messages into batches that must be published one after the other.

    An event may be refused, so the next one of its order waits for its confirm. Only
    the events of one order's items go together, so that a cart of a hundred lines takes
    two batches, not 101.
    """
    batches: list[list[Message]] = []
    last: dict[int, tuple[int, str]] = {}
    for message in messages:
        number, previous_type = last.get(message.order_id, (-1, ""))
        if number < 0 or not previous_type == message.type == ITEM_CREATED:
            number += 1
        last[message.order_id] = (number, message.type)
        if number == len(batches):
            batches.append([])
        batches[number].append(message)
    return batches


# With less time left no confirm would arrive, and the event would be in doubt.
SHORTEST_SECONDS = 0.5
CONNECT_TIMEOUT_SECONDS = 2.0  # to a broker

# Sends one message within the given number of seconds.
Send = Callable[[Message, float], End]


def publish_each(
    messages: Sequence[Message], deadline: float, send: Send
) -> list[Outcome]:
    """Send messages one by one, in the way that `Publisher.publish` promises."""
    ends: dict[int, End] = {}
    held_back: set[int] = set()
    for message in messages:
        left = deadline - time.monotonic()
        if left < SHORTEST_SECONDS:
            break
        if message.order_id in held_back:
            continue
        result, _ = ends[message.id] = send(message, left)
        if result in AWAY:
            break
        if result not in THROUGH:
            held_back.add(message.order_id)
    return outcomes(messages, ends)
