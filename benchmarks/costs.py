"""Compute what Google Cloud costs a month, from measured figures and a price table.

`results/order_log.json` has an order's requests, events and lines of log,
`results/bench.json` the processor time of requests, `costs.toml` prices and scenarios.
The tables go into `docs/costs.md`, between its marks.
"""

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "costs.md"
MARKS = re.compile(r"(<!-- costs -->\n).*?(<!-- end of costs -->)", re.DOTALL)
HOURS = 730
SECONDS = HOURS * 3600
GIB, TIB = 2**30, 2**40
SWEEPS = HOURS * 60
CLIENTS = 8
# The operation whose processor time a function's request takes, and its share of it:
# five of six triggers find nothing to do.
OPERATIONS = {
    "create_order_from_cart": ("checkout", 1.0),
    "orders_crud": ("read", 1.0),
    "item_status": ("status", 1.0),
    "approval_handler": ("status", 0.5),
}

Table = Mapping[str, Any]


class Costs:
    """The costs of one scenario, in dollars a month."""

    def __init__(
        self, prices: Table, scenario: Table, log: Table, cpu_ms: Mapping[str, float]
    ) -> None:
        self._prices, self._scenario, self._log = prices, scenario, log
        self._assumed = prices["assumed"]
        self._cpu_ms = cpu_ms
        self._orders = scenario["orders_a_second"] * SECONDS

    def _instances(self, function: str) -> tuple[float, float]:
        """Return how many instances run on average, and how many are busy."""
        rate = self._scenario["orders_a_second"] * self._log["requests"][function]
        operation, share = OPERATIONS[function]
        needed = rate * self._cpu_ms[operation] * share / 1000 / self._assumed["busy"]
        running = max(1.0, needed) if rate else 0.0
        return running, min(running, float(rate * self._assumed["billed_seconds"]))

    def requests(self) -> float:
        """Return the number of requests a month, those of the scheduler included."""
        return float(self._orders * sum(self._log["requests"].values()) + SWEEPS)

    def by_request(self) -> float:
        """Return what functions cost if requests are paid for (`cpu_idle`)."""
        run = self._prices["run"]
        busy = sum(self._instances(each)[1] for each in OPERATIONS) * SECONDS
        busy += SWEEPS * self._assumed["billed_seconds"]
        memory = busy * self._assumed["memory_gib"]
        idle = max(0.0, self._scenario["min_instances"] * SECONDS - busy)
        return float(
            max(0.0, busy - run["free_cpu_seconds"]) * run["cpu_second"]
            + max(0.0, memory - run["free_memory_gib_seconds"])
            * run["memory_gib_second"]
            + max(0.0, self.requests() / 1e6 - run["free_million_requests"])
            * run["million_requests"]
            + idle
            * (
                run["idle_cpu_second"]
                + run["memory_gib_second"] * self._assumed["memory_gib"]
            )
        )

    def by_instance(self) -> float:
        """Return what functions cost if instances are paid for."""
        run = self._prices["run"]
        running = sum(self._instances(each)[0] for each in OPERATIONS)
        running = max(running, self._scenario["min_instances"])
        second = (
            run["instance_cpu_second"]
            + run["instance_memory_gib_second"] * self._assumed["memory_gib"]
        )
        return float(running * SECONDS * second)

    def functions(self) -> float:
        """Return the lesser of the two."""
        return min(self.by_request(), self.by_instance())

    def logs(
        self,
        *,
        percent: float = 100,
        has_deliveries: bool = False,
        has_platform_lines: bool = False,
    ) -> float:
        """Return what lines cost, by how many of an order's are kept."""
        added = self._assumed["entry_bytes"]
        order, sweep = self._log["order"], self._log["sweep"]
        size = (order["bytes"] + order["lines"] * added) * percent / 100
        if has_deliveries:
            deliveries = self._log["deliveries"]
            size += deliveries["bytes"] + deliveries["lines"] * added
        total = self._orders * size
        total += SWEEPS * (sweep["bytes"] + sweep["lines"] * added)
        if has_platform_lines:
            total += self.requests() * self._assumed["platform_line_bytes"]
        logging = self._prices["logging"]
        return float(max(0.0, total / GIB - logging["free_gib"]) * logging["gib"])

    def pubsub(self) -> float:
        """Return what publishing and delivering each event costs, filtered or not.

        Each counts as a request of its own, which it is at the most.
        """
        pubsub, events = self._prices["pubsub"], self._log["events"]
        each = events["bytes"] / events["number"] + self._assumed["attribute_bytes"]
        size = 2 * events["number"] * max(each, pubsub["least_bytes"]) * self._orders
        return float(max(0.0, size - pubsub["free_gib"] * GIB) / TIB * pubsub["tib"])

    def database(self) -> float:
        """Return what Cloud SQL's machine costs, with a standby."""
        sql = self._prices["sql"]
        hour = self._scenario["database_cpus"] * sql["cpu_hour"]
        hour += self._scenario["database_memory_gib"] * sql["memory_gib_hour"]
        return float(2 * HOURS * hour)

    def disk(self) -> float:
        """Return what disk and backups cost after the first month."""
        sql, days = self._prices["sql"], self._scenario["event_days"]
        kept_orders = self._scenario["orders_a_second"] * min(days, 30) * 86_400
        stored = self._orders * self._assumed["stored_order_bytes"]
        stored += kept_orders * self._assumed["stored_events_bytes"]
        size = max(self._scenario["disk_gib"], stored / GIB)
        return float(size * 2 * sql["disk_gib"] + stored / GIB * sql["backup_gib"])

    def rest(self) -> float:
        """Return what all else costs."""
        return float(self._prices["rest"]["month"])

    def total(self) -> float:
        """Return the sum, with lines as they are by default."""
        return (
            self.functions()
            + self.logs()
            + self.pubsub()
            + self.database()
            + self.disk()
            + self.rest()
        )


