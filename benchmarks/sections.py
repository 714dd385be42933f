"""Measure each section of a run, alternating between what it compares."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from benchmarks import layers, load, pgbench, processes, traffic
from benchmarks.deep_list import DeepList
from benchmarks.measuring import Meter, sample, say
from benchmarks.stage import HELLO, HERE, Served, Stage, siblings
from benchmarks.traffic import Operation, Orders

OPERATIONS = ("checkout", "read", "list", "status", "replay")
CHECKOUT = "create_order_from_cart"
FUNCTIONS = (CHECKOUT, "orders_crud", "item_status")
# The servers that each section needs, besides those that it starts itself.
SERVERS = {
    "checkout": (HELLO, CHECKOUT),
    "read": (HELLO, "orders_crud"),
    "list": (HELLO, "orders_crud"),
    "status": (HELLO, "item_status"),
    "replay": (HELLO, CHECKOUT),
    "lines": (CHECKOUT,),
    "overload": (CHECKOUT,),
    "memory": (HELLO, *FUNCTIONS),
}
LINES = (1, 5, 20, 100)
SATURATING = (64, 128)
PLATEAU, BEYOND = "checkout, plateau", "checkout, saturated"
REPLAYED = 64
SAMPLED_SECONDS = 2.0  # one or two hundred samples


@dataclass
class Run:
    """A run: the servers, the measurements so far, and how long to measure."""

    ready: Stage
    meter: Meter
    moved_orders: int
    rounds: int
    clients: tuple[int, ...]
    relay_events: int
    extras: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @cached_property
    def orders(self) -> Orders:
        """Return orders to read, list and change, written on first use."""
        say("filling tables")
        return Orders(self.ready.database_url, self.moved_orders)

    def turns(self, clients: tuple[int, ...], *steps: "Step") -> None:
        """Do every step at each number of clients, in turn, round after round."""
        for _ in range(self.rounds):
            for count in clients:
                for step in steps:
                    step(count)

    def warmed_up(self, *operations: Operation) -> list["Step"]:
        """Return steps that measure the operations, after a warm-up."""
        for operation in operations:
            say(f"warming up {operation.name}")
            self.meter.warm_up(operation)
        return [partial(self.meter.take, operation) for operation in operations]


Step = Callable[[int], object]  # gets the number of clients


@contextmanager
def servers(ready: Stage, wanted: Sequence[str]) -> Iterator[dict[str, Served]]:
    """Start the servers of the `wanted` sections together: idle ones cost nothing."""
    names = {name for section in wanted for name in SERVERS.get(section, ())}
    with ExitStack() as stack:
        yield {name: stack.enter_context(ready.serving(name)) for name in names}


def operations(run: Run, wanted: Sequence[str]) -> None:
    """Measure what callers do, beside hello world and pgbench."""
    chosen = [traffic.hello()] if set(wanted) != {"database"} else []
    if "checkout" in wanted:
        chosen += [traffic.health(CHECKOUT), traffic.checkout()]
    if "read" in wanted:
        chosen.append(run.orders.read())
    if "list" in wanted:
        chosen.append(run.orders.page())
    if "status" in wanted:
        chosen.append(run.orders.move())
    if "replay" in wanted:
        keyed = traffic.keyed(REPLAYED)
        run.meter.exhaust(traffic.first_calls(keyed))
        chosen += [traffic.keyed_checkout(), traffic.replay(keyed)]
    steps = run.warmed_up(*chosen)
    if "database" in wanted:
        steps += [_pgbench(run), _database_part(run)]
    run.turns(run.clients, *steps)


def _pgbench(run: Run) -> Step:
    program = pgbench.program()
    if program is None:
        run.remarks.append("pgbench is not installed: the database has no ceiling here")
        return lambda _: None

    def step(clients: int) -> None:
        say(f"pgbench at {clients}")
        seconds = max(1, round(run.meter.seconds))  # it accepts whole seconds only
        took = pgbench.run(program, run.ready.database_url, clients, seconds)
        run.meter.keep("pgbench", clients, sample(seconds, took))

    return step


def _database_part(run: Run) -> Step:
    ready = run.ready

    def step(clients: int) -> None:
        say(f"database part at {clients}")
        processes_ = ready.workers if clients % ready.workers == 0 else 1
        options = {
            "--seconds": run.meter.seconds,
            "--processes": processes_,
            "--threads": clients // processes_,
        }
        output = ready.run(
            ["-P", str(HERE / "database_part.py")]
            + [str(each) for option in options.items() for each in option],
            THREADS=str(clients // processes_),
        )
        taken = sample(run.meter.seconds, sorted(json.loads(output)))
        run.meter.keep("database part", clients, taken)

    return step


def lines(run: Run) -> None:
    """Measure checkouts of carts of several lengths."""
    steps = run.warmed_up(*[traffic.checkout(n, f"checkout {n}") for n in LINES])
    run.turns((1, 8), *steps)


def depth(run: Run) -> None:
    """Measure a list's first page beside pages far down."""
    with DeepList(run.ready.database_url) as deep:
        run.remarks.append(deep.remark)
        with run.ready.serving("orders_crud", DATABASE_URL=deep.database_url) as served:
            run.meter.served[deep.server] = served
            steps = run.warmed_up(deep.first_page(), deep.far_down())
            # Figures of a single client vary more, so take more of them.
            run.turns((1,) * 3, *steps)


def overload(run: Run) -> None:
    """Measure checkouts beyond capacity."""
    plateau = traffic.checkout(name=PLATEAU)
    # Refusals and broken connections are results here, not faults.
    beyond = traffic.checkout(name=BEYOND, allowed=(503, load.BROKEN))
    steady, saturated = run.warmed_up(plateau, beyond)
    for _ in range(run.rounds):
        steady(32)
        for clients in SATURATING:
            saturated(clients)
    run.extras["past saturation"] = [
        {
            "clients": clients,
            "of_plateau": run.meter.ratio((BEYOND, clients), (PLATEAU, 32), "rate"),
            "statuses": _statuses(run.meter, clients),
        }
        for clients in SATURATING
    ]


def _statuses(meter: Meter, clients: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    for taken in meter.samples[BEYOND, clients]:
        for status, count in taken.statuses.items():
            name = "no answer" if status == load.BROKEN else str(status)
            counts[name] = counts.get(name, 0) + count
    return counts


def split(run: Run) -> None:
    """Sample where a request's processor time goes."""
    measured = [traffic.checkout(), run.orders.read(), run.orders.move()]
    measured.append(traffic.health("orders_crud"))
    meter = Meter({}, max(SAMPLED_SECONDS, run.meter.seconds * run.rounds))
    with siblings(0) as port:
        found = layers.measure(run.ready, meter, measured, f"http://127.0.0.1:{port}")
    run.meter.unexpected.update(meter.unexpected)
    run.meter.examples |= meter.examples
    run.extras["layers"] = found


def memory(run: Run) -> None:
    """Record how much memory each server uses at the end."""
    run.extras["memory"] = {
        name: [use.memory_bytes for use in processes.family(served.pid)]
        for name, served in run.meter.served.items()
        if name in (HELLO, *FUNCTIONS)
    }


def relay(run: Run) -> None:
    """Measure the relay, if there is a RabbitMQ."""
    if run.ready.bus != "rabbitmq":
        run.remarks.append("no RabbitMQ: the relay's rate was not measured")
        return
    say("the relay")
    options = ["--events", str(run.relay_events), "--rounds", "1", "--json"]
    output = run.ready.run(["-m", "benchmarks.bench_relay", *options])
    run.extras["relay"] = json.loads(output)
