"""Read an event, send it again, or confirm one that is held.

The history has the order of each event id. An event that it does not know is searched
for in short steps, from the newest to the oldest.
"""

from collections.abc import Iterable
from uuid import UUID

from msgspec import Struct, json

from common.database.engine import Connection, Engine, connect, named, transaction
from common.errors import ConflictError, NotFoundError
from common.messaging.event_rows import (
    POSTPONED_ROWS,
    ROW,
    EventRow,
    confirmed_holds,
    found,
)
from common.messaging.outbox import ARCHIVE, NOTIFY

_EVENT = named(
    "backlog.event",
    f"""
WITH {found("= CAST(:order_id AS bigint)")}
SELECT CAST(coalesce(json_agg({ROW} ORDER BY destination, id), '[]') AS text)
FROM found WHERE event_id = CAST(:event_id AS text)
""",  # noqa: S608 fragments of our own
)


def read(connection: Connection, event_id: UUID, order_id: int) -> list[EventRow]:
    """Return every row of an event, with its body; raise NotFoundError."""
    parameters = {"event_id": str(event_id), "order_id": order_id}
    text = connection.execute(_EVENT, parameters).scalar_one()
    if not (rows := json.decode(text, type=list[EventRow])):
        raise NotFoundError(f"Order {order_id} has no event {event_id}.")
    return rows


_ORDER = named(
    "backlog.order_of_event",
    """
SELECT order_id FROM order_history WHERE event_id = CAST(:event_id AS uuid) LIMIT 1
""",
)
STEP = 50_000  # rows searched by one statement
# The lowest id of the rows searched, and the event's order if it is among them.
_SLICE = """
WITH slice AS MATERIALIZED (
  SELECT id, order_id, event_id FROM {table}
  WHERE id < CAST(:before AS bigint){condition}
  ORDER BY id DESC LIMIT CAST(:step AS int)
)
SELECT (SELECT min(id) FROM slice), (SELECT max(order_id) FROM slice
  WHERE CAST(event_id AS text) = CAST(:event_id AS text))
"""
_SLICES = [
    named(f"backlog.search_{table}", _SLICE.format(table=table, condition=condition))
    for table, condition in (
        ("outbox", ""),
        # An incoming message may have the id of an event that was published.
        ("dead_letters", " AND source = 'outbox'"),
        ("sent_events", ""),
    )
]


def find_order(engine: Engine, event_id: UUID) -> int:
    """Return the order that an event is about; raise NotFoundError."""
    with connect(engine) as connection:
        known = connection.execute(_ORDER, {"event_id": str(event_id)})
        if (order_id := known.scalar_one_or_none()) is not None:
            return int(order_id)
    for statement in _SLICES:
        before: int | None = 2**63 - 1
        while before is not None:
            parameters = {"before": before, "step": STEP, "event_id": str(event_id)}
            with connect(engine) as connection:
                before, order_id = connection.execute(statement, parameters).one()
            if order_id is not None:
                return int(order_id)
    raise NotFoundError(
        f"There is no event {event_id}; sent events are deleted after a while."
    )


class Done(Struct, frozen=True):
    """What was done with an event for one destination.

    `action`: 'released' if it was held, 'due' at once if it was pending, 'resent' as a
    new row if it was sent, 'sending' if an attempt is under way (nothing was done), or
    'confirmed'.
    """

    destination: str
    action: str


# A second operator waits here, and then sees what the first one did. Sent events are
# not locked themselves: that would take the right to change them.
_LOCK_EVENT = named(
    "backlog.lock_event",
    "SELECT pg_advisory_xact_lock(hashtextextended(CAST(:event_id AS text), 0))",
)
_MAKE_DUE = named(
    "backlog.make_due",
    """
UPDATE outbox SET available_at = now(), is_resend = is_resend OR held_since IS NOT NULL,
  held_since = NULL
WHERE id = CAST(:id AS bigint) AND (sending_since IS NULL OR available_at <= now())
""",
)
_COPY_TO_OUTBOX = named(
    "backlog.copy_to_outbox",
    """
INSERT INTO outbox (destination, order_id, event_id, event_type, body, traceparent,
  created_at, is_resend)
SELECT destination, order_id, event_id, event_type, body, traceparent, created_at, true
FROM sent_events WHERE id = CAST(:id AS bigint)
""",
)


