"""Fill a database with millions of orders as after years of business.

Indexes and foreign keys are dropped first and built at the end; after an interruption,
run the same command again.
"""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pg8000.native
import sqlalchemy
from msgspec import Struct, json
from sqlalchemy.schema import AddConstraint, DropConstraint

from benchmarks import fill_statements as statements
from common.database import migrations, tables
from tests.support.database import connect, plain_engine

CHUNK = 20_000  # orders of one transaction
DAY_SECONDS = 86_400
QUIET_SECONDS = 2
TABLES = {
    tables.orders: statements.ORDERS,
    tables.order_items: statements.ORDER_ITEMS,
    tables.order_history: statements.ORDER_HISTORY,
    tables.idempotency_records: statements.IDEMPOTENCY_RECORDS,
    tables.ordered_lines: statements.ORDERED_LINES,
    tables.sent_events: statements.SENT_EVENTS,
    tables.outbox: statements.OUTBOX,
}
# Built from sorted input they take a fraction of the time, and half the space.
_LATE = [index for table in TABLES for index in table.indexes]
_LATE_CONSTRAINTS: list[sqlalchemy.Constraint] = [
    tables.idempotency_records.primary_key,
    tables.ordered_lines.primary_key,
    *(constraint for table in TABLES for constraint in table.foreign_key_constraints),
]
_MARKS = "fill_progress"


class FillError(Exception):
    """The database cannot be filled; the message is one line."""


class Plan(Struct, frozen=True, kw_only=True):
    """What to fill with. `sent_days` of events are kept; about `pending` wait."""

    orders: int
    days: int = 730
    sent_days: float = 30.0
    pending: int = 0
    bus: str = "rabbitmq"


# Gets the numbers of orders done and in total, and the current step.
Progress = Callable[[int, int, str], None]


def fill(
    url: str,
    plan: Plan,
    *,
    jobs: int = 2,
    progress: Progress = lambda _done, _total, _what: None,
) -> None:
    """Migrate the database and fill it, or continue an interrupted fill.

    Raise FillError if it contains anything else.
    """
    with plain_engine(url) as engine:
        migrations.upgrade(engine)
        until, done = _begin(engine, plan)
        lows = [n for n in range(0, plan.orders, CHUNK) if n not in done]
        tally = _Tally(len(done) * CHUNK, plan.orders, progress)
        with _connections(url, jobs) as run:
            run(
                lambda connection, low: _fill_chunk(connection, plan, until, low),
                lows,
                tally.add,
            )
        _finish(engine, url, jobs, tally)


def _begin(engine: sqlalchemy.Engine, plan: Plan) -> tuple[str, set[int]]:
    """Prepare the tables; return the fill's end time and the chunks done already."""
    wanted = json.encode(plan).decode()
    with engine.begin() as connection:
        if not sqlalchemy.inspect(connection).has_table(_MARKS):
            if connection.execute(
                sqlalchemy.text("SELECT 1 FROM orders LIMIT 1")
            ).all():
                raise FillError("there are orders in this database already")
            connection.exec_driver_sql(
                f"CREATE TABLE {_MARKS} AS SELECT CAST(-1 AS bigint) AS low,"
                " CAST(%s AS text) AS plan, now() AS until",
                (wanted,),
            )
            for index in _LATE:
                index.drop(connection, checkfirst=True)
            for constraint in reversed(_LATE_CONSTRAINTS):
                connection.execute(DropConstraint(constraint))
        rows = connection.exec_driver_sql(
            f"SELECT low, plan, CAST(until AS text) FROM {_MARKS} ORDER BY low"  # noqa: S608 a name of our own
        ).all()
    [(_, known, until), *done] = rows
    if known != wanted:
        raise FillError(f"an interrupted run is to be finished first: {known}")
    return until, {low for low, _, _ in done}


