"""Measure pages, sweeps, audit, relay and retention with millions of orders.

Reported are the first round, which reads from disk, then of the others the fastest
tenth, on which ratios are based, and the median.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Sequence

from benchmarks import fill
from benchmarks.scale_cases import Case, Rate, cases, look_around, rates
from common.config import settings as config
from common.config.endpoints import Database
from common.database.engine import Engine, Statement, connect, make_engine
from infra.local.postgres import postgres_server
from infra.local.postgres_binaries import EmbeddedPostgresError
from tests.support import database

DEEP = "orders, 1,000,000 deep"
MAX_RATIO = 1.2  # times the first page


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; return the exit status: 1 if depth costs, 2 cannot."""
    arguments = _arguments(argv)
    with contextlib.ExitStack() as stack:
        try:
            url = arguments.url or stack.enter_context(_database())
            if arguments.url is None or arguments.fill:
                plan = fill.plan_of(arguments)
                fill.fill(url, plan, jobs=arguments.jobs, progress=fill.Meter())
        except (EmbeddedPostgresError, fill.FillError) as error:
            print(f"bench-scale: {error}", file=sys.stderr)
            return 2
        settings = config.load({"DATABASE_URL": url}, needs=("DATABASE",)).database
        assert isinstance(settings, Database)
        engine = make_engine(settings)
        stack.callback(engine.dispose)
        return _measure(engine, arguments)


def _measure(engine: Engine, arguments: argparse.Namespace) -> int:
    around = look_around(engine)
    with connect(engine) as connection:
        found = cases(engine, connection, around)
        if arguments.only:
            found = [c for c in found if any(part in c.name for part in arguments.only)]
        milliseconds: dict[str, list[float]] = {case.name: [] for case in found}
        for number in range(arguments.rounds):
            for case in found:
                began_at = time.perf_counter()
                case.run()
                took = (time.perf_counter() - began_at) * 1000
                milliseconds[case.name].append(took)
            print(f"bench-scale: round {number + 1}", file=sys.stderr, flush=True)
    measured = [] if arguments.only else rates(engine, around, arguments.seconds)
    with connect(engine) as connection:
        server, size = connection.execute(
            Statement(
                "SELECT current_setting('server_version'),"
                " pg_size_pretty(pg_database_size(current_database()))"
            )
        ).one()
    environment = {
        "orders": around.orders,
        "heavy_orders": around.heavy_orders,
        "postgresql": server,
        "size": size,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "date": time.strftime("%Y-%m-%d"),
    }
    _print(environment, found, milliseconds, measured, as_json=arguments.json)
    deep = [case for case in found if case.name == DEEP and case.beside in milliseconds]
    is_flat = all(_ratio(case, milliseconds) <= MAX_RATIO for case in deep)
    return 0 if is_flat else 1


def _fast(times: Sequence[float]) -> float:
    """Return the fastest tenth, as other work on the machine only adds to times."""
    later = sorted(times[1:] or times)  # the first read from disk
    return later[len(later) // 10]


def _ratio(case: Case, milliseconds: dict[str, list[float]]) -> float:
    assert case.beside
    return _fast(milliseconds[case.name]) / _fast(milliseconds[case.beside])


def _print(
    environment: dict[str, object],
    found: Sequence[Case],
    milliseconds: dict[str, list[float]],
    measured: Sequence[Rate],
    *,
    as_json: bool,
) -> None:
    rows = [
        {
            "name": case.name,
            "first_ms": round(milliseconds[case.name][0], 2),
            "fast_ms": round(_fast(milliseconds[case.name]), 2),
            "median_ms": round(statistics.median(milliseconds[case.name]), 2),
            "ratio": round(_ratio(case, milliseconds), 2)
            if case.beside in milliseconds
            else None,
        }
        for case in found
    ]
    rated = [
        {
            "name": rate.name,
            "count": rate.count,
            "seconds": round(rate.seconds, 2),
            "per_second": round(rate.per_second),
            "log_bytes_each": round(rate.log_bytes_each),
        }
        for rate in measured
    ]
    if as_json:
        print(json.dumps({**environment, "cases": rows, "rates": rated}))
        return
    print(", ".join(f"{name} {value}" for name, value in environment.items()))
    print(f"\n{'':<34}{'first':>9}{'tenth':>9}{'median':>9} ms   of first page")
    for row in rows:
        ratio = f"{row['ratio']:>14}" if row["ratio"] is not None else ""
        print(
            f"{row['name']:<34}{row['first_ms']:>9}{row['fast_ms']:>9}"
            f"{row['median_ms']:>9}   {ratio}"
        )
    print(f"\n{'':<34}{'count':>9}{'seconds':>9}{'a second':>12}{'log bytes each':>16}")
    for one in rated:
        print(
            f"{one['name']:<34}{one['count']:>9}{one['seconds']:>9}"
            f"{one['per_second']:>12}{one['log_bytes_each']:>16}"
        )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench-scale",
        description=__doc__.splitlines()[0],
        epilog="Exit status 1: a page a million rows deep costs more than"
        f" {MAX_RATIO} times the first."
        ' Example: make bench-scale ARGS="--orders 10000000 --json"',
    )
    parser.add_argument(
        "--url",
        help="a database that `python -m benchmarks.fill` has filled; without it one of"
        " its own is started, filled and removed",
    )
    parser.add_argument(
        "--fill", action="store_true", help="fill the database of --url first"
    )
    parser.add_argument("--rounds", type=int, default=30, help="of all cases")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="of relaying (default: %(default)s)"
    )
    parser.add_argument("--only", nargs="*", help="cases whose name contains this")
    parser.add_argument("--json", action="store_true", help="for machines")
    fill.add_options(parser)
    parser.set_defaults(pending=None)
    arguments = parser.parse_args(argv)
    if arguments.pending is None:
        arguments.pending = arguments.orders // 10
    return arguments


@contextlib.contextmanager
def _database() -> Iterator[str]:
    """Yield an empty database on an embedded server of its own."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(database.scratch_folder())
        server = stack.enter_context(postgres_server(folder, durable=True))
        # Written once, and never to be recovered. Page images would hide the log's own.
        database.execute(server, "ALTER SYSTEM SET fsync = off")
        database.execute(server, "ALTER SYSTEM SET full_page_writes = off")
        database.execute(server, "ALTER SYSTEM SET max_wal_size = '8GB'")
        database.execute(server, "SELECT pg_reload_conf()")
        yield stack.enter_context(database.database(server))


if __name__ == "__main__":
    sys.exit(main())
