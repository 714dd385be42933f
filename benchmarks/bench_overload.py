"""Measure what the service serves beyond its capacity, and how soon it recovers.

Clients and siblings share one thread of the measured machine.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from infra.local.postgres_binaries import EmbeddedPostgresError
from tests.support.crowded import MAX_CONNECTIONS, Crowded, crowded
from tests.support.multitude import Tally, merged
from tests.support.orderctl import orderctl

PLATEAU = (8, 16, 32)
SETTLE_SECONDS = 1.0
SERVED = (200, 201)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; return the exit status: 0 measured, 1 wrong, 2 cannot."""
    arguments = _arguments(argv)
    try:
        with crowded(
            max_connections=arguments.max_connections,
            workers=arguments.workers,
            threads=arguments.threads,
        ) as service:
            return _measure(service, arguments)
    except EmbeddedPostgresError as error:
        print(f"bench-overload: {error}", file=sys.stderr)
        return 2


def _measure(service: Crowded, arguments: argparse.Namespace) -> int:
    crowd = service.multitude
    turns: dict[int, list[Tally]] = {n: [] for n in (*PLATEAU, arguments.clients)}
    recovered = []
    crowd.set(PLATEAU[0], service.ports)
    crowd.measure(SETTLE_SECONDS)
    for number in range(arguments.rounds):
        for clients, measured in turns.items():
            print(
                f"round {number + 1} of {arguments.rounds}: {clients} clients",
                file=sys.stderr,
            )
            crowd.set(clients)
            crowd.measure(SETTLE_SECONDS)
            measured.append(crowd.measure(arguments.seconds))
        crowd.set(PLATEAU[0])
        recovered.append(crowd.seconds_until_calm())
    crowd.rest()
    whole = {clients: merged(tallies) for clients, tallies in turns.items()}
    failures = [s for s in crowd.samples if s.status not in (*SERVED, 503)]
    audit = orderctl(service.operator_url, "audit", "--json")
    results = {
        "max_connections": arguments.max_connections,
        "processes": 3 * arguments.workers,
        "threads": arguments.threads,
        "cpus": os.cpu_count(),
        "clients": {n: _figures(tally, whole) for n, tally in whole.items()},
        "recovered_seconds": [round(each, 1) for each in recovered],
        "failures": len(failures) + len(crowd.broken),
        "audit": audit.status,
    }
    print(json.dumps(results) if arguments.json else _table(results))
    return 1 if results["failures"] or audit.status else 0


def _figures(tally: Tally, whole: dict[int, Tally]) -> dict[str, float]:
    plateau = max(whole[n].goodput for n in PLATEAU)
    return {
        "served_per_second": round(tally.goodput, 1),
        "of_plateau": round(tally.goodput / plateau, 3),
        "p50_ms": round(tally.percentile(0.5), 1),
        "p99_ms": round(tally.percentile(0.99), 1),
        "refused_per_second": round(len(tally.refused) / tally.seconds, 1),
        "refused_p50_ms": round(tally.percentile(0.5, refused=True), 1),
    }


def _table(results: dict[str, object]) -> str:
    rows = results["clients"]
    assert isinstance(rows, dict)
    titles = ("served/s", "of plateau", "p50 ms", "p99 ms", "503/s", "after ms")
    widths = (10, 12, 8, 8, 8, 10)
    heads = zip(titles, widths, strict=True)
    lines = [
        "{processes} processes of {threads} threads,"
        " max_connections={max_connections}, {cpus} CPUs".format(**results),
        "clients" + "".join(f"{title:>{width}}" for title, width in heads),
    ]
    lines += [
        f"{clients:>7}{row['served_per_second']:>10.0f}{row['of_plateau']:>12.0%}"
        f"{row['p50_ms']:>8.0f}{row['p99_ms']:>8.0f}"
        f"{row['refused_per_second']:>8.1f}{row['refused_p50_ms']:>10.0f}"
        for clients, row in rows.items()
    ]
    lines.append(
        f"no more 503 after {results['recovered_seconds']} s;"
        f" {results['failures']} other responses; audit {results['audit']}"
    )
    return "\n".join(lines)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=3, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-connections", type=int, default=MAX_CONNECTIONS)
    parser.add_argument("--workers", type=int, default=2, help="of each function")
    parser.add_argument("--threads", type=int, default=8, help="of each worker")
    parser.add_argument("--json", action="store_true", help="for machines")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
