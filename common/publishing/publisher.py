"""The Publisher protocol between the outbox and destinations.

A failure holds back only its own order. "Not sent" and "not known whether sent" are
different results, because product's consumer lowers stock again on a repeat.
"""

import enum
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from common.domain.events import ITEM_CREATED

SOURCE = "/order-service"  # who says so, in every CloudEvent


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
    is_doubtful: bool  # an earlier attempt ended without anybody knowing how …
    # … and no operator has decided since.


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
    # Confirmed, but nobody listens where somebody should.
    UNROUTABLE = "unroutable"
    # This event was turned down; trying it again later may help, others may pass.
    REFUSED = "refused"
    # Not now, said the destination: later, and for as long as it takes.
    DEFERRED = "deferred"
    # Handed over, but neither confirmed nor refused.
    UNCONFIRMED = "unconfirmed"
    # The destination is not there; certainly not sent.
    UNAVAILABLE = "unavailable"
    # Kept back for an operator: resending it might do harm.
    HELD = "held"
    NOT_TRIED = "not tried"


# What needs no further attempt, and so holds nothing back.
THROUGH = frozenset({Result.SENT, Result.UNROUTABLE})
# What says that nobody is there: whoever else has something waits.
AWAY = frozenset({Result.UNAVAILABLE, Result.UNCONFIRMED})

End = tuple[Result, str | None]  # how an attempt ended, and why if not well
NOT_TRIED: End = (Result.NOT_TRIED, None)


class ConnectError(Exception):
    """The destination is not there, or turned us away; nothing was sent."""


class Outcome(Struct, frozen=True):
    """How the attempt to send the outbox row `id` ended, and why if not well."""

    id: int
    result: Result
    reason: str | None = None


def outcomes(messages: Iterable[Message], ends: Mapping[int, End]) -> list[Outcome]:
    """Return an outcome for each message, by its id; without an end it is NOT_TRIED."""
    return [Outcome(m.id, *ends.get(m.id, NOT_TRIED)) for m in messages]


class Publisher(Protocol):
    """Sends messages to one destination. Used by one thread at a time."""

    def publish(self, messages: Sequence[Message], deadline: float) -> list[Outcome]:
        """Send in the order given and answer one outcome a message, never raising.

        After a message that is not SENT or UNROUTABLE no later one of the same order
        may be sent, save that one order's items may be announced side by side.
        Stops at `deadline` (monotonic seconds); the rest is NOT_TRIED.
        """
        ...

    def close(self) -> None:
        """Let go of connections. The next `publish` opens them again."""
        ...


def waves(messages: Iterable[Message]) -> list[list[Message]]:
    """Split into what may be published side by side, in the order it must go.

    An order's event waits for the confirm of the one before: it may be refused. Only
    its items are announced together; a cart of a hundred lines is two waits, not 101.
    """
    split: list[list[Message]] = []
    last: dict[int, tuple[int, str]] = {}
    for message in messages:
        number, before = last.get(message.order_id, (-1, ""))
        if number < 0 or not before == message.type == ITEM_CREATED:
            number += 1
        last[message.order_id] = (number, message.type)
        if number == len(split):
            split.append([])
        split[number].append(message)
    return split


# Less is no time to get an answer in: whatever was sent would be in doubt.
SHORTEST_SECONDS = 0.5
CONNECT_TIMEOUT_SECONDS = 2.0  # to a broker

# Gets the message and the seconds it may take.
Send = Callable[[Message, float], End]


def publish_each(
    messages: Sequence[Message], deadline: float, send: Send
) -> list[Outcome]:
    """Send one after the other, keeping `Publisher.publish`'s promises."""
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