def resend(
    engine: Engine, event_id: UUID, order_id: int, destination: str | None = None
) -> list[Done]:
    """Send an event again, to one destination or to each that it was for.

    A held event is released, a pending one becomes due, a sent one becomes pending once
    more with the same id. Raise NotFoundError, or ConflictError if it is a dead letter
    for one of the destinations; nothing is done then.
    """
    with transaction(engine) as connection:
        connection.execute(_LOCK_EVENT, {"event_id": str(event_id)})
        rows = read(connection, event_id, order_id)
        names = dict.fromkeys(row.destination for row in rows)
        if destination is not None:
            _check_known(names, destination, event_id)
            names = {destination: None}
        done = [
            Done(name, _resend(connection, [r for r in rows if r.destination == name]))
            for name in names
        ]
        connection.execute(NOTIFY)
    return done


def _resend(connection: Connection, rows: list[EventRow]) -> str:
    """Resend to one destination, for which the event has these `rows`."""
    for row in rows:
        if row.place in ("pending", "held"):
            if not connection.execute(_MAKE_DUE, {"id": row.id}).rowcount:
                return "sending"
            return "due" if row.place == "pending" else "released"
    for row in rows:
        if row.place == "dead" and row.settled_as is None:
            raise ConflictError(
                f"For {row.destination} it is dead letter {row.id}: replay that."
            )
    for row in rows:
        if row.place == "sent":
            connection.execute(_COPY_TO_OUTBOX, {"id": row.id})
            return "resent"
    raise ConflictError(f"For {rows[0].destination} it was discarded as a dead letter.")


DUE_BATCH = 5000
_DUE_NOW = named(
    "backlog.due_now",
    f"""
UPDATE outbox SET available_at = now()
WHERE {POSTPONED_ROWS.format(limit=DUE_BATCH)}
""",  # noqa: S608 fragments of our own
)


def make_due(engine: Engine, destination: str) -> int:
    """Have all that waits for its next attempt at a destination tried now.

    Return how many events that were. Held ones stay held.
    """
    total, changed = 0, DUE_BATCH
    with connect(engine) as connection:
        while changed == DUE_BATCH:
            given = {"destination": destination}
            changed = connection.execute(_DUE_NOW, given).rowcount
            total += changed
        connection.execute(NOTIFY)
    return total


# One attempt fewer is in doubt.
_CONFIRM = named(
    "backlog.confirm",
    f"""
WITH held AS (
  DELETE FROM outbox WHERE id = CAST(:id AS bigint) AND held_since IS NOT NULL
  RETURNING *
),
archived AS ({ARCHIVE.format(source="held", doubts="greatest(doubts - 1, 0)")}
  RETURNING id
), {confirmed_holds("held")}
SELECT (SELECT count(*) FROM archived), pg_notify('outbox', '')
""",  # noqa: S608 fragments of our own
)


def confirm(engine: Engine, event_id: UUID, order_id: int, destination: str) -> Done:
    """Record a held event as sent, because an operator knows that it arrived.

    That releases later events of its order. Raise NotFoundError, or ConflictError if it
    is not held for this destination.
    """
    with connect(engine) as connection:
        rows = read(connection, event_id, order_id)
        _check_known([row.destination for row in rows], destination, event_id)
        for row in rows:
            if row.destination == destination and row.place == "held":
                count = connection.execute(_CONFIRM, {"id": row.id}).one()[0]
                if count:
                    return Done(destination, "confirmed")
    raise ConflictError(f"Event {event_id} is not held for {destination}.")


def _check_known(names: Iterable[str], destination: str, event_id: UUID) -> None:
    if destination not in names:
        raise NotFoundError(
            f"Event {event_id} is not for {destination},"
            f" but for {', '.join(dict.fromkeys(names))}."
        )
