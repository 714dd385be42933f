"""The audit: compare pending and published events with what happened to orders.

It may run while orders are written: each chunk is read in one snapshot, and every write
is one transaction, so a write is seen whole or not at all.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct, json

from common.database import readiness
from common.database.engine import Connection, Engine, connect, transaction
from common.domain.model import MAX_ID
from common.errors import BusyError, DatabaseUnavailableError
from common.operations import acknowledgements, audit_checks, audit_events, restore
from common.operations.acknowledgements import Acknowledgement
from common.operations.restore import GivenUp
from common.store import seals

CHUNK = 5000  # orders


class LaterSchemaError(Exception):
    """A later release has migrated the database, and records more."""

    def __init__(self, revision: str) -> None:
        """Name the revision."""
        super().__init__(
            f"the schema is at {revision}, and this release knows none after"
            f" {readiness.NEWEST_REVISION}: audit with the later release's orderctl"
        )


class Difference(Struct, frozen=True):
    """An inconsistency that the audit found; `what` is a key of DIFFERENCES."""

    order_id: int
    what: str
    details: dict[str, Any]

    @property
    def sentence(self) -> str:
        """Return the difference in words."""
        return audit_checks.DIFFERENCES[self.what]


class Ambiguous(Struct, frozen=True):
    """An event that may have been sent more than once; `place`: 'pending' or 'sent'."""

    order_id: int
    event_id: str
    event_type: str
    destination: str
    place: str
    doubts: int
    is_resend: bool


class Tally(Struct, frozen=True):
    """Counts of one chunk, and its ambiguous events."""

    orders: int
    events: int
    pending: int
    resent: int
    ambiguous: list[Ambiguous]


@dataclass
class Report:
    """What an audit found.

    `orders` includes deleted ones; `events` counts each destination of an event. Lists
    are cut to the limit; `found` and `doubtful` count every difference and ambiguous
    event. `given_up` lists the ids that were skipped after a restore, `acknowledged`
    the differences that no longer count.
    """

    orders: int = 0
    events: int = 0
    pending: int = 0
    resent: int = 0
    found: int = 0
    doubtful: int = 0
    differences: list[Difference] = field(default_factory=list)
    ambiguous: list[Ambiguous] = field(default_factory=list)
    given_up: list[GivenUp] = field(default_factory=list)
    acknowledged: list[Acknowledgement] = field(default_factory=list)

    def add(
        self,
        tally: Tally,
        differences: list[Difference],
        acknowledged: list[Acknowledgement],
        limit: int | None,
    ) -> None:
        """Add one chunk; keep at most `limit` entries in each list."""
        self.orders += tally.orders
        self.events += tally.events
        self.pending += tally.pending
        self.resent += tally.resent
        self.found += len(differences)
        self.doubtful += len(tally.ambiguous)
        self.differences += differences
        self.ambiguous += tally.ambiguous
        self.acknowledged += acknowledged
        if limit is not None:
            del self.differences[limit:]
            del self.ambiguous[limit:]
            del self.acknowledged[limit:]


# Called with the last order id that was compared, and the last one there is.
Progress = Callable[[int, int], None]


def audit(
    engine: Engine,
    *,
    between: tuple[int, int] = (0, MAX_ID),
    limit: int | None = None,
    chunk: int = CHUNK,
    progress: Progress = lambda _done, _last: None,
) -> Report:
    """Compare every order whose id is `between` the two, both included.

    It keeps at most `limit` differences and as many ambiguous events, and writes only
    seals (`store/seals.py`), where it may. Orders created meanwhile are left to the
    next audit. Raise LaterSchemaError, DatabaseUnavailableError, or BusyError if even a
    single order takes too long.
    """
    _check_schema(engine)
    report = Report()
    bounds = dict(zip(("low", "high"), between, strict=True))
    with connect(engine) as connection:
        report.given_up = restore.given_up(connection)
        last = connection.execute(audit_checks.LAST, bounds).scalar_one()
    while last is not None and bounds["low"] <= last:
        bounds["high"] = last
        with connect(engine) as connection:
            low = connection.execute(audit_checks.FIRST, bounds).scalar_one()
        if low is None:
            break
        high = min(last, low + chunk - 1)
        try:
            _compare(engine, low, high, report, limit)
        except BusyError:
            if chunk == 1:
                raise
            chunk = max(1, chunk // 4)
            continue
        progress(high, last)
        bounds["low"] = high + 1
    _add_vanished(engine, between, report, limit)
    # Where it may only read, as on a standby, sweeps have to do.
    with contextlib.suppress(DatabaseUnavailableError):
        seals.seal(engine)
    return report


def _add_vanished(
    engine: Engine, between: tuple[int, int], report: Report, limit: int | None
) -> None:
    """Add the orders of which no other check can find anything."""
    for order_id in seals.vanished(engine, *between):
        with connect(engine) as connection:
            known = acknowledgements.read(connection, order_id, order_id)
        difference = Difference(order_id, "order-vanished", {})
        report.add(Tally(0, 0, 0, 0, []), *_split([difference], known), limit)


def _check_schema(engine: Engine) -> None:
    """Raise LaterSchemaError if a later release has migrated the database."""
    with connect(engine) as connection:
        revision = connection.execute(readiness.REVISION).scalar_one()
    if revision > readiness.NEWEST_REVISION:
        raise LaterSchemaError(revision)


def _compare(
    engine: Engine, low: int, high: int, report: Report, limit: int | None
) -> None:
    """Add one chunk to the report, or nothing if it cannot be read."""
    bounds = {"low": low, "high": high}
    with transaction(engine) as connection:
        connection.execute(audit_checks.BEGIN)
        connection.execute(audit_checks.PLAN)
        differences = _differences(connection, bounds)
        text = connection.execute(audit_events.TALLY, bounds).scalar_one()
        known = acknowledgements.read(connection, low, high)
    open_, acknowledged = _split(differences, known)
    report.add(json.decode(text, type=Tally), open_, acknowledged, limit)


def _split(
    differences: list[Difference], known: list[Acknowledgement]
) -> tuple[list[Difference], list[Acknowledgement]]:
    """Return the differences that count, and those that were acknowledged."""
    open_, acknowledged = [], []
    for difference in differences:
        same = [
            each
            for each in known
            if (each.order_id, each.what, each.details)
            == (difference.order_id, difference.what, difference.details)
        ]
        if same:
            acknowledged.append(same[0])
        else:
            open_.append(difference)
    return open_, acknowledged


_CHECKS = (audit_checks.ORDERS, audit_events.RECORDED, audit_events.EVENTS)


def _differences(connection: Connection, bounds: dict[str, int]) -> list[Difference]:
    differences = []
    for check in _CHECKS:
        for order_id, what, details in connection.execute(check, bounds):
            known = {k: v for k, v in (details or {}).items() if v is not None}
            differences.append(Difference(order_id, what, known))
    return sorted(differences, key=lambda difference: difference.order_id)
