"""Measure periods of load: rate, latencies, and processor time a request.

Figures compare only within a round, so a ratio is the median of the rounds' ratios.
"""

import statistics
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from msgspec import Struct

from benchmarks import load, processes
from benchmarks.stage import Served
from benchmarks.traffic import Operation

LONGEST_SECONDS = 300.0

Key = tuple[str, int]  # operation, clients


class Sample(Struct, frozen=True, kw_only=True):
    """One period: responses a second, latencies and processor time in milliseconds.

    `statuses` counts all requests, including those of the warm-up.
    """

    rate: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    cpu_ms: float | None = None
    statuses: dict[int, int] = {}


def sample(
    seconds: float,
    took: Sequence[float],
    cpu_ms: float | None = None,
    statuses: dict[int, int] | None = None,
) -> Sample:
    """Return the sample of a period, from the ascending seconds of each request."""

    def percentile(percent: float) -> float | None:
        last = len(took) - 1
        return took[round(percent / 100 * last)] * 1000 if took else None

    return Sample(
        rate=len(took) / seconds,
        p50_ms=percentile(50),
        p95_ms=percentile(95),
        p99_ms=percentile(99),
        cpu_ms=cpu_ms,
        statuses=statuses or {},
    )


@dataclass
class Meter:
    """Takes and keeps samples, and examples of unexpected responses."""

    served: dict[str, Served]
    seconds: float
    samples: dict[Key, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    unexpected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def warm_up(self, operation: Operation, clients: int = 16) -> None:
        """Run it on every worker and thread before measuring."""
        self._run_period(operation, clients, min(1.0, self.seconds))

    def exhaust(self, operation: Operation, clients: int = 8) -> None:
        """Send each of its requests, a finite number, once."""
        self._run_period(operation, clients, LONGEST_SECONDS)

    def take(self, operation: Operation, clients: int) -> Sample:
        """Measure an operation with this number of clients, and keep the sample."""
        say(f"{operation.name} at {clients}")
        taken = self._run_period(operation, clients, self.seconds)
        self.keep(operation.name, clients, taken)
        return taken

    def keep(self, name: str, clients: int, taken: Sample) -> None:
        """Keep a sample that was taken elsewhere."""
        self.samples[name, clients].append(taken)

    def _run_period(self, operation: Operation, clients: int, seconds: float) -> Sample:
        served = self.served[operation.server]
        requests = operation.requests()
        before = processes.cpu_seconds(served.pid)
        period = load.Period(
            clients=clients,
            seconds=seconds,
            expected=operation.expected,
            allowed=operation.allowed,
        )
        outcome = load.run(served.port, requests, period)
        used = processes.cpu_seconds(served.pid) - before
        deque(islice(requests, outcome.sent), 0)  # the child advanced a copy
        if outcome.unexpected:
            self.unexpected[operation.name] += outcome.unexpected
            self.examples.setdefault(operation.name, outcome.example)
        cpu_ms = used / max(1, outcome.statuses.total()) * 1000
        statuses = dict(outcome.statuses)
        return sample(outcome.seconds, outcome.latencies, cpu_ms, statuses)

    def median(self, key: Key, figure: str) -> float | None:
        """Return the median of a figure over the rounds, None if there is none."""
        each = [getattr(taken, figure) for taken in self.samples.get(key, [])]
        known = [value for value in each if value is not None]
        return statistics.median(known) if known else None

    def ratio(self, key: Key, to: Key, figure: str) -> float | None:
        """Return the median of the rounds' ratios of a figure."""
        ours, theirs = self.samples.get(key, []), self.samples.get(to, [])
        pairs = [
            (getattr(one, figure), getattr(other, figure))
            for one, other in zip(ours, theirs, strict=False)
        ]
        each = [one / other for one, other in pairs if one is not None and other]
        return statistics.median(each) if each else None


def say(line: str) -> None:
    """Print how far the run is, on standard error."""
    sys.stderr.write(f"  {line}\n")
    sys.stderr.flush()
