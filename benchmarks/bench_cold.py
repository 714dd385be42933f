"""Measure cold starts beside the bare framework's, and compare them with budgets.

Each start follows one of the bare framework, and only the ratio of the two is judged,
so that other work on the machine affects both. Functions with a database are started
with its URL, with the socket of a Cloud SQL instance, and with Google's connector,
whose figures are reported only.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.cold_starts import (
    CHECKOUT,
    ColdStartError,
    Request,
    Start,
    load,
    serve,
)
from benchmarks.cold_world import World, world
from infra.local.postgres_binaries import EmbeddedPostgresError

HELLO = Path(__file__).with_name("hello.py")
BUDGETS = Path(__file__).with_name("cold_budgets.toml")
LIVE = Request("/health/live")
BARE = "bare framework"
DATABASES = ("url", "socket", "connector")
WITHOUT_DATABASE = "api_docs/main.py"
_WHOLE = ("mebibytes",)


@dataclass
class Measured:
    """All starts of one process, each with the bare framework's just before it."""

    starts: list[Start] = field(default_factory=list)
    bare: list[Start] = field(default_factory=list)

    def ratios(self, what: str) -> list[float]:
        """Return each round's `live`, `work` or `processor`, x the bare framework's."""
        to = "processor" if what == "processor" else "live"
        starts = [getattr(each, what) for each in self.starts]
        bare = [getattr(each, to) for each in self.bare]
        pairs = zip(starts, bare, strict=True)
        return [start / alone for start, alone in pairs if start and alone]

    def figures(self) -> dict[str, float]:
        """Return the medians, by their names in the budgets."""
        found = {what: self.ratios(what) for what in ("live", "work", "processor")}
        found["mebibytes"] = [each.mebibytes for each in self.starts if each.mebibytes]
        return {
            name: round(statistics.median(each), 3)
            for name, each in found.items()
            if each
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; return the exit status: 0 within budget, 1 over, 2 cannot."""
    arguments = _arguments(argv)
    budgets = tomllib.loads(BUDGETS.read_text(encoding="utf-8"))["processes"]
    names = [n for n in budgets if not arguments.only or _has_any(arguments.only, n)]
    if not names:
        print(f"bench-cold: --only: one of {', '.join(budgets)}", file=sys.stderr)
        return 2
    try:
        with world() as ready:
            bare, measured = _measure(ready, _rows(names, arguments), arguments)
    except (ColdStartError, EmbeddedPostgresError) as error:
        print(f"bench-cold: {error}", file=sys.stderr)
        return 2
    figures = {name: each.figures() for name, each in measured.items()}
    budgets |= {f"{name} by socket": each for name, each in budgets.items()}
    over = {
        name: [
            f"{what} {value:.2f} > {budgets[name][what]}"
            for what, value in each.items()
            if value > budgets.get(name, {}).get(what, value)
        ]
        for name, each in figures.items()
    }
    over = {name: each for name, each in over.items() if each}
    if arguments.json:
        report = {
            "python": platform.python_version(),
            "rounds": arguments.rounds,
            "bytecode": not arguments.no_bytecode,
            "bare_ms": round(statistics.median(s.live for s in bare) * 1000),
            "bare_mebibytes": bare[0].mebibytes,
            "figures": figures,
            "over_budget": over,
        }
        print(json.dumps(report))
    else:
        _print(bare, measured, budgets, over)
    return 1 if over else 0


def _rows(
    names: Sequence[str], arguments: argparse.Namespace
) -> dict[str, tuple[str, str]]:
    """Return each row of the table: its process, and how that reaches the database."""
    rows = {}
    for name in names:
        has_database = name.endswith("main.py") and name != WITHOUT_DATABASE
        for database in arguments.database if has_database else ["url"]:
            row = name if database == "url" else f"{name} by {database}"
            rows[row] = (name, database)
    return rows


def _measure(
    ready: World, rows: dict[str, tuple[str, str]], arguments: argparse.Namespace
) -> tuple[list[Start], dict[str, Measured]]:
    measured = {row: Measured() for row in rows}
    bare: list[Start] = []
    environ = dict(ready.environ)
    with tempfile.TemporaryDirectory() as empty:
        if arguments.no_bytecode:
            environ["PYTHONDONTWRITEBYTECODE"] = "1"
            environ["PYTHONPYCACHEPREFIX"] = empty  # hides the bytecode beside sources

        def start(row: str) -> Start:
            name, database = rows[row]
            path = CHECKOUT / "functions" / name
            settings = environ | dict(ready.databases[database])
            if path.name != "main.py":
                return load(path, settings)
            target = path.parent.name
            return serve(path, target, settings, LIVE, ready.work[target])

        # The first start of each fills the file cache and compiles.
        serve(HELLO, "hello", environ, Request("/"))
        for row in rows:
            start(row)
        for round_ in range(arguments.rounds):
            print(f"round {round_ + 1} of {arguments.rounds}", file=sys.stderr)
            for row, each in measured.items():
                bare.append(serve(HELLO, "hello", environ, Request("/")))
                each.bare.append(bare[-1])
                each.starts.append(start(row))
    return bare, measured


def _print(
    bare: Sequence[Start],
    measured: dict[str, Measured],
    budgets: dict[str, Any],
    over: dict[str, list[str]],
) -> None:
    alone = statistics.median(start.live for start in bare)
    sizes = [start.mebibytes for start in bare if start.mebibytes]
    size = f", {statistics.median(sizes):.0f} MiB" if sizes else ""
    title = f"Python {platform.python_version()}, {len(bare)} starts of it"
    title += f", load average {os.getloadavg()[0]:.0f} on {os.cpu_count()} CPUs"
    print(f"{BARE}: {alone * 1000:.0f} ms to its first 200{size}; {title}")
    columns = {"live": 15, "work": 15, "processor": 15, "mebibytes": 12}
    heads = ["first 200", "first work", "processor", "MiB"]
    widths = zip(heads, columns.values(), strict=True)
    row = "".join(f"{head:>{width}}" for head, width in widths)
    print(f"{'x bare framework':<48}{row}  each round's first 200")
    for name, each in measured.items():
        cells = [f"{name:<48}"]
        allowed = budgets.get(name, {})
        for what, width in columns.items():
            found = each.figures().get(what)
            cell = "" if found is None else f"{found:.{0 if what in _WHOLE else 2}f}"
            if what in allowed and cell:
                cell += f" <= {allowed[what]}"
            cells.append(f"{cell:>{width}}")
        rounds = " ".join(f"{ratio:.2f}" for ratio in each.ratios("live"))
        print("".join(cells) + f"  {rounds}")
    for name, excesses in over.items():
        print(f"over budget: {name}: {', '.join(excesses)}")


def _has_any(parts: Sequence[str], name: str) -> bool:
    return any(part in name for part in parts)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="example: make bench-cold ARGS='--only orders_crud --rounds 5'",
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="their median is reported"
    )
    parser.add_argument(
        "--database",
        nargs="+",
        choices=DATABASES,
        default=DATABASES,
        help="how to reach it",
    )
    parser.add_argument("--only", nargs="*", help="processes whose name contains this")
    parser.add_argument(
        "--no-bytecode",
        action="store_true",
        help="hide all compiled bytecode, also the bare framework's",
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
