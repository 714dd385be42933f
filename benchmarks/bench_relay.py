"""Measure how many events a second the relay gets confirmed, beside the ceiling.

Exchange and queue are the run's own, so it may share a broker with others.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence

import pika

from benchmarks.backlog import backlog, faults, fill
from benchmarks.senders import (
    Setup,
    bare_pika,
    publisher_alone,
    relay_until_empty,
    relay_without_broker,
    take_all,
    timed,
    topology,
)
from common.config import endpoints, settings
from common.database import migrations
from common.messaging import outbox
from common.publishing import rabbitmq_connection
from infra.local.postgres import postgres_server
from infra.local.postgres_binaries import EmbeddedPostgresError
from tests.support import database
from tests.support.rabbitmq import NoRabbitMQError, broker


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; return the exit status: 0 measured, 1 wrong, 2 cannot."""
    arguments = _arguments(argv)
    with contextlib.ExitStack() as stack:
        try:
            broker_ = stack.enter_context(_broker())
            url = stack.enter_context(_database())
        except (NoRabbitMQError, EmbeddedPostgresError) as error:
            print(f"bench-relay: {error}", file=sys.stderr)
            return 2
        setup = Setup(url, broker_, f"bench_relay_{uuid.uuid4().hex[:8]}")
        stack.enter_context(topology(setup))
        return _measure(setup, arguments)


def _measure(setup: Setup, arguments: argparse.Namespace) -> int:
    backlog_ = backlog(arguments.events, arguments.statuses)
    batch = arguments.batch or outbox.BATCH
    outbox.BATCH = batch

    def send(run: Callable[..., None]) -> Callable[[], float]:
        return lambda: timed(lambda: run(setup, backlog_, batch))

    def relays(count: int, run: Callable[[Setup], None]) -> Callable[[], float]:
        def measured() -> float:
            fill(setup.database_url, backlog_)
            return timed(*[lambda: run(setup)] * count)

        return measured

    cases = {
        "bare pika": send(bare_pika),
        "our publisher alone": send(publisher_alone),
        "claim and record alone": relays(1, relay_without_broker),
        "one relay": relays(1, relay_until_empty),
        "two relays": relays(2, relay_until_empty),
    }
    rates: dict[str, list[float]] = {name: [] for name in cases}
    problem = ""
    for _ in range(arguments.rounds):
        for name, run in cases.items():
            if arguments.only and not any(part in name for part in arguments.only):
                continue
            rates[name].append(len(backlog_) / run())
            if "alone" not in name or "publisher" in name:
                fault = faults(take_all(setup), backlog_)
                problem = problem or (fault and f"{name}: {fault}")
    _print(rates, problem, arguments, batch)
    return 1 if problem else 0


def _print(
    rates: dict[str, list[float]],
    problem: str,
    arguments: argparse.Namespace,
    batch: int,
) -> None:
    medians = {name: statistics.median(each) for name, each in rates.items() if each}
    if arguments.json:
        results = {
            "events": arguments.events,
            "batch": batch,
            "events_per_second": {name: round(rate) for name, rate in medians.items()},
            "rounds": {name: [round(r) for r in each] for name, each in rates.items()},
            "trouble": problem or None,
        }
        print(json.dumps(results))
        return
    ceiling = medians.get("bare pika")
    print(f"{arguments.events} events, batches of {batch}, {os.cpu_count()} CPUs")
    print(f"{'confirmed events/s':<24}{'median':>8}{'of bare pika':>14}  each round")
    for name, rate in medians.items():
        share = f"{rate / ceiling:.0%}" if ceiling else ""
        each = " ".join(f"{r:.0f}" for r in rates[name])
        print(f"{name:<24}{rate:>8.0f}{share:>14}  {each}")
    print(problem or "every event came once, and each order's in its order")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument(
        "--rounds", type=int, default=3, help="their median is reported"
    )
    parser.add_argument("--batch", type=int, help="instead of the service's")
    parser.add_argument(
        "--statuses", type=int, default=2, help="status events of each order"
    )
    parser.add_argument("--only", nargs="*", help="cases whose name contains this")
    parser.add_argument("--json", action="store_true", help="for machines")
    return parser.parse_args(argv)


@contextlib.contextmanager
def _broker() -> Iterator[endpoints.RabbitMQ]:
    """Yield the broker of RABBITMQ_*, else the one that tests use."""
    configured = settings.load(needs=()).rabbitmq
    if configured is not None:
        try:
            pika.BlockingConnection(
                rabbitmq_connection.connection_parameters(configured)
            ).close()
        except (pika.exceptions.AMQPError, OSError) as error:
            address = f"{configured.host}:{configured.port}"
            message = f"no RabbitMQ on {address}, which RABBITMQ_* name: "
            raise NoRabbitMQError(message + type(error).__name__) from error
        yield configured
        return
    with broker() as found:
        yield endpoints.RabbitMQ(
            host=found.host, port=found.port, user=found.user, password=found.password
        )


@contextlib.contextmanager
def _database() -> Iterator[str]:
    """Yield a database of our own, on a server with durable commits."""
    with contextlib.ExitStack() as stack:
        server = os.environ.get("TEST_DATABASE_URL")
        if server is None:
            folder = stack.enter_context(database.scratch_folder())
            server = stack.enter_context(postgres_server(folder, durable=True))
        url = stack.enter_context(database.database(server))
        with database.plain_engine(url) as engine:
            migrations.upgrade(engine)
        yield url


if __name__ == "__main__":
    sys.exit(main())
