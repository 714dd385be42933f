"""Targets for a run's ratios, and whether it met them.

A figure that was not measured is reported as such, and does not count as missed.
"""

from msgspec import Struct

from benchmarks.measuring import Key, Meter


class Target(Struct, frozen=True, kw_only=True):
    """A figure of one operation, as a ratio to another's, and its bound."""

    name: str
    of: Key
    to: Key
    figure: str
    at_least: float | None = None
    at_most: float | None = None
    remark: str = ""

    def bound(self) -> str:
        """Return the bound as it is written."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}"


class Shown(Struct, frozen=True):
    """A target beside what was measured; `value` is None if nothing was."""

    target: Target
    value: float | None

    @property
    def holds(self) -> bool | None:
        """Return whether it holds; None if it was not measured."""
        if self.value is None:
            return None
        at_least, at_most = self.target.at_least, self.target.at_most
        is_enough = at_least is None or self.value >= at_least
        return is_enough and (at_most is None or self.value <= at_most)

    def as_json(self) -> dict[str, object]:
        """Return it as JSON's types."""
        return {
            "name": self.target.name,
            "bound": self.target.bound(),
            "value": self.value,
            "holds": self.holds,
            "remark": self.target.remark,
        }


COLD = ("cold start", 1)
TARGETS = (
    Target(
        name="database part of a checkout, of pgbench's, rate, at 8",
        of=("database part", 8),
        to=("pgbench", 8),
        figure="rate",
        at_least=0.65,
    ),
    Target(
        name="checkout, of hello world, CPU, at 8",
        of=("checkout", 8),
        to=("hello", 8),
        figure="cpu_ms",
        at_most=16.0,
    ),
    Target(
        name="cold start, of the bare framework's, the slowest",
        of=COLD,
        to=("bare cold start", 1),
        figure="p50_ms",
        at_most=2.1,
        remark="make bench-cold, --cold",
    ),
    Target(
        name="reading an order, of hello world, rate, at 8",
        of=("read", 8),
        to=("hello", 8),
        figure="rate",
        at_least=0.4,
    ),
    Target(
        name="a page far down a list, of the first, p50, at 1",
        of=("page far down", 1),
        to=("first page", 1),
        figure="p50_ms",
        at_most=1.2,
    ),
    Target(
        name="checkout of 100 lines, of 5, p50, at 1",
        of=("checkout 100", 1),
        to=("checkout 5", 1),
        figure="p50_ms",
        at_most=3.0,
    ),
    Target(
        name="idempotent replay, of the first call, p50, at 8",
        of=("replay", 8),
        to=("first call", 8),
        figure="p50_ms",
        at_most=0.3,
    ),
)


def shown(meter: Meter, cold: float | None = None) -> list[Shown]:
    """Return every target beside what the run measured; `cold` is given."""
    return [
        Shown(
            target,
            cold
            if target.of == COLD
            else meter.ratio(target.of, target.to, target.figure),
        )
        for target in TARGETS
    ]
