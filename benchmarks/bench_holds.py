"""What holding stock costs a checkout's part in the database, and one hot variation.

`python -m benchmarks.bench_holds` starts a PostgreSQL of its own. A purchase looks up
keys and draws ids, writes an order of three lines, and records its events as sent. In
each round the same crowd buys three ways, in turn: distinct variations without holds,
distinct ones with holds, and everybody the same one.
"""

import argparse
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from common.config.endpoints import Database
from common.config.settings import load
from common.database import migrations
from common.database.engine import Engine, connect, make_engine
from common.domain import orders
from common.domain.cart import Variation
from common.domain.model import Line
from common.domain.stock import Stock
from common.messaging import outbox
from common.messaging.pending import Bus
from common.store import idempotency
from common.store.idempotency import StoredResponse
from common.store.orders import create_order
from tests.support.database import database, server

BUS = "rabbitmq"
LINES = 3
AMOUNT = 10**9  # nobody is refused
RESPONSE = StoredResponse(201, {}, '{"order_id":1}')


def main() -> None:
    """Print each way's rate as a ratio of the distinct ones with holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--buyers", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each way")
    given = parser.parse_args()
    with server() as root, database(root) as url:
        settings = load({"DATABASE_URL": url, "THREADS": "16"}, needs=("DATABASE",))
        assert isinstance(settings.database, Database)
        engine = make_engine(settings.database, settings.pool_size)
        migrations.upgrade(engine)
        hot = uuid.uuid4()
        ways: dict[str, Callable[[], None]] = {
            "without holds": lambda: _buy(engine, [], is_held=False),
            "distinct": lambda: _buy(engine, []),
            "one hot variation": lambda: _buy(engine, [hot]),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(given.rounds + 1):
            for name, buy in ways.items():
                rate = _rate(buy, given.buyers, given.seconds)
                if number:  # the first round warms up
                    rates[name].append(rate)
        engine.dispose()
    for name, found in rates.items():
        of = rates["distinct"]
        ratios = [mine / theirs for mine, theirs in zip(found, of, strict=True)]
        print(
            f"{name:18} {statistics.median(found):6.0f} a second,"
            f" {statistics.median(ratios):.2f} of distinct"
            f" ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def _rate(buy: Callable[[], None], buyers: int, seconds: float) -> float:
    """Return how many purchases a second so many buyers make at once."""
    until = time.monotonic() + seconds
    bought = 0
    lock = threading.Lock()

    def go_on() -> None:
        nonlocal bought
        while time.monotonic() < until:
            buy()
            with lock:
                bought += 1

    with ThreadPoolExecutor(buyers) as pool:
        for done in [pool.submit(go_on) for _ in range(buyers)]:
            done.result()
    return bought / seconds


def _buy(engine: Engine, hot: Sequence[uuid.UUID], *, is_held: bool = True) -> None:
    """Write an order as a checkout does, of `hot` and distinct variations."""
    user, cart = uuid.uuid4(), uuid.uuid4().int % 2**40
    variations = [*hot, *(uuid.uuid4() for _ in range(LINES - len(hot)))]
    lines = [Line(v, 1, uuid.uuid4(), uuid.uuid4(), 999) for v in variations]
    in_cart = [(uuid.uuid4().int % 2**40, str(v), 1) for v in variations]
    claims = [idempotency.by_cart(user, cart, in_cart)]
    ids = idempotency.begin(engine, claims, LINES)
    known = {v: Variation(id=v, amount=AMOUNT) for v in variations}
    stock = Stock(known, ids.at)
    change = orders.new_order(user, lines, ids, cart_id=cart, stock=stock)
    if not is_held:
        change.holds = []
    bus = Bus((BUS,), lambda: [BUS])
    pending = create_order(engine, change, bus, claims, RESPONSE)
    assert pending is not None
    sent = [event.id for event in pending.claimed]
    with connect(engine) as connection:
        outbox.record_results(connection, sent, [], order_id=change.order.id)


if __name__ == "__main__":
    main()
