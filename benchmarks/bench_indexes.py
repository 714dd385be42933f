"""Measure what another index or fill factor costs each checkout and status change.

Bytes of the write-ahead log are reported as well, since a busy machine does not change
them.
"""

import argparse
import itertools
import json
import random
import statistics
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

from msgspec import Struct

from common import approval
from common.config import settings as config
from common.config.endpoints import Database
from common.database.engine import Connection, Engine, Statement, connect, make_engine
from common.domain import orders
from common.domain.model import SHOP, Actor, ItemStatus, Line, Order
from common.json import encode
from common.messaging.pending import Bus
from common.store import idempotency
from common.store.idempotency import StoredResponse
from common.store.orders import Target, change_order, create_order

BUS = Bus(("rabbitmq",))
LINES = 3
_line_ids = itertools.count(10**9)
_INDEX = "candidate_idx"
_APPROVED = "orders_user_id_is_approved_id_idx"


class _Reply(Struct):
    order: Order


class Candidate(Struct, frozen=True):
    """A change of the schema: the statements that make and undo it."""

    name: str
    do: Sequence[str] = ()
    undo: Sequence[str] = ()


def _index(name: str, on: str) -> Candidate:
    return Candidate(name, [f"CREATE INDEX {_INDEX} ON {on}"], [f"DROP INDEX {_INDEX}"])


def _filled(percent: int) -> Candidate:
    tables = ("orders", "order_items")
    return Candidate(
        f"pages filled to {percent} %",
        [f"ALTER TABLE {name} SET (fillfactor = {percent})" for name in tables],
        [f"ALTER TABLE {name} RESET (fillfactor)" for name in tables],
    )


