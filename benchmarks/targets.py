"""What the service must show, as ratios, and whether a run showed it.

Lives here: figures with their targets. Not here: measuring. Surprise: a figure that a
run did not take is told as such, and does not count as missed.
"""

from collections.abc import Callable

from msgspec import Struct

from benchmarks.measuring import Key, Meter


class Target(Struct, frozen=True, kw_only=True):
    """A ratio that must be at least, or at most, so much."""

    name: str
    at_least: float | None = None
    at_most: float | None = None
    remark: str = ""

    def bound(self) -> str:
        """Answer the bound as it is written."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}"


class Shown(Struct, frozen=True):
    """A target beside what was measured; `value` is None where nothing was."""

    target: Target
    value: float | None

    @property
    def holds(self) -> bool | None:
        """Tell whether it holds; None where it was not measured."""
        if self.value is None:
            return None
        at_least, at_most = self.target.at_least, self.target.at_most
        is_enough = at_least is None or self.value >= at_least
        return is_enough and (at_most is None or self.value <= at_most)

    def told(self) -> dict[str, object]:
        """Answer it for machines."""
        return {
            "name": self.target.name,
            "bound": self.target.bound(),
            "value": self.value,
            "holds": self.holds,
            "remark": self.target.remark,
        }


def _ratio(key: Key, to: Key, figure: str) -> Callable[[Meter], float | None]:
    return lambda meter: meter.ratio(key, to, figure)


_TABLE: tuple[tuple[Target, Callable[[Meter], float | None]], ...] = (
    (
        Target(name="database part of a checkout, of pgbench's, at 8", at_least=0.5),
        _ratio(("database part", 8), ("pgbench", 8), "rate"),
    ),
    (
        Target(name="CPU of a checkout, of /health/live's, at 8", at_most=8.0),
        _ratio(("checkout", 8), ("health", 8), "cpu_ms"),
    ),
    (
        Target(
            name="cold start, of the bare framework's",
            at_most=2.2,
            remark="make bench-cold",
        ),
        lambda _: None,
    ),
    (
        Target(name="reading an order, rate, of hello world's, at 8", at_least=0.45),
        _ratio(("read", 8), ("hello", 8), "rate"),
    ),
    (
        Target(name="a page far down a list, of the first's, p50, at 1", at_most=1.2),
        _ratio(("page far down", 1), ("first page", 1), "p50_ms"),
    ),
    (
        Target(name="checkout of 100 lines, of 5's, p50, at 1", at_most=3.0),
        _ratio(("checkout 100", 1), ("checkout 5", 1), "p50_ms"),
    ),
    (
        Target(name="idempotent replay, of the first call's, p50, at 8", at_most=0.3),
        _ratio(("replay", 8), ("first call", 8), "p50_ms"),
    ),
)


def shown(meter: Meter) -> list[Shown]:
    """Answer every target beside what the run measured."""
    return [Shown(target, measure(meter)) for target, measure in _TABLE]
