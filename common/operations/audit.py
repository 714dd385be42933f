"""The audit: compare pending and published events with what happened to orders.

It runs while orders are written. Each chunk is one snapshot, and every write is one
transaction, so a write is seen whole or not at all.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct, json

from common.database.engine import Connection, Engine, connect, transaction
from common.domain.model import MAX_ID
from common.errors import BusyError
from common.operations import audit_checks, audit_events

CHUNK = 5000  # orders
_CHECKS = (audit_checks.ORDERS, audit_events.TOLD, audit_events.EVENTS)


class Difference(Struct, frozen=True):
    """Something that is not as it should be; `what` is one of DIFFERENCES."""

    order_id: int
    what: str
    details: dict[str, Any]

    @property
    def sentence(self) -> str:
        """Return what it means."""
        return audit_checks.DIFFERENCES[self.what]


class Ambiguous(Struct, frozen=True):
    """An event of which nobody knows how often it went out; 'pending' or 'sent'."""

    order_id: int
    event_id: str
    event_type: str
    destination: str
    place: str
    doubts: int
    is_resend: bool


@dataclass
class Report:
    """What an audit found.

    `orders` counts deleted ones too, `events` what was ever owed, each destination by
    itself. Lists hold at most what was asked for; `found` and `doubtful` count all.
    """

    orders: int = 0
    events: int = 0
    pending: int = 0
    resent: int = 0
    found: int = 0
    doubtful: int = 0
    differences: list[Difference] = field(default_factory=list)
    ambiguous: list[Ambiguous] = field(default_factory=list)


# Is told the last order id that was compared, and the last there is.
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

    Keeps at most `limit` differences and as many ambiguous events. Reads only. Orders
    made while it runs are left to the next one. Raise DatabaseUnavailableError, or
    BusyError where even one order takes too long.
    """
    report = Report()
    bounds = dict(zip(("low", "high"), between, strict=True))
    with connect(engine) as connection:
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
    return report


def _compare(
    engine: Engine, low: int, high: int, report: Report, limit: int | None
) -> None:
    """Add what one chunk brings to the report; nothing where it fails."""
    bounds = {"low": low, "high": high}
    with transaction(engine) as connection:
        connection.execute(audit_checks.BEGIN)
        connection.execute(audit_checks.PLAN)
        found = _differences(connection, bounds)
        text = connection.execute(audit_events.TALLY, bounds).scalar_one()
    chunk = json.decode(text, type=Report)
    chunk.differences, chunk.found = found, len(found)
    chunk.doubtful = len(chunk.ambiguous)
    for name, value in vars(chunk).items():  # numbers and lists
        setattr(report, name, getattr(report, name) + value)
    if limit is not None:
        del report.differences[limit:]
        del report.ambiguous[limit:]


def _differences(connection: Connection, bounds: dict[str, int]) -> list[Difference]:
    found = []
    for check in _CHECKS:
        for order_id, what, details in connection.execute(check, bounds):
            known = {k: v for k, v in (details or {}).items() if v is not None}
            found.append(Difference(order_id, what, known))
    return sorted(found, key=lambda d: d.order_id)
