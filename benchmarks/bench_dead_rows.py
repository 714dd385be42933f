"""What a held snapshot costs: the same statements with more and more dead rows.

`python -m benchmarks.bench_dead_rows --dead 0 300000` starts a PostgreSQL of its own. A
dead row here is an event that was recorded, claimed and sent.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import closing

from common.config.endpoints import Database
from common.config.settings import load
from common.database import migrations
from common.database.engine import Connection, Engine, make_engine
from common.messaging import outbox
from common.messaging.marks import Marks
from common.operations import diagnosis, lag
from tests.support.database import connect, database, execute, server

ROUNDS = 20
BUS = "rabbitmq"
DEAD = """
INSERT INTO outbox (destination, order_id, event_id, event_type, body, created_at,
  available_at)
SELECT 'rabbitmq', n / 4, gen_random_uuid(), 'order.created', repeat('x', 300),
  now() - interval '1 hour', now() - interval '1 hour'
FROM generate_series(1, {}) n
"""
ONE = f"""
INSERT INTO outbox (destination, order_id, event_id, event_type, body)
SELECT '{BUS}', {{}}, gen_random_uuid(), 'order.created', repeat('x', 300)
FROM generate_series(1, 4)
"""  # noqa: S608 numbers of our own


def main() -> None:
    """Print a row of milliseconds for each number of dead rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dead", type=int, nargs="+", default=[0, 300_000, 1_000_000])
    wanted: list[int] = parser.parse_args().dead
    with server() as root, database(root) as url:
        where = load({"DATABASE_URL": url}, needs=("DATABASE",)).database
        assert isinstance(where, Database)
        engine = make_engine(where)
        migrations.upgrade(engine)
        with closing(connect(url)) as holder:
            holder.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
            holder.run("SELECT count(*) FROM orders")
            made = 0
            for dead in wanted:
                _add(url, dead - made)
                made = dead
                _measure(engine, url, dead)
        engine.dispose()


def _add(url: str, count: int) -> None:
    with closing(connect(url)) as connection:
        if count:
            connection.run(DEAD.format(count))
            connection.run("UPDATE outbox SET attempts = 1, sending_since = now()")
            connection.run("DELETE FROM outbox")
        connection.run("VACUUM ANALYZE outbox")


def _measure(engine: Engine, url: str, dead: int) -> None:
    marks = Marks()
    with engine.connect() as connection:
        marks.advance(connection, BUS)
        times: dict[str, list[float]] = {}

        def timed(name: str, call: Callable[[], object]) -> None:
            began = time.perf_counter()
            call()
            times.setdefault(name, []).append((time.perf_counter() - began) * 1000)

        for number in range(ROUNDS):
            order_id = 10**9 + number
            execute(url, ONE.format(order_id))
            timed("an order's events", lambda: _send(connection, order_id))  # noqa: B023 called at once
            timed("claim of a relay", lambda: outbox.claim_any(connection, BUS))
        timed("doctor", lambda: diagnosis.examine(connection))
    timed("each minute's line", lambda: lag.report(engine, 0))
    timed("a part of the search", lambda: marks.search(engine))
    [[size]] = execute(url, "SELECT pg_total_relation_size('outbox') / 1048576")
    shown = ", ".join(
        f"{name} {statistics.median(found):.1f}" for name, found in times.items()
    )
    print(f"{dead} dead, {size} MB: {shown} ms")


def _send(connection: Connection, order_id: int) -> None:
    """Claim an order's events and record them as sent, as a request does."""
    ids = [each.id for each in outbox.claim_order(connection, order_id, [BUS])]
    outbox.record_results(connection, ids, [], order_id=order_id)


if __name__ == "__main__":
    main()
