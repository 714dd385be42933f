"""Pending events of a write: which event goes to which destination, and its claims.

A write claims the events it records for the request that publishes them next, because a
separate claim would cost a round trip and another version of each row.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from msgspec import Struct

from common.domain.model import Event
from common.messaging.outbox import Claimed
from common.telemetry import logs


@dataclass(frozen=True)
class Bus:
    """Where events go, and which destinations this process publishes to at once.

    `available_destinations` returns those to which an attempt is allowed now. A write
    claims its events for them, unless `claims` is False: then the relay claims them.
    `settle_seconds` is how long consumers take at most, once an event is confirmed.
    """

    destinations: tuple[str, ...]
    available_destinations: Callable[[], Sequence[str]] = tuple
    claims: bool = True
    settle_seconds: float = 5.0


class PendingEvents(Struct, frozen=True):
    """The events of a write that are to be published right after its commit.

    `destinations` None: all that are available. `claimed` is empty if the relay has to
    claim the events first.
    """

    order_id: int
    destinations: Sequence[str] | None = None
    claimed: Sequence[Claimed] = ()


class PendingRow(Struct, frozen=True):
    """An event and one of its destinations."""

    event: Event
    destination: str


def rows(recorded: Iterable[Event], bus: Bus) -> list[PendingRow]:
    """Return a row for each event and destination, in the order of events."""
    return [
        PendingRow(event, name)
        for event in recorded
        for name in destinations(event, bus)
    ]


def destinations(event: Event, bus: Bus) -> Sequence[str]:
    """Return the destinations of an event."""
    return (event.destination,) if event.destination else bus.destinations


def after_write(
    order_id: int,
    at: str,
    written: Sequence[PendingRow],
    claimed: Iterable[tuple[int, str, str]],
    available: Sequence[str],
) -> PendingEvents | None:
    """Return what to publish after a write, None if it has `written` no rows.

    `claimed` are the ids, events and destinations of the rows that the write claimed.
    """
    if not written:
        return None
    ids = {(event_id, name): id_ for id_, event_id, name in claimed}
    context = logs.current()
    created_at = datetime.fromisoformat(at)
    messages = [
        Claimed(
            id=ids[row.event.id, row.destination],
            event_id=row.event.id,
            type=row.event.type,
            order_id=order_id,
            body=row.event.body,
            traceparent=context.traceparent if context else None,
            created_at=created_at,
            attempts=1,
            is_doubtful=False,
            destination=row.destination,
        )
        for row in written
        if (row.event.id, row.destination) in ids
    ]
    return PendingEvents(order_id, available, messages)
