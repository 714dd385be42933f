"""Spells of load, measured: rate, latencies, processor time a request.

Lives here: a measurement and what several rounds of it amount to. Not here: which are
taken (`bench.py`). Surprise: figures of two things compare only within a round, so a
ratio is the median of the rounds' ratios, never a ratio of medians.
"""

import statistics
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from msgspec import Struct

from benchmarks import load, processes
from benchmarks.stage import Served
from benchmarks.traffic import Operation

LONGEST_SECONDS = 300.0

Key = tuple[str, int]  # operation, clients


class Sample(Struct, frozen=True):
    """One spell: answers a second, latencies and processor time in milliseconds."""

    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_ms: float
    statuses: dict[int, int]


@dataclass
class Meter:
    """Takes samples and keeps them; knows what went wrong."""

    served: Mapping[str, Served]
    seconds: float
    samples: dict[Key, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    unexpected: Counter[str] = field(default_factory=Counter)
    said: dict[str, str] = field(default_factory=dict)

    def warm_up(self, operation: Operation, clients: int = 16) -> None:
        """Have every worker and thread do it before the clock runs."""
        self._spell(operation, clients, max(0.5, self.seconds / 2))

    def exhaust(self, operation: Operation, clients: int = 8) -> None:
        """Have each of its requests, which must end, sent once."""
        self._spell(operation, clients, LONGEST_SECONDS)

    def take(
        self, operation: Operation, clients: int, *, share_of_seconds: float = 1.0
    ) -> Sample:
        """Measure an operation at so many clients, and keep it."""
        say(f"{operation.name} at {clients}")
        sample = self._spell(operation, clients, self.seconds * share_of_seconds)
        self.samples[operation.name, clients].append(sample)
        return sample

    def _spell(self, operation: Operation, clients: int, seconds: float) -> Sample:
        served = self.served[operation.function]
        spell = load.Spell(
            clients=clients, seconds=seconds, expected=operation.expected
        )
        requests = operation.requests()
        before = processes.cpu_seconds(served.pid)
        outcome = load.run(served.port, requests, spell)
        used = processes.cpu_seconds(served.pid) - before
        deque(islice(requests, outcome.sent), 0)  # the child's iterator is a copy
        if outcome.unexpected:
            self.unexpected[operation.name] += outcome.unexpected
            self.said.setdefault(operation.name, outcome.said)
        answered = max(1, sum(outcome.statuses.values()))
        return Sample(
            rate=outcome.rate,
            p50_ms=outcome.percentile(50) * 1000,
            p95_ms=outcome.percentile(95) * 1000,
            p99_ms=outcome.percentile(99) * 1000,
            cpu_ms=used / answered * 1000,
            statuses=dict(outcome.statuses),
        )

    def median(self, key: Key, figure: str) -> float | None:
        """Answer the median of a figure over the rounds, None where there is none."""
        each = [getattr(sample, figure) for sample in self.samples.get(key, [])]
        return statistics.median(each) if each else None

    def ratio(self, key: Key, to: Key, figure: str) -> float | None:
        """Answer the median of the rounds' ratios of a figure."""
        ours, theirs = self.samples.get(key, []), self.samples.get(to, [])
        pairs = zip(ours, theirs, strict=False)
        each = [
            getattr(one, figure) / getattr(other, figure)
            for one, other in pairs
            if getattr(other, figure)
        ]
        return statistics.median(each) if each else None


Say = Callable[[str], None]


def say(line: str) -> None:
    """Tell how far the run is, on standard error."""
    sys.stderr.write(f"  {line}\n")
    sys.stderr.flush()
