"""Log how far behind events and approvals are, once a minute.

`infra/terraform/alerts.tf` reads the fields by name: a renamed field silences an alert,
which a test prevents.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, structs

from common.database import snapshots
from common.database.engine import Engine, connect, named
from common.errors import BusyError
from common.messaging.event_rows import DESTINATIONS, waiting
from common.telemetry import logs, tracing

log = logs.get(logs.SIGNALS)

MESSAGE = "backlog"


class Signals(Struct, frozen=True):
    """What is pending after a sweep; ages in seconds, 0 where nothing is pending.

    Dead letters are counted to 500. `approved_by_sweep`: orders whose approval trigger
    was lost or late. The oldest snapshot is that of a session or of a prepared
    transaction; see `snapshots.py`.
    """

    oldest_event_seconds: int
    oldest_event_destination: str | None
    oldest_unapproved_seconds: int
    open_dead_letters: int
    approved_by_sweep: int
    oldest_snapshot_seconds: int = 0
    oldest_snapshot_owner: str | None = None


_AGE = "CAST(greatest(extract(epoch FROM now() - {}), 0) AS bigint)"
_COMPLETE_ORDERS = 100  # the oldest, of which the age is measured
_EVENTS_LOOKED_AT = 100  # of each destination
_MAX_DEAD_LETTERS = 500
# A resend keeps the event's first time, which says nothing about its wait.
_MEASURE = named(
    "signals.measure",
    f"""
WITH {DESTINATIONS},
oldest AS MATERIALIZED (
  SELECT d.name AS destination, {_AGE.format("w.created_at")} AS seconds
  FROM destinations d CROSS JOIN LATERAL (
    {waiting("x.created_at, x.is_resend", _EVENTS_LOOKED_AT)}) w
  WHERE NOT w.is_resend ORDER BY w.created_at LIMIT 1
),
complete AS MATERIALIZED (
  SELECT o.id, o.created_at FROM orders o
  WHERE o.is_complete AND NOT o.is_approved ORDER BY o.id LIMIT {_COMPLETE_ORDERS}
)
SELECT
  coalesce((SELECT seconds FROM oldest), 0) AS oldest_event_seconds,
  (SELECT destination FROM oldest) AS oldest_event_destination,
  coalesce((SELECT max({_AGE.format("since")}) FROM (
    SELECT coalesce((SELECT h.changed_at FROM order_history h
      WHERE h.order_id = c.id ORDER BY h.id DESC LIMIT 1), c.created_at) AS since
    FROM complete c) AS changed), 0) AS oldest_unapproved_seconds,
  (SELECT count(*) FROM (SELECT FROM dead_letters
    WHERE settled_as IS NULL LIMIT {_MAX_DEAD_LETTERS}) AS counted) AS open_dead_letters
""",  # noqa: S608 fragments of our own
)

_MAX_EVENTS = 10_000  # counted for each destination
_BACKLOG = named(
    "signals.backlog",
    f"""
WITH {DESTINATIONS}
SELECT d.name, least(w.events, {_MAX_EVENTS}), w.seconds, w.doubtful
FROM destinations d CROSS JOIN LATERAL (
  SELECT count(*) AS events, {_AGE.format("min(x.created_at)")} AS seconds,
    count(*) FILTER (WHERE x.doubts > 0) AS doubtful
  FROM ({waiting("x.created_at, x.doubts", _MAX_EVENTS)}) x) w
WHERE w.events > 0
""",  # noqa: S608 fragments of our own
)
# Columns of `_BACKLOG`.
_GAUGES = {
    "orders.outbox_events": 1,
    "orders.outbox_oldest_age": 2,
    "orders.outbox_doubtful_events": 3,
}


def report(engine: Engine, approved_by_sweep: int) -> None:
    """Log how far behind everything is, unless the database is busy.

    Raise DatabaseUnavailableError.
    """
    backlog: Sequence[Sequence[Any]] = ()
    try:
        with connect(engine) as connection:
            if tracing.is_on():
                backlog = connection.execute(_BACKLOG).all()
            measured = connection.execute(_MEASURE).mappings().one()
            oldest = next(iter(snapshots.read(connection)), None)
    except BusyError:
        log.warning("the backlog was not measured: the database is busy")
        return
    signals = Signals(
        **measured,
        approved_by_sweep=approved_by_sweep,
        oldest_snapshot_seconds=(oldest.seconds or 0) if oldest else 0,
        oldest_snapshot_owner=oldest.owner if oldest else None,
    )
    log.info(MESSAGE, extra={"fields": structs.asdict(signals)})
    if (sdk := tracing.sdk()) is not None:
        sdk.set_gauge("orders.dead_letters", {"": signals.open_dead_letters})
        lag = {"": signals.oldest_unapproved_seconds}
        sdk.set_gauge("orders.approval_lag", lag)
        for name, column in _GAUGES.items():
            sdk.set_gauge(name, {row[0]: row[column] for row in backlog})
