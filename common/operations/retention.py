"""Delete expired keys and old sent events in batches, and seal the ledger.

Several relays may do it at once: the second waits for a batch, finds it deleted, and
goes on.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from msgspec import Struct

from common.database.engine import Engine, connect
from common.errors import BusyError
from common.messaging import outbox
from common.store import idempotency, seals
from common.telemetry import logs

log = logs.get("retention")

T = TypeVar("T")

# A batch takes a fiftieth of a second, and locks nothing that a request needs.
BATCH = 5000
# About as long as it takes to delete a minute's rows at a thousand orders a second.
SECONDS = 4.0


class Purged(Struct, frozen=True):
    """How many rows were deleted."""

    keys: int
    events: int


def purge(engine: Engine, event_days: int, seconds: float = SECONDS) -> Purged:
    """Delete expired keys, and events sent `event_days` ago; return how many.

    At least a batch of each is deleted, and more until `seconds` have passed. Before,
    orders that are new are sealed, so that none vanishes unnoticed. Where
    the database is busy the rest is left to the next time. Raise
    DatabaseUnavailableError; batches deleted before stay deleted.
    """
    began_at = time.monotonic()
    try:
        seals.seal(engine, seconds / 2)
    except BusyError:
        log.warning("new orders were not sealed: the database is busy")
    with connect(engine) as connection:
        return Purged(
            keys=_purge_batches(
                lambda after: idempotency.purge(connection, BATCH, after),
                began_at + seconds / 2,
            ),
            events=_purge_batches(
                lambda after: outbox.purge(connection, event_days, BATCH, after),
                began_at + seconds,
            ),
        )


def _purge_batches(
    purge_batch: Callable[[T | None], tuple[int, T | None]], deadline: float
) -> int:
    """Delete one batch after the other; return how many rows were deleted."""
    total = 0
    after: T | None = None
    while True:
        try:
            deleted, after = purge_batch(after)
        except BusyError:
            log.warning("expired rows were not deleted: the database is busy")
            return total
        total += deleted
        if after is None or time.monotonic() >= deadline:
            return total
