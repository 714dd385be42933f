"""Compare two versions of the code, both served at once, in short turns.

`python -m benchmarks.bench_versions ../other` serves this folder's functions and those
of the other one, each version with a database, siblings and an exchange of its own, and
asks one after the other, in changing order. A machine's speed wanders within minutes:
only two turns that follow each other compare, and many short ones tell more than a few
long ones.
"""

import argparse
import contextlib
import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct, to_builtins

from benchmarks import sections, traffic
from benchmarks.measuring import Meter, Sample, say
from benchmarks.stage import HERE, StageError, stage
from benchmarks.traffic import Operation, Orders
from infra.local.postgres_binaries import EmbeddedPostgresError

OPERATIONS = ("checkout", "read", "list", "status")
FIGURES = {"rate": "requests a second", "p50_ms": "median", "cpu_ms": "CPU a request"}
FEWEST = 6  # pairs of turns: fewer have no interval


class Ratio(Struct, frozen=True):
    """A figure of this version by the other's: the median of all pairs of turns.

    `low` and `high` are the median's interval of 95 %.
    """

    median: float
    low: float
    high: float


class Side(Struct, frozen=True):
    """One of the two versions: what asks it, and what was measured."""

    meter: Meter
    operation: Operation
    clients: int

    def turn(self) -> Sample:
        """Measure once more."""
        return self.meter.take(self.operation, self.clients)

    def figures(self, name: str) -> list[float]:
        """Return a figure of each turn."""
        key = (self.operation.name, self.clients)
        return [getattr(taken, name) for taken in self.meter.samples[key]]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; return the exit status: 0 measured, 1 wrong, 2 cannot."""
    arguments = _arguments(argv)
    try:
        with contextlib.ExitStack() as stack:
            ours = _served(stack, HERE.parent, arguments)
            other = _served(stack, arguments.other, arguments)
            return _measure(ours, other, arguments)
    except (StageError, EmbeddedPostgresError) as error:
        print(f"bench_versions: {error}", file=sys.stderr)
        return 2


def of_median(values: Sequence[float]) -> Ratio:
    """Return the median of at least FEWEST values with its interval of 95 %.

    The interval is the sign test's, which assumes nothing about the distribution.
    """
    ranked = sorted(values)
    count = len(ranked)
    beyond = 0.0  # the chance that the true median is below all but `rank` values
    rank = 0
    while (beyond := beyond + math.comb(count, rank) / 2**count) <= 0.025:
        rank += 1
    return Ratio(statistics.median(ranked), ranked[rank - 1], ranked[-rank])


def _served(
    stack: contextlib.ExitStack, folder: Path, arguments: argparse.Namespace
) -> Side:
    say(f"starting {folder}")
    ready = stack.enter_context(
        stage(
            folder,
            workers=arguments.workers,
            threads=arguments.threads,
            delay=arguments.delay / 1000,
            is_hot=arguments.hot,
        )
    )
    name = arguments.operation
    served = stack.enter_context(sections.servers(ready, [name]))
    meter = Meter(served, arguments.seconds)
    if name == "checkout":
        operation = traffic.checkout()
    else:
        orders = Orders(ready.database_url)
        each = {"read": orders.read, "list": orders.page, "status": orders.move}
        operation = each[name]()
    meter.warm_up(operation)
    return Side(meter, operation, arguments.clients)


def _measure(ours: Side, other: Side, arguments: argparse.Namespace) -> int:
    for number in range(arguments.pairs):
        for side in (ours, other) if number % 2 else (other, ours):
            side.turn()
    ratios = {}
    for figure in FIGURES:
        pairs = zip(ours.figures(figure), other.figures(figure), strict=True)
        ratios[figure] = of_median([one / two for one, two in pairs])
    unexpected = ours.meter.unexpected + other.meter.unexpected
    if arguments.json:
        results = {
            "operation": arguments.operation,
            "clients": arguments.clients,
            "pairs": arguments.pairs,
            "ratios": to_builtins(ratios),
            "unexpected": unexpected.total(),
        }
        print(json.dumps(results))
    else:
        print(f"{arguments.operation}, {arguments.pairs} pairs of turns")
        for figure, label in FIGURES.items():
            found = ratios[figure]
            medians = [statistics.median(s.figures(figure)) for s in (ours, other)]
            print(
                f"{label:20} {medians[0]:8.2f} {medians[1]:8.2f}"
                f"   this / other {found.median:.3f}"
                f" ({found.low:.3f} to {found.high:.3f})"
            )
    for example in (*ours.meter.examples.values(), *other.meter.examples.values()):
        print(f"unexpected: {example}", file=sys.stderr)
    return int(bool(unexpected))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_versions",
        description=__doc__.splitlines()[0],
    )
    add = parser.add_argument
    add("other", type=Path, help="a checkout of the other version")
    add("--operation", choices=OPERATIONS, default="checkout", help="(checkout)")
    add("--pairs", type=int, default=40, help="of turns, one of each version (40)")
    add("--seconds", type=float, default=1.0, help="of each turn (1)")
    add("--clients", type=int, default=8, help="(8)")
    # Of two workers one may have most of the connections, by chance.
    add("--workers", type=int, default=1, help="of each version (1)")
    add("--threads", type=int, default=8, help="of each worker (8)")
    add("--delay", type=float, default=5.0, help="of the siblings, in ms (5)")
    add("--hot", action="store_true", help="all carts have the same variations")
    add("--json", action="store_true", help="for machines")
    arguments = parser.parse_args(argv)
    arguments.other = arguments.other.resolve()
    if not (arguments.other / "functions").is_dir():
        parser.error(f"{arguments.other} holds no functions/")
    if arguments.pairs < FEWEST:
        parser.error(f"--pairs must be at least {FEWEST}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