ITEMS: dict[str, Callable[[Costs], float]] = {
    "functions, the cheaper way": Costs.functions,
    "lines of log, as by default": Costs.logs,
    "Pub/Sub, all events": Costs.pubsub,
    "database, with a standby": Costs.database,
    "its disk and backups, after a month": Costs.disk,
    "scheduler, secrets, images, alerts": Costs.rest,
    "**all**": Costs.total,
}
BILLING: dict[str, Callable[[Costs], float]] = {
    "paid by request (`cpu_idle = true`, the default)": Costs.by_request,
    "paid by instance (`cpu_idle = false`)": Costs.by_instance,
}
LOGGING: dict[str, Callable[[Costs], float]] = {
    "with a line for each delivery and the platform's own lines": lambda costs: (
        costs.logs(has_deliveries=True, has_platform_lines=True)
    ),
    "with the platform's own lines": lambda costs: costs.logs(has_platform_lines=True),
    "by default": Costs.logs,
    "`logged_requests_percent = 10`": lambda costs: costs.logs(percent=10),
    '`log_level = "WARNING"`': lambda costs: costs.logs(percent=0),
}


def _prices() -> Table:
    return tomllib.loads((HERE / "costs.toml").read_text(encoding="utf-8"))


def _results(name: str) -> Any:  # noqa: ANN401 each file has a form of its own
    return json.loads((HERE / "results" / f"{name}.json").read_text(encoding="utf-8"))


def scenarios() -> dict[str, Costs]:
    """Return the costs of each scenario, by its name."""
    prices, log, bench = _prices(), _results("order_log"), _results("bench")
    cpu_ms = {
        row["operation"]: row["cpu_ms"]
        for row in bench["rows"]
        if row["clients"] == CLIENTS
    }
    return {
        each["name"]: Costs(prices, each, log, cpu_ms) for each in prices["scenario"]
    }


def tables() -> str:
    """Return the page's tables as Markdown."""
    log, prices, found = _results("order_log"), _prices(), scenarios()
    order, deliveries = log["order"], log["deliveries"]
    requests = ", ".join(f"{n} of `{name}`" for name, n in log["requests"].items())
    said = (
        f"An order of three items takes {sum(log['requests'].values())} requests"
        f" ({requests}) and {log['events']['number']} events. It writes"
        f" {order['lines']} lines of {order['bytes'] / 1000:.1f} KB; a line for each"
        f" delivery, as at `DEBUG`, would be {deliveries['lines']} lines of"
        f" {deliveries['bytes'] / 1000:.1f} KB more."
        f" Prices are of {prices['as_of']:%Y-%m-%d}."
    )
    parts = [
        said,
        _table("dollars a month", ITEMS, found),
        _table("functions", BILLING, found),
        _table("lines of log", LOGGING, found),
    ]
    return "\n\n".join(parts) + "\n"


def _table(
    title: str, rows: Mapping[str, Callable[[Costs], float]], found: Mapping[str, Costs]
) -> str:
    lines = [f"| {title} | {' | '.join(found)} |", "|---|" + "---:|" * len(found)]
    for name, cost in rows.items():
        cells = [f"{round(cost(each)):,}".replace(",", " ") for each in found.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def with_tables(page: str) -> str:
    """Return the page with its tables computed anew."""
    return MARKS.sub(lambda found: f"{found[1]}{tables()}{found[2]}", page)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the tables into the page, or print them; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.costs",
        description=__doc__.splitlines()[0],
        epilog="example: python -m benchmarks.costs --print",
    )
    parser.add_argument(
        "--print", action="store_true", help="print them and write nothing"
    )
    if parser.parse_args(argv).print:
        print(tables(), end="")
    else:
        PAGE.write_text(with_tables(PAGE.read_text("utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
