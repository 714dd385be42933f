"""Delete what has been kept long enough, in steps while there is time.

Any number of relays may do it at once: the second waits for the batch, finds it
deleted, and goes on.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from msgspec import Struct

from common.database.engine import Engine, connect
from common.messaging import outbox
from common.store import idempotency

T = TypeVar("T")

# A batch takes a fiftieth of a second, and locks nothing that a request would want.
BATCH = 5000
# What a minute brings at a thousand orders a second is deleted in about as long.
SECONDS = 4.0


class Purged(Struct, frozen=True):
    """How many rows a round has deleted."""

    keys: int
    events: int


def purge(engine: Engine, event_days: int, seconds: float = SECONDS) -> Purged:
    """Delete expired keys, and events sent `event_days` ago.

    A batch of each at least, further ones while there are full ones and `seconds` have
    not passed. Raise DatabaseUnavailableError or BusyError; what was deleted until
    then stays so.
    """
    began_at = time.monotonic()
    with connect(engine) as connection:
        return Purged(
            keys=_all(
                lambda after: idempotency.purge(connection, BATCH, after),
                began_at + seconds / 2,
            ),
            events=_all(
                lambda after: outbox.purge(connection, event_days, BATCH, after),
                began_at + seconds,
            ),
        )


def _all(
    purge_batch: Callable[[T | None], tuple[int, T | None]], deadline: float
) -> int:
    """Delete one batch after the other; return how many rows that was."""
    total = 0
    after: T | None = None
    while True:
        deleted, after = purge_batch(after)
        total += deleted
        if after is None or time.monotonic() >= deadline:
            return total
