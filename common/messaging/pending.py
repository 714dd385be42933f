"""Pending events of a write: which event to which destination, and its claims.

A write claims the events it records for whoever publishes them next, because a separate
claim would cost a round trip and another version of each row.
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
    """Where events go, and which of them this process will send at once.

    `admit` answers the destinations that are worth a try now; a write claims for them
    what it records, unless `claims` is False: then the claim is a statement of its own.
    """

    destinations: tuple[str, ...]
    admit: Callable[[], Sequence[str]] = tuple
    claims: bool = True


def destinations(event: Event, bus: Bus) -> Sequence[str]:
    """Return where an event goes to."""
    return (event.destination,) if event.destination else bus.destinations


class PendingRow(Struct, frozen=True):
    """An event that is owed to a destination."""

    event: Event
    destination: str


def rows(recorded: Iterable[Event], bus: Bus) -> list[PendingRow]:
    """Return what is owed, in order: a row for each event and destination."""
    return [
        PendingRow(event, name)
        for event in recorded
        for name in destinations(event, bus)
    ]


class PendingEvents(Struct, frozen=True):
    """What a write leaves to be sent right after it.

    `awake` names the destinations to try, None: whichever are worth it. `claimed` is
    what the write has claimed for them; where it is empty, a claim is due first.
    """

    order_id: int
    available: Sequence[str] | None = None
    claimed: Sequence[Claimed] = ()


def left(
    order_id: int,
    at: str,
    told: Sequence[PendingRow],
    claimed: Iterable[tuple[int, str, str]],
    available: Sequence[str],
) -> PendingEvents | None:
    """Return what the write of `told` leaves to be sent, None where it told nothing.

    (id, event, destination) are `claimed`.
    """
    if not told:
        return None
    mine = {(event_id, name): id_ for id_, event_id, name in claimed}
    context = logs.current()
    created_at = datetime.fromisoformat(at)
    messages = [
        Claimed(
            id=mine[row.event.id, row.destination],
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
        for row in told
        if (row.event.id, row.destination) in mine
    ]
    return PendingEvents(order_id, available, messages)
