"""Measure the service's speed beside the ceiling of the same machine.

Every measurement alternates with that of its ceiling, because only figures of one run
can be compared.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import plots, report, sections, targets
from benchmarks.measuring import Meter, say
from benchmarks.pgbench import PgbenchError
from benchmarks.sections import OPERATIONS, Run
from benchmarks.stage import HERE, Stage, StageError, stage
from benchmarks.traffic import MOVED_ORDERS
from infra.local.postgres_binaries import EmbeddedPostgresError
from tests.support import database

CLIENTS = (1, 8, 32)
RESULTS = HERE / "results"
SECTIONS: dict[str, Callable[[Run], None]] = {
    "lines": sections.lines,
    "depth": sections.depth,
    "overload": sections.overload,
    "layers": sections.split,
    "memory": sections.memory,
    "relay": sections.relay,
}
NAMES = (*OPERATIONS, "database", *SECTIONS)


class ColdFileError(Exception):
    """The file that `--cold` names cannot be read."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; return the exit status: 0 measured, 1 wrong, 2 cannot."""
    arguments = _arguments(argv)
    try:
        cold_start = _coldest(arguments.cold)
        with stage(
            arguments.checkout,
            workers=arguments.workers,
            threads=arguments.threads,
            delay=arguments.delay / 1000,
            bus=arguments.bus,
        ) as ready:
            return _measure(ready, arguments, cold_start)
    except (StageError, EmbeddedPostgresError, PgbenchError, ColdFileError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


def _measure(
    ready: Stage, arguments: argparse.Namespace, cold_start: float | None
) -> int:
    conditions = report.conditions(ready, _postgres(ready))
    with sections.servers(ready, arguments.only) as served:
        run = Run(
            ready=ready,
            meter=Meter(served, arguments.seconds),
            moved_orders=arguments.orders,
            rounds=arguments.rounds,
            clients=tuple(arguments.clients),
            relay_events=arguments.events,
        )
        wanted = arguments.only
        chosen = [name for name in wanted if name not in SECTIONS]
        if chosen:
            sections.operations(run, chosen)
        for name, section in SECTIONS.items():
            if name in wanted:
                section(run)
    shown = targets.shown(run.meter, cold_start)
    results = {
        "conditions": conditions,
        "remarks": run.remarks,
        "rows": report.rows(run.meter),
        "targets": [each.as_json() for each in shown],
        "unexpected": dict(run.meter.unexpected),
        **msgspec.to_builtins(run.extras),
    }
    if arguments.results:
        _write(results, arguments.results)
    if arguments.json:
        print(msgspec.json.encode(results).decode())
    else:
        report.print_results(results)
    report.print_unexpected(run.meter)
    is_missed = any(each.holds is False for each in shown)
    return int(bool(run.meter.unexpected) or (arguments.check and is_missed))


def _postgres(ready: Stage) -> str:
    [[version]] = database.execute(ready.database_url, "SHOW server_version")
    return str(version).split()[0]


def _coldest(path: Path | None) -> float | None:
    """Return the slowest function's cold start, as `make bench-cold` measured it."""
    if path is None:
        return None
    try:
        figures = json.loads(path.read_text())["figures"]
        served = [each for name, each in figures.items() if name.endswith("main.py")]
        return max(float(each["live"]) for each in served)
    except (OSError, ValueError, KeyError) as error:
        message = f"--cold {path}: no output of `make bench-cold ARGS=--json` ({error})"
        raise ColdFileError(message) from error


def _write(results: dict[str, Any], folder: Path) -> None:
    """Write the results' files, replacing those of an earlier run."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "bench.json"
    path.write_text(report.document(results))
    for written in (path, *plots.draw(results, folder)):
        say(f"wrote {written}")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench",
        description=__doc__.splitlines()[0],
        epilog='For example: make bench ARGS="--only read checkout --quick". With'
        " DATABASE_URL set, pages far down a list are read there (nothing is written).",
    )
    add = parser.add_argument
    add(
        "--only",
        nargs="+",
        choices=NAMES,
        default=NAMES,
        metavar="NAME",
        help=f"measure only some of {', '.join(NAMES)}",
    )
    add(
        "--quick", action="store_true", help="a minute or two in total; rougher figures"
    )
    add("--rounds", type=int, help="whose medians are reported (5; quick: 1)")
    add("--seconds", type=float, help="of each measurement (1; quick: 0.5)")
    add("--clients", type=int, nargs="+", default=list(CLIENTS), help="(1 8 32)")
    add("--workers", type=int, default=2, help="of each function (2)")
    add("--threads", type=int, default=4, help="of each worker (4)")
    add("--delay", type=float, default=5.0, help="of the siblings, in ms (5)")
    add(
        "--bus",
        choices=("auto", "rabbitmq", "http"),
        default="auto",
        help="where events go (auto: RabbitMQ if there is one)",
    )
    add("--orders", type=int, default=MOVED_ORDERS, help="to change the status of")
    add("--events", type=int, help="for the relay (20000; quick: 4000)")
    add(
        "--cold",
        type=Path,
        metavar="FILE",
        help="the output of `make bench-cold ARGS=--json`, to be reported as well",
    )
    add(
        "--checkout",
        type=Path,
        default=HERE.parent,
        help="measure the code in this folder, with the Python of its .venv",
    )
    add(
        "--results",
        type=Path,
        metavar="FOLDER",
        help="write JSON and plots there (a whole run: benchmarks/results)",
    )
    add("--json", action="store_true", help="for machines")
    add("--check", action="store_true", help="exit 1 if a target is missed")
    arguments = parser.parse_args(argv)
    is_whole = arguments.only == NAMES and not arguments.quick
    if arguments.results is None and is_whole:
        arguments.results = RESULTS
    arguments.checkout = arguments.checkout.resolve()
    arguments.seconds = arguments.seconds or (0.5 if arguments.quick else 1.0)
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 5)
    arguments.events = arguments.events or (4_000 if arguments.quick else 20_000)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
