"""How fast the service is, beside what could be at most on the same machine.

Lives here: the command, and what is measured in which turn. Not here: how
(`measuring.py`, `load.py`). Surprise: everything is measured in turns with its ceiling,
because only figures of one run compare.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import report, traffic
from benchmarks.measuring import Meter, say
from benchmarks.stage import HELLO, Served, Stage, StageError, stage
from benchmarks.targets import shown
from infra.local.postgres_binaries import EmbeddedPostgresError
from tests.support import database

CLIENTS = (1, 8, 32)
OPERATIONS = ("checkout", "read", "list", "status", "replay")
REPLAYED = 200


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tell; answer the exit status: 0 measured, 1 wrong, 2 cannot."""
    arguments = _arguments(argv)
    try:
        with stage(
            arguments.checkout,
            workers=arguments.workers,
            threads=arguments.threads,
            delay=arguments.delay / 1000,
            bus=arguments.bus,
        ) as ready:
            return _measure(ready, arguments)
    except (StageError, EmbeddedPostgresError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


def _measure(ready: Stage, arguments: argparse.Namespace) -> int:
    with _functions(ready) as served:
        meter = Meter(served, arguments.seconds)
        _rounds(ready, meter, arguments)
        [[postgres]] = database.execute(ready.database_url, "SHOW server_version")
    targets = shown(meter)
    told = {
        "conditions": report.conditions(ready, str(postgres)),
        "rows": report.rows(meter),
        "targets": [each.told() for each in targets],
        "unexpected": dict(meter.unexpected),
    }
    if arguments.json:
        print(json.dumps(told))
    else:
        report.tell(told, targets)
    report.complain(meter)
    if meter.unexpected:
        return 1
    return int(arguments.check and any(each.holds is False for each in targets))


def _rounds(ready: Stage, meter: Meter, arguments: argparse.Namespace) -> None:
    wanted = arguments.only or OPERATIONS
    orders = traffic.Orders(ready.database_url)
    keyed = traffic.keyed(REPLAYED)
    operations = {
        "checkout": traffic.checkout(),
        "read": orders.read(),
        "list": orders.page(),
        "status": orders.move(),
        "replay": traffic.replay(keyed),
    }
    chosen = [operations[name] for name in OPERATIONS if name in wanted]
    beside = [traffic.hello()]
    if "checkout" in wanted:
        beside.append(traffic.health("create_order_from_cart"))
    if "replay" in wanted:
        chosen.append(traffic.keyed_checkout())
        meter.exhaust(traffic.first_calls(keyed))
    for operation in beside + chosen:
        say(f"warming up {operation.name}")
        meter.warm_up(operation)
    for _ in range(arguments.rounds):
        for clients in arguments.clients:
            for operation in beside + chosen:
                meter.take(operation, clients)


@contextlib.contextmanager
def _functions(ready: Stage) -> Iterator[dict[str, Served]]:
    names = (HELLO, "create_order_from_cart", "orders_crud", "item_status")
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(ready.serving(name)) for name in names}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of each spell")
    parser.add_argument("--quick", action="store_true", help="about a minute")
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--delay", type=float, default=5.0, help="siblings', in ms")
    parser.add_argument("--bus", choices=("auto", "rabbitmq", "http"), default="auto")
    parser.add_argument("--checkout", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument(
        "--check", action="store_true", help="exit 1 where a target is missed"
    )
    arguments = parser.parse_args(argv)
    arguments.checkout = arguments.checkout.resolve()
    arguments.seconds = arguments.seconds or (1.0 if arguments.quick else 3.0)
    arguments.rounds = arguments.rounds or (2 if arguments.quick else 3)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