def _fill_chunk(
    connection: pg8000.native.Connection, plan: Plan, until: str, low: int
) -> int:
    """Write one chunk of every table, whole or not at all; return how many orders."""
    high = min(low + CHUNK, plan.orders)
    # Each order of the newest fiftieth has some four events waiting, then nine.
    under_way = min(plan.orders // 50, plan.pending // 4)
    unsent = under_way + (plan.pending - 4 * under_way) // 9
    sent_up_to = plan.orders - unsent
    kept_from = f"CAST('{until}' AS timestamptz) - {plan.sent_days} * interval '1 day'"
    [[kept_from]] = connection.run(f"SELECT CAST({kept_from} AS text)")
    parameters = {
        "low": low + 1,
        "high": high,
        "total": plan.orders,
        "until": until,
        "seconds": plan.days * DAY_SECONDS,
        "bus": plan.bus,
        "kept_from": kept_from,
        "sent_up_to": sent_up_to,
    }
    connection.run("BEGIN")
    for table, statement in TABLES.items():
        age_days = (plan.orders - high) / plan.orders * plan.days
        if table is tables.sent_events and age_days > plan.sent_days + 3:
            continue
        if table is tables.outbox and high <= sent_up_to:
            continue
        connection.run(statement, **parameters)
    connection.run(
        f"INSERT INTO {_MARKS} VALUES (CAST(:low AS bigint))",  # noqa: S608 a name of our own
        low=low,
    )
    connection.run(
        "UPDATE retention SET kept_from = CAST(:since AS timestamptz)"
        " WHERE table_name = 'sent_events'"
        " AND kept_from <> CAST(:since AS timestamptz)",
        since=kept_from,
    )
    connection.run("COMMIT")
    return high - low


def _finish(engine: sqlalchemy.Engine, url: str, jobs: int, tally: "_Tally") -> None:
    """Build indexes and keys, advance the sequences, and update the statistics."""
    missing = _missing(engine)
    work = [_ddl(engine, index) for index in _LATE if index.name in missing]
    late = [
        str(AddConstraint(each).compile(engine))
        for each in _LATE_CONSTRAINTS
        if each.name in missing
    ]
    primary = [each for each in late if "PRIMARY KEY" in each]
    foreign = [each for each in late if "PRIMARY KEY" not in each]
    names = [table.name for table in TABLES]
    with _connections(url, jobs) as run:
        for what, each in (
            ("indexes", work + primary),
            ("foreign keys", foreign),
            ("statistics", [f"VACUUM (ANALYZE) {name}" for name in names]),
        ):
            run(_build, each, tally.reporting(what))
    with engine.begin() as connection:
        for table in TABLES:
            if "id" not in table.c or table.c.id.identity is None:
                continue
            connection.exec_driver_sql(
                f"SELECT setval('{table.name}_id_seq',"  # noqa: S608 names of our own
                f" (SELECT coalesce(max(id), 0) + 1 FROM {table.name}))"
            )
        connection.exec_driver_sql(f"DROP TABLE {_MARKS}")


def _ddl(engine: sqlalchemy.Engine, index: sqlalchemy.Index) -> str:
    return str(sqlalchemy.schema.CreateIndex(index).compile(engine))


def _missing(engine: sqlalchemy.Engine) -> set[object]:
    names: set[object] = {index.name for index in _LATE}
    names |= {constraint.name for constraint in _LATE_CONSTRAINTS}
    with engine.connect() as connection:
        there = connection.exec_driver_sql(
            "SELECT relname FROM pg_class UNION SELECT conname FROM pg_constraint"
        ).scalars()
        return names - set(there)


def _build(connection: pg8000.native.Connection, sql: str) -> int:
    connection.run(sql)
    return 1


@contextlib.contextmanager
def _connections(url: str, jobs: int) -> Iterator[Callable[..., None]]:
    """Yield a function that runs work in parallel, each on its own connection."""
    with contextlib.ExitStack() as stack:
        idle = [
            stack.enter_context(contextlib.closing(connect(url))) for _ in range(jobs)
        ]
        for connection in idle:
            # After a crash, fill again; sorting needs memory.
            connection.run("SET synchronous_commit = off")
            connection.run("SET maintenance_work_mem = '512MB'")
            connection.run("SET work_mem = '64MB'")
            connection.run("SET jit = off")
        pool = stack.enter_context(ThreadPoolExecutor(jobs))

        def run(
            work: Callable[[pg8000.native.Connection, Any], int],
            inputs: Sequence[Any],
            report: Callable[[int], None],
        ) -> None:
            def once(argument: Any) -> int:  # noqa: ANN401 the argument of any work
                connection = idle.pop()
                try:
                    return work(connection, argument)
                finally:
                    idle.append(connection)

            for count in pool.map(once, inputs):
                report(count)

        yield run


@dataclass
class _Tally:
    """Counts orders, and reports the progress."""

    done: int
    total: int
    progress: Progress

    def add(self, count: int) -> None:
        """Count some more."""
        self.done += count
        self.progress(self.done, self.total, "rows")

    def reporting(self, what: str) -> Callable[[int], None]:
        """Return what to call after each piece of work that has no orders to count."""
        return lambda _count: self.progress(self.total, self.total, what)


class Meter:
    """Prints the progress of a fill, its rate, and the remaining time."""

    def __init__(self) -> None:
        """Start counting."""
        self._began_at = self._printed_at = time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int, total: int, what: str) -> None:
        """Print it, at most every other second."""
        now = time.monotonic()
        if self._first is None:
            self._first = done  # the first chunk, or what an earlier run has done
            return
        if now - self._printed_at < QUIET_SECONDS and what == "rows":
            return
        self._printed_at = now
        seconds = now - self._began_at
        if what != "rows":
            print(f"fill: {what}, {seconds:.0f} s", file=sys.stderr, flush=True)
            return
        rate = max(1.0, (done - self._first) / seconds)
        print(
            f"fill: {done:,} of {total:,} orders, {rate:,.0f}/s,"
            f" {(total - done) / rate:.0f} s to go",
            file=sys.stderr,
            flush=True,
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a fill."""
    parser.add_argument("--orders", type=int, default=1_000_000, help="how many")
    parser.add_argument("--days", type=int, default=730, help="over how many days")
    parser.add_argument(
        "--sent-days",
        type=float,
        default=30.0,
        help="of how many days sent events are there (default: %(default)s)",
    )
    parser.add_argument(
        "--pending",
        type=int,
        default=0,
        help="about so many events of the newest orders still wait (default: 0)",
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="connections at once"
    )


def plan_of(arguments: argparse.Namespace) -> Plan:
    """Return the plan of the options."""
    return Plan(
        orders=arguments.orders,
        days=arguments.days,
        sent_days=arguments.sent_days,
        pending=arguments.pending,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Fill; return the exit status: 0 filled, 2 cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fill",
        description=__doc__.splitlines()[0],
        epilog="Example: python -m benchmarks.fill --orders 10000000"
        " --url postgresql://user:password@127.0.0.1:5432/scale",
    )
    parser.add_argument("--url", required=True, help="an empty database")
    add_options(parser)
    arguments = parser.parse_args(argv)
    began_at = time.monotonic()
    try:
        fill(arguments.url, plan_of(arguments), jobs=arguments.jobs, progress=Meter())
    except FillError as error:
        print(f"fill: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.orders:,} orders in {time.monotonic() - began_at:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
