"""What a run says: a table for people, JSON for machines.

Lives here: putting figures into words. Not here: figures. Surprise: each row names its
ceiling of the same run; a rate by itself says more about the machine.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measuring import Key, Meter
from benchmarks.stage import Stage
from benchmarks.targets import Shown

FIGURES = ("rate", "p50_ms", "p95_ms", "p99_ms", "cpu_ms")
_PACKAGES = ("functions-framework", "flask", "gunicorn", "sqlalchemy", "pg8000", "pika")


def rows(meter: Meter) -> list[dict[str, Any]]:
    """Answer a row for each operation and number of clients, medians of the rounds."""
    return [_row(meter, key) for key in meter.samples]


def _row(meter: Meter, key: Key) -> dict[str, Any]:
    operation, clients = key
    row: dict[str, Any] = {"operation": operation, "clients": clients}
    for figure in FIGURES:
        row[figure] = _rounded(meter.median(key, figure))
    row["of_hello"] = _rounded(meter.ratio(key, ("hello", clients), "rate"))
    row["of_pgbench"] = _rounded(meter.ratio(key, ("pgbench", clients), "rate"))
    row["rates"] = [_rounded(sample.rate) for sample in meter.samples[key]]
    return row


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def conditions(ready: Stage, postgres: str) -> dict[str, Any]:
    """Answer what the figures depend on: machine, versions, settings, date."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "load_average": [round(each, 1) for each in os.getloadavg()],
        "python": platform.python_version(),
        "postgresql": postgres,
        "packages": {name: version(name) for name in _PACKAGES},
        "commit": _commit(ready.checkout),
        "bus": ready.bus,
        "workers": ready.workers,
        "threads": ready.threads,
    }


def _commit(checkout: Path) -> str | None:
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def tell(told: dict[str, Any], targets: Iterable[Shown]) -> None:
    """Print the tables."""
    where = told["conditions"]
    print(
        f"{where['machine']} (load {where['load_average'][0]}), Python"
        f" {where['python']}, PostgreSQL {where['postgresql']}, {where['workers']}"
        f" workers of {where['threads']} threads, events to {where['bus']}"
    )
    head = ("", "clients", "a second", "p50 ms", "p95 ms", "p99 ms", "CPU ms")
    widths = "{:<24}{:>8}{:>10}{:>9}{:>9}{:>9}{:>8}{:>10}{:>11}"
    print(widths.format(*head, "of hello", "of pgbench"))
    for row in told["rows"]:
        figures = [_short(row[name]) for name in FIGURES]
        shares = [_percent(row["of_hello"]), _percent(row["of_pgbench"])]
        print(widths.format(row["operation"], row["clients"], *figures, *shares))
    print()
    for each in targets:
        print(_target_line(each))


def _target_line(shown: Shown) -> str:
    target = shown.target
    words = {None: "not measured", True: "holds", False: "MISSED"}[shown.holds]
    value = "" if shown.value is None else f"{shown.value:.2f}"
    remark = f" ({target.remark})" if target.remark else ""
    return f"{target.name:<58}{value:>8}  {target.bound():<8}{words}{remark}"


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def complain(meter: Meter) -> None:
    """Tell on standard error what was answered that should not have been."""
    for operation, count in meter.unexpected.items():
        said = meter.said.get(operation, "")
        print(f"{operation}: {count} unexpected, such as\n{said}", file=sys.stderr)