CANDIDATES = [
    Candidate("as it is"),
    _index("orders (user_id, created_at)", "orders (user_id, created_at)"),
    Candidate(
        "no orders (user_id, is_approved, id)",
        [f"DROP INDEX {_APPROVED}"],
        [f"CREATE INDEX {_APPROVED} ON orders (user_id, is_approved, id)"],
    ),
    _index("items (user_id, status, id)", "order_items (user_id, status, id)"),
    _index("items (user_id, shop_id, id)", "order_items (user_id, shop_id, id)"),
    _index(
        "items (user_id, variation, id)", "order_items (user_id, product_variation, id)"
    ),
    _filled(90),
    _filled(80),
]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; return the exit status."""
    arguments = _arguments(argv)
    settings = config.load({"DATABASE_URL": arguments.url}, needs=("DATABASE",))
    assert isinstance(settings.database, Database)
    engine = make_engine(settings.database)
    candidates = [
        candidate
        for candidate in CANDIDATES
        if not arguments.only or any(part in candidate.name for part in arguments.only)
    ]
    measured: dict[str, dict[str, list[float]]] = {}
    for number in range(arguments.rounds):
        for candidate in candidates:
            progress = f"bench-indexes: round {number + 1}, {candidate.name}"
            print(progress, file=sys.stderr, flush=True)
            figures = measured.setdefault(candidate.name, defaultdict(list))
            _alter(engine, candidate.do)
            try:
                for name, value in _measure(engine, arguments.orders).items():
                    figures[name].append(value)
            finally:
                _alter(engine, candidate.undo)
    engine.dispose()
    _print(measured, as_json=arguments.json)
    return 0


def _alter(engine: Engine, statements: Sequence[str]) -> None:
    with connect(engine) as connection:
        connection.exec_driver_sql("SET statement_timeout = 0")
        for statement in (*statements, "CHECKPOINT", "RESET statement_timeout"):
            connection.exec_driver_sql(statement)


def _measure(engine: Engine, count: int) -> dict[str, float]:
    """Return what one checkout, and one status change, costs on the average."""
    ordered: list[Order] = []
    users = [uuid.UUID(int=random.getrandbits(128)) for _ in range(count)]

    def check_out(user: uuid.UUID) -> None:
        ordered.append(_checkout(engine, user))

    with connect(engine) as connection:
        checkouts = _costs(connection, [partial(check_out, user) for user in users])
        updates = _updates(engine, connection)
        steps = [
            partial(_move, engine, item.id, status)
            for status in (ItemStatus.SHIPPED, ItemStatus.DELIVERED)
            for order in ordered
            for item in order.items
        ]
        moves = _costs(connection, steps)
        for order in ordered:
            approval.approve(engine, order.id, BUS)
        after = _updates(engine, connection)
    return {
        "checkout_ms": checkouts[0],
        "checkout_wal_bytes": checkouts[1],
        "move_ms": moves[0],
        "move_wal_bytes": moves[1],
        "hot_share": (after[1] - updates[1]) / max(1, after[0] - updates[0]),
    }


def _costs(
    connection: Connection, runs: Sequence[Callable[[], object]]
) -> tuple[float, float]:
    """Return the median milliseconds of a run, and its bytes of log."""
    lsn = Statement("SELECT CAST(pg_current_wal_insert_lsn() - '0/0' AS float8)")
    before = connection.execute(lsn).scalar_one()
    times = []
    for run in runs:
        began_at = time.perf_counter()
        run()
        times.append((time.perf_counter() - began_at) * 1000)
    written = connection.execute(lsn).scalar_one() - before
    return statistics.median(times), written / len(runs)


def _updates(engine: Engine, connection: Connection) -> tuple[int, int]:
    """Return how many updates there were, and how many changed no index."""
    with connect(engine) as writer:  # the pool returns the one that wrote last
        writer.execute(Statement("SELECT pg_stat_force_next_flush()"))
    row = connection.execute(
        Statement(
            "SELECT sum(n_tup_upd), sum(n_tup_hot_upd) FROM pg_stat_user_tables"
            " WHERE relname IN ('orders', 'order_items')"
        )
    ).one()
    return int(row[0]), int(row[1])


def _checkout(engine: Engine, user: uuid.UUID) -> Order:
    lines = [
        Line(
            product_variation=uuid.uuid4(),
            quantity=2,
            product_id=uuid.uuid4(),
            shop_id=uuid.uuid4(),
            price=1999,
        )
        for _ in range(LINES)
    ]
    claim = idempotency.by_cart(
        user, 7, [(next(_line_ids), str(line.product_variation)) for line in lines]
    )
    ids = idempotency.begin(engine, [claim], LINES)
    change = orders.new_order(user, lines, ids, cart_id=7)
    reply = {"order_id": change.order.id, "order": change.order}
    response = StoredResponse(201, {}, encode(reply))
    create_order(engine, change, BUS, [claim], response)
    return change.order


def _move(engine: Engine, item_id: int, status: int) -> None:
    shop = Actor(uuid.UUID(int=1), SHOP)
    move = partial(orders.set_status, item_id=item_id, status=status, actor=shop)
    with connect(engine) as connection:
        change_order(connection, Target(item_id=item_id), move, BUS)


def _print(measured: dict[str, dict[str, list[float]]], *, as_json: bool) -> None:
    medians = {
        name: {what: statistics.median(each) for what, each in figures.items()}
        for name, figures in measured.items()
    }
    if as_json:
        print(json.dumps(medians))
        return
    print(f"{'':<34}{'a checkout':>18}{'a status change':>20}{'HOT':>7}")
    first = next(iter(medians.values()))
    for name, each in medians.items():
        shares = [
            f"{each[f'{what}_ms']:>6.2f} ms {each[f'{what}_wal_bytes']:>6.0f} B"
            f" {each[f'{what}_wal_bytes'] / first[f'{what}_wal_bytes'] - 1:>+5.0%}"
            for what in ("checkout", "move")
        ]
        print(f"{name:<34}{'  '.join(shares)}{each['hot_share']:>6.0%}")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_indexes",
        description=__doc__.splitlines()[0],
        epilog="Writes orders to the database, which must be one that"
        " `python -m benchmarks.fill` has filled and nobody else uses.",
    )
    parser.add_argument("--url", required=True, help="a filled database")
    parser.add_argument("--orders", type=int, default=300, help="of each measurement")
    parser.add_argument(
        "--rounds", type=int, default=3, help="their median is reported"
    )
    parser.add_argument("--only", nargs="*", help="candidates whose name contains this")
    parser.add_argument("--json", action="store_true", help="for machines")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
