"""Numbers over time: orders, approvals and failures; backlog and latency of events."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from common.database.engine import Connection, Engine, connect, named
from common.errors import NotFoundError
from common.operations.lookup.find import SKEW, edge
from common.store.paging import MAX_ROWS_SCANNED

_MOST_COUNTED = 100_000  # orders behind a chart
_COUNT = named(
    "console.count",
    f"""
WITH newest AS (
  SELECT o.created_at, o.approved_at FROM orders o
  WHERE o.id >= CAST(:down_to AS bigint)
  ORDER BY o.id DESC LIMIT {_MOST_COUNTED}
),
happened(at, what) AS (
  SELECT created_at, 'order' FROM newest
  UNION ALL SELECT approved_at, 'approval' FROM newest
  UNION ALL (SELECT created_at, 'failure' FROM dead_letters
    ORDER BY id DESC LIMIT {MAX_ROWS_SCANNED})
)
SELECT date_trunc(:unit, at, 'UTC'), count(*) FILTER (WHERE what = 'order'),
  count(*) FILTER (WHERE what = 'approval'), count(*) FILTER (WHERE what = 'failure')
FROM happened WHERE at >= CAST(:since AS timestamptz) GROUP BY 1
""",  # noqa: S608 fragments of our own
)


_MOST_EVENTS = 50_000  # sent ones behind a chart, and as many that wait
# A resend keeps the event's first time, which says nothing about its wait.
_SENT = f"""
WITH sent AS MATERIALIZED (
  SELECT created_at, sent_at FROM sent_events WHERE NOT is_resend
  ORDER BY id DESC LIMIT {_MOST_EVENTS}
)"""  # noqa: S608 fragments of our own
# What came in less what went out, of all that was there for longer than a moment.
_BACKLOG = named(
    "console.count_backlog",
    f"""{_SENT},
moved(at, n) AS (
  SELECT date_trunc(:unit, created_at, 'UTC'), 1 FROM sent
  UNION ALL SELECT date_trunc(:unit, sent_at, 'UTC'), -1 FROM sent
  UNION ALL SELECT * FROM (SELECT date_trunc(:unit, created_at, 'UTC'), 1 FROM outbox
    WHERE NOT is_resend ORDER BY id LIMIT {_MOST_EVENTS}) pending
)
SELECT at, sum(sum(n)) OVER (ORDER BY at) FROM moved GROUP BY at
""",  # noqa: S608 fragments of our own
)
_LATENCY = named(
    "console.count_latency",
    f"""{_SENT}
SELECT date_trunc(:unit, sent_at, 'UTC'),
  CAST(percentile_disc(0.5) WITHIN GROUP (ORDER BY took) * 1000 AS bigint),
  CAST(percentile_disc(0.95) WITHIN GROUP (ORDER BY took) * 1000 AS bigint)
FROM (SELECT sent_at, greatest(extract(epoch FROM sent_at - created_at), 0) AS took
  FROM sent WHERE sent_at >= CAST(:since AS timestamptz)) taken
GROUP BY 1
""",  # noqa: S608 fragments of our own
)

Numbers = dict[datetime, tuple[int, ...]]


def _orders(connection: Connection, unit: str, starts: list[datetime]) -> Numbers:
    """Count orders, their approvals and dead letters."""
    parameters = {
        "unit": unit,
        "since": starts[0].isoformat(),
        "down_to": edge(connection, starts[0] - SKEW),
    }
    return {at: tuple(counts) for at, *counts in connection.execute(_COUNT, parameters)}


def _backlog(connection: Connection, unit: str, starts: list[datetime]) -> Numbers:
    """Count the events that were pending at the end of each unit."""
    found = connection.execute(_BACKLOG, {"unit": unit})
    rows: dict[datetime, int] = {row[0]: row[1] for row in found}
    times = sorted(rows)
    counts: Numbers = {}
    for start in starts:
        past = [at for at in times if at <= start]
        counts[start] = (max(0, int(rows[past[-1]])) if past else 0,)
    return counts


def _latency(connection: Connection, unit: str, starts: list[datetime]) -> Numbers:
    """Measure how long events waited until they were confirmed."""
    parameters = {"unit": unit, "since": starts[0].isoformat()}
    rows = connection.execute(_LATENCY, parameters)
    return {at: tuple(milliseconds) for at, *milliseconds in rows}


class Chart(Struct, frozen=True):
    """A chart: the names of its series, and the numbers of each bar after its label."""

    name: str
    title: str
    series: tuple[str, ...]
    note: str
    rows: list[tuple[str, tuple[int, ...]]]


class _Kind(Struct, frozen=True):
    title: str
    series: tuple[str, ...]
    note: str
    count: Callable[[Connection, str, list[datetime]], Numbers]


_KINDS = {
    "orders": _Kind(
        "Orders",
        ("orders", "approvals", "dead letters"),
        "Of the newest 100,000 orders at most. Approvals are of orders created in this"
        " time.",
        _orders,
    ),
    "backlog": _Kind(
        "Pending events",
        ("pending at the end",),
        f"Of the newest {_MOST_EVENTS:,} events that were sent, and of those that are"
        " pending.",
        _backlog,
    ),
    "latency": _Kind(
        "Milliseconds until events were confirmed",
        ("half of them within", "95 of 100 within"),
        f"Of the newest {_MOST_EVENTS:,} events that were sent.",
        _latency,
    ),
}
# Title, unit of time, its length, how many bars, and the format of their labels.
_SPANS = {
    "hours": ("the last 24 hours", "hour", timedelta(hours=1), 24, "%H:%M"),
    "days": ("the last 30 days", "day", timedelta(days=1), 30, "%d %b"),
}
TITLES = {
    f"{kind}-{span}": f"{_KINDS[kind].title}, {_SPANS[span][0]}"
    for kind in _KINDS
    for span in _SPANS
}


def chart(engine: Engine, name: str) -> Chart:
    """Return one of the charts in `TITLES`; raise NotFoundError."""
    if name not in TITLES:
        raise NotFoundError
    kind_name, _, span = name.partition("-")
    kind, (_, unit, step, number, label) = _KINDS[kind_name], _SPANS[span]
    last = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    last = last.replace(hour=0) if unit == "day" else last
    starts = [last - step * n for n in reversed(range(number))]
    with connect(engine) as connection:
        counts = kind.count(connection, unit, starts)
    none = (0,) * len(kind.series)
    rows = [(at.strftime(label), counts.get(at, none)) for at in starts]
    return Chart(name, TITLES[name], kind.series, kind.note, rows)
