"""Measure how many events a second the relay has confirmed, beside the ceiling.

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
    Place,
    bare_pika,
    publisher_alone,
    relay_to_nobody,
    relay_until_empty,
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
    """Measure and tell; return the exit status: 0 measured, 1 wrong, 2 cannot."""
    arguments = _arguments(argv)
    with contextlib.ExitStack() as stack:
        try:
            where = stack.enter_context(_broker())
            url = stack.enter_context(_database())
        except (NoRabbitMQError, EmbeddedPostgresError) as error:
            print(f"bench-relay: {error}", file=sys.stderr)
            return 2
        place = Place(url, where, f"bench_relay_{uuid.uuid4().hex[:8]}")
        stack.enter_context(topology(place))
        return _measure(place, arguments)


def _measure(place: Place, arguments: argparse.Namespace) -> int:
    backlog_ = backlog(arguments.events, arguments.statuses)
    batch = arguments.batch or outbox.BATCH
    outbox.BATCH = batch

    def send(run: Callable[..., None]) -> Callable[[], float]:
        return lambda: timed(lambda: run(place, backlog_, batch))

    def relays(count: int, run: Callable[[Place], None]) -> Callable[[], float]:
        def measured() -> float:
            fill(place.database_url, backlog_)
            return timed(*[lambda: run(place)] * count)

        return measured

    ways = {
        "bare pika": send(bare_pika),
        "our publisher alone": send(publisher_alone),
        "claim and settle alone": relays(1, relay_to_nobody),
        "one relay": relays(1, relay_until_empty),
        "two relays": relays(2, relay_until_empty),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    trouble = ""
    for _ in range(arguments.rounds):
        for way, run in ways.items():
            if arguments.only and not any(part in way for part in arguments.only):
                continue
            rates[way].append(len(backlog_) / run())
            if "alone" not in way or "publisher" in way:
                wrong = faults(take_all(place), backlog_)
                trouble = trouble or (wrong and f"{way}: {wrong}")
    _tell(rates, trouble, arguments, batch)
    return 1 if trouble else 0


def _tell(
    rates: dict[str, list[float]],
    trouble: str,
    arguments: argparse.Namespace,
    batch: int,
) -> None:
    medians = {way: statistics.median(each) for way, each in rates.items() if each}
    if arguments.json:
        said = {
            "events": arguments.events,
            "batch": batch,
            "events_per_second": {way: round(rate) for way, rate in medians.items()},
            "rounds": {way: [round(r) for r in each] for way, each in rates.items()},
            "trouble": trouble or None,
        }
        print(json.dumps(said))
        return
    ceiling = medians.get("bare pika")
    print(f"{arguments.events} events, batches of {batch}, {os.cpu_count()} CPUs")
    print(f"{'confirmed events/s':<24}{'median':>8}{'of bare pika':>14}  each round")
    for way, rate in medians.items():
        share = f"{rate / ceiling:.0%}" if ceiling else ""
        each = " ".join(f"{r:.0f}" for r in rates[way])
        print(f"{way:<24}{rate:>8.0f}{share:>14}  {each}")
    said_well = "every event came once, and each order's in its order"
    print(trouble or said_well)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3, help="the median is told")
    parser.add_argument("--batch", type=int, help="instead of the service's")
    parser.add_argument(
        "--statuses", type=int, default=2, help="status events of each order"
    )
    parser.add_argument("--only", nargs="*", help="ways whose name contains this")
    parser.add_argument("--json", action="store_true", help="for machines")
    return parser.parse_args(argv)


@contextlib.contextmanager
def _broker() -> Iterator[endpoints.RabbitMQ]:
    """Yield the broker of RABBITMQ_*, else the one that tests would use."""
    named = settings.load(needs=()).rabbitmq
    if named is not None:
        try:
            pika.BlockingConnection(
                rabbitmq_connection.connection_parameters(named)
            ).close()
        except (pika.exceptions.AMQPError, OSError) as error:
            where = f"{named.host}:{named.port}"
            said = f"no RabbitMQ on {where}, which RABBITMQ_* name: "
            raise NoRabbitMQError(said + type(error).__name__) from error
        yield named
        return
    with broker() as found:
        yield endpoints.RabbitMQ(
            host=found.host, port=found.port, user=found.user, password=found.password
        )


@contextlib.contextmanager
def _database() -> Iterator[str]:
    """Yield a database of our own, on a server that loses nothing in a power cut."""
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
