"""Write a run's results as a table for people and JSON for machines."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.measuring import Key, Meter
from benchmarks.stage import Stage

FIGURES = ("rate", "p50_ms", "p95_ms", "p99_ms", "cpu_ms")
HTTP, DATABASE = "hello", "pgbench"  # the ceilings
OF_DATABASE = ("database part", "checkout")
_PACKAGES = ("functions-framework", "flask", "gunicorn", "sqlalchemy", "pg8000", "pika")


def rows(meter: Meter) -> list[dict[str, Any]]:
    """Return a row for each operation and number of clients, medians of the rounds."""
    return [_row(meter, key) for key in meter.samples]


def _row(meter: Meter, key: Key) -> dict[str, Any]:
    operation, clients = key
    row: dict[str, Any] = {"operation": operation, "clients": clients}
    for figure in FIGURES:
        row[figure] = _rounded(meter.median(key, figure))
    ceilings = [DATABASE] if operation in OF_DATABASE else []
    ceilings += [HTTP] if operation not in (DATABASE, OF_DATABASE[0]) else []
    for name in (HTTP, DATABASE):
        ratio = meter.ratio(key, (name, clients), "rate") if name in ceilings else None
        row[f"of_{name}"] = _rounded(ratio)
    row["rates"] = [_rounded(sample.rate) for sample in meter.samples[key]]
    return row


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def conditions(ready: Stage, postgres: str) -> dict[str, Any]:
    """Return what the figures depend on: machine, versions, settings, date."""
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


def document(results: dict[str, Any]) -> str:
    """Return the JSON of a run, a line for each row: easy to read and compare."""

    def text(value: object) -> str:
        return msgspec.json.encode(value).decode()

    members = []
    for name, value in results.items():
        content = text(value)
        if isinstance(value, list) and value:
            content = "[\n  " + ",\n  ".join(map(text, value)) + "\n]"
        members.append(f"{text(name)}: {content}")
    return "{\n" + ",\n".join(members) + "\n}\n"


def print_results(results: dict[str, Any]) -> None:
    """Print the tables."""
    run = results["conditions"]
    print(
        f"{run['machine']} (load {run['load_average'][0]}), Python"
        f" {run['python']}, PostgreSQL {run['postgresql']}, {run['workers']}"
        f" workers of {run['threads']} threads, events to {run['bus']}"
    )
    for remark in results["remarks"]:
        print(remark)
    if results["rows"]:
        _print_rows(results["rows"])
    for split in results.get("layers", []):
        _print_layers(split)
    print()
    for each in results.get("past saturation", []):
        share, statuses = _percent(each["of_plateau"]), each["statuses"]
        print(f"checkout at {each['clients']} clients: {share} of 32's, {statuses}")
    for name, each in results.get("memory", {}).items():
        sizes = ", ".join(f"{size / 2**20:.0f}" for size in each)
        print(f"memory of {name}, MiB a process: {sizes}")
    for name, rate in results.get("relay", {}).get("events_per_second", {}).items():
        print(f"events a second, {name}: {rate}")
    for target in results["targets"]:
        print(_target_line(target))


def _print_rows(rows: Sequence[dict[str, Any]]) -> None:
    head = ("", "clients", "a second", "p50 ms", "p95 ms", "p99 ms", "CPU ms")
    widths = "{:<22}{:>8}{:>10}{:>9}{:>9}{:>9}{:>8}{:>10}{:>11}"
    print(widths.format(*head, "of hello", "of pgbench"))
    for row in rows:
        figures = [_short(row[name]) for name in FIGURES]
        shares = [_percent(row["of_hello"]), _percent(row["of_pgbench"])]
        print(widths.format(row["operation"], row["clients"], *figures, *shares))


def _print_layers(split: dict[str, Any]) -> None:
    cpu_ms = split["cpu_ms"]
    print(f"\nCPU of {split['operation']}, {cpu_ms:.2f} ms, {split['samples']} samples")
    for name, value in split["layers"].items():
        if value:
            print(f"  {name:<22}{value:>6.2f} ms {value / cpu_ms:>5.0%}")
    costly = ", ".join(f"{name} {value:.2f}" for name, value in split["functions"][:6])
    print(f"  by themselves: {costly}")
    ours = ", ".join(f"{name} {value:.2f}" for name, value in split["ours"][:10])
    print(f"  ours, with what they call: {ours}")


def _target_line(target: dict[str, Any]) -> str:
    words = {None: "not measured", True: "holds", False: "MISSED"}[target["holds"]]
    value = "" if target["value"] is None else f"{target['value']:.2f}"
    remark = f" ({target['remark']})" if target["remark"] else ""
    return f"{target['name']:<58}{value:>8}  {target['bound']:<8}{words}{remark}"


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def print_unexpected(meter: Meter) -> None:
    """Print unexpected responses on standard error."""
    for operation, count in meter.unexpected.items():
        example = meter.examples.get(operation, "")
        print(f"{operation}: {count} unexpected, such as\n{example}", file=sys.stderr)
