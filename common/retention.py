"""Retention: what was kept long enough is deleted, a little at a time.

Lives here: one round over all that is kept for a while. Not here: what each table keeps
and for how long (`idempotency.py`, `outbox.py`). No surprise.
"""

from msgspec import Struct

from common import idempotency, outbox
from common.db import Engine, connect


class Purged(Struct, frozen=True):
    """How many rows a round has deleted."""

    keys: int
    events: int


def purge(engine: Engine, event_days: int) -> Purged:
    """Delete expired idempotency keys, and events sent `event_days` ago.

    At most 5,000 of each; there may be more. Raises DatabaseUnavailableError or
    BusyError.
    """
    with connect(engine) as connection:
        return Purged(
            keys=idempotency.purge(connection),
            events=outbox.purge(connection, event_days),
        )
