"""Cases measured on a large database: requests, sweeps, and operators' queries.

Relay and retention change the database, so they are measured once, last.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from msgspec import Struct

from benchmarks.fill_statements import HEAVY
from common import approval
from common.database.engine import Connection, Engine, Statement, connect, transaction
from common.messaging import outbox
from common.messaging.relay import Relay
from common.operations import diagnosis, retention
from common.operations.audit import audit
from common.operations.lookup import events, letters
from common.publishing.publisher import Message, Outcome, Result
from common.store import reads
from common.store.paging import DEFAULT_LIMIT, ListQuery

BUS = "rabbitmq"
DEPTHS = (10_000, 1_000_000)
AUDITED = 20_000  # orders
EXPIRED_KEYS = 100_000
CUSTOMER = UUID(HEAVY)
FIRST = "orders, first page"
FIRST_ITEMS = "items, first page"


class Case(Struct, frozen=True):
    """Something to measure. `beside` names the case that it is a multiple of."""

    name: str
    run: Callable[[], object]
    beside: str | None = None


class Around(Struct, frozen=True):
    """Where things are in the database that is measured."""

    orders: int
    newest: int
    heavy_orders: int
    heavy_items: int
    light_user: UUID
    kept_from: datetime
    until: datetime


def look_around(engine: Engine) -> Around:
    """Return what the cases need to know; takes seconds."""
    heavy = {"heavy": HEAVY}
    with connect(engine) as connection:
        connection.exec_driver_sql("SET statement_timeout = 0")
        orders, newest, until = connection.execute(
            Statement("SELECT count(*), max(id), max(created_at) FROM orders")
        ).one()
        count = "SELECT count(*) FROM {} WHERE user_id = CAST(:heavy AS uuid)"
        [kept_from] = connection.execute(
            Statement(
                "SELECT kept_from FROM retention WHERE table_name = 'sent_events'"
            )
        ).one()
        light = connection.execute(
            Statement("SELECT user_id FROM orders WHERE id = :id"),
            {"id": newest // 10 * 5 + 4},
        ).scalar_one()
        around = Around(
            orders=orders,
            newest=newest,
            heavy_orders=connection.execute(
                Statement(count.format("orders")), heavy
            ).scalar_one(),
            heavy_items=connection.execute(
                Statement(count.format("order_items")), heavy
            ).scalar_one(),
            light_user=light,
            kept_from=kept_from,
            until=until,
        )
        connection.exec_driver_sql("RESET statement_timeout")
    return around


def cases(engine: Engine, connection: Connection, around: Around) -> list[Case]:
    """Return what can be repeated; pages run on `connection`, as a request's do."""
    return [
        *_pages(connection, around),
        *_filters(connection, around),
        *_operators(engine, connection, around),
    ]


def _page(
    connection: Connection,
    table: str = "orders",
    filters: dict[str, Any] | None = None,
    *,
    user_id: UUID = CUSTOMER,
    after: int | None = None,
) -> Callable[[], object]:
    query = ListQuery(filters=filters or {}, limit=DEFAULT_LIMIT, after=after)
    return lambda: reads.read_page(connection, table, user_id, query)


def _at_depth(connection: Connection, table: str, depth: int) -> int:
    """Return the id that so many of the heavy customer's rows come before."""
    found: int = connection.execute(
        Statement(
            f"SELECT id FROM {table} WHERE user_id = CAST(:heavy AS uuid)"  # noqa: S608 names of our own
            " ORDER BY id DESC OFFSET :depth LIMIT 1"
        ),
        {"heavy": HEAVY, "depth": depth},
    ).scalar_one()
    return found


def _pages(connection: Connection, around: Around) -> list[Case]:
    light = _page(connection, user_id=around.light_user)
    found = [
        Case(FIRST, _page(connection)),
        Case("orders of a small customer", light, FIRST),
        Case(FIRST_ITEMS, _page(connection, "order_items")),
    ]
    for table, name, first, rows in (
        ("orders", "orders", FIRST, around.heavy_orders),
        ("order_items", "items", FIRST_ITEMS, around.heavy_items),
    ):
        for depth in DEPTHS:
            at = min(depth, rows * 9 // 10)
            after = _at_depth(connection, table, at)
            page = _page(connection, table, after=after)
            found.append(Case(f"{name}, {at:,} deep", page, first))
    return found


def _filters(connection: Connection, around: Around) -> list[Case]:
    age = around.until - around.kept_from
    old = around.until - 12 * age
    last_item = connection.execute(
        Statement(
            "SELECT order_id, shop_id, product_variation FROM order_items"
            " WHERE order_id = :id LIMIT 1"
        ),
        {"id": around.newest // 5 * 5},
    ).one()
    order_id, shop_id, variation = last_item
    orders: dict[str, dict[str, Any]] = {
        "is_approved=true": {"is_approved": True},
        "is_approved=false": {"is_approved": False},
        "created_after a day ago": {"created_after": around.until - timedelta(days=1)},
        "created_before a day ago": {
            "created_before": around.until - timedelta(days=1)
        },
        "created_before a year ago": {"created_before": old},
    }
    items: dict[str, dict[str, Any]] = {
        "order": {"order": order_id},
        "status=1": {"status": 1},
        "status=4": {"status": 4},
        "shop_id": {"shop_id": shop_id},
        "product_variation": {"product_variation": variation},
    }
    return [
        *(
            Case(f"orders, {name}", _page(connection, "orders", given), FIRST)
            for name, given in orders.items()
        ),
        *(
            Case(f"items, {name}", _page(connection, "order_items", given), FIRST_ITEMS)
            for name, given in items.items()
        ),
    ]


def _operators(engine: Engine, connection: Connection, around: Around) -> list[Case]:
    order_id = around.newest // 10 * 5

    def listed(**query: object) -> Callable[[], object]:
        asked = events.Query(limit=50, **query)  # type: ignore[arg-type]
        return lambda: events.read_many(connection, asked)

    return [
        Case(
            "one order", lambda: reads.read_order(connection, order_id, CUSTOMER), FIRST
        ),
        # Finds what was forgotten; there is no time left to approve any.
        Case(
            "sweep: find forgotten approvals", lambda: approval.sweep(engine, [BUS], 0)
        ),
        Case("relay: claim 200", lambda: _claimed(engine)),
        Case(
            "relay: claim one order's",
            lambda: _claimed(engine, around.newest),
        ),
        Case("orderctl events list", listed()),
        Case("orderctl events list --order", listed(order_id=around.newest)),
        Case("orderctl events list --sent", listed(place="sent")),
        Case(
            "orderctl dead-letters list",
            lambda: letters.read_many(connection, letters.Query(limit=50)),
        ),
        Case("orderctl doctor", lambda: diagnosis.examine(connection)),
    ]


def _claimed(engine: Engine, order_id: int | None = None) -> int:
    """Claim, and let go again; return how many."""

    class UndoneError(Exception):
        pass

    count = 0
    try:
        with transaction(engine) as connection:
            found = (
                outbox.claim_any(connection, BUS)
                if order_id is None
                else outbox.claim_order(connection, order_id, [BUS])
            )
            count = len(found)
            raise UndoneError  # noqa: TRY301 that rolls back
    except UndoneError:
        return count


_AT_ONCE = 5000  # their places are all over a large index, which may be on disk
_EXPIRED = Statement("""
INSERT INTO idempotency_records
  (user_id, scope, key, fingerprint, status, headers, body, expires_at)
SELECT gen_random_uuid(), 'key', md5(CAST(n AS text)), md5(CAST(n AS text)), 201, '{}',
  repeat('x', 1000), now() - interval '1 hour' FROM generate_series(1, :count) n""")


class Rate(Struct, frozen=True):
    """Something measured once: how much in how long, and bytes of log in all."""

    name: str
    count: int
    seconds: float
    log_bytes: float

    @property
    def per_second(self) -> float:
        """Return the rate."""
        return self.count / max(self.seconds, 1e-9)

    @property
    def log_bytes_each(self) -> float:
        """Return how much of the write-ahead log each took."""
        return self.log_bytes / max(self.count, 1)


def rates(engine: Engine, around: Around, seconds: float) -> list[Rate]:
    """Measure what goes on for a while: the audit, the relay, retention; in this order.

    The relay takes events for sent; retention deletes a day of those, and keys made
    for it.
    """
    return [
        *_audits(engine, around),
        _timed(
            engine, "relay: claim and record, events", lambda: _relayed(engine, seconds)
        ),
        _timed(
            engine, "retention: sent events", lambda: _purged_events(engine, around)
        ),
        _purged_keys(engine),
    ]


def _timed(engine: Engine, name: str, run: Callable[[], int]) -> Rate:
    before, began_at = _log_bytes(engine), time.monotonic()
    count = run()
    seconds = time.monotonic() - began_at
    return Rate(name, count, seconds, _log_bytes(engine) - before)


def _log_bytes(engine: Engine) -> float:
    position = Statement("SELECT CAST(pg_current_wal_insert_lsn() - '0/0' AS float8)")
    with connect(engine) as connection:
        return float(connection.execute(position).scalar_one())


def _audits(engine: Engine, around: Around) -> list[Rate]:
    ends = {
        "audit: the oldest orders": 1,
        "audit: orders with sent events": around.newest * 97 // 100,
        "audit: the newest orders": max(1, around.newest - AUDITED + 1),
    }

    def run(low: int) -> int:
        report = audit(engine, between=(low, low + AUDITED - 1))
        if report.found:
            raise SystemExit(f"the audit finds {report.differences[:3]}")
        return report.orders

    return [_timed(engine, name, partial(run, low)) for name, low in ends.items()]


class _Nobody:
    """A destination that confirms at once."""

    def publish(self, messages: list[Message], _deadline: float) -> list[Outcome]:
        return [Outcome(message.id, Result.SENT) for message in messages]

    def close(self) -> None:
        pass


def _relayed(engine: Engine, seconds: float) -> int:
    relay = Relay(engine, {BUS: _Nobody()})  # type: ignore[dict-item]
    return sum(relay.sweep(seconds).values())


def _purged_events(engine: Engine, around: Around) -> int:
    days = max(1, (around.until - around.kept_from).days - 1)
    return retention.purge(engine, days, 3600).events


def _purged_keys(engine: Engine) -> Rate:
    for _ in range(EXPIRED_KEYS // _AT_ONCE):
        with connect(engine) as connection:
            connection.execute(_EXPIRED, {"count": _AT_ONCE})
    return _timed(
        engine,
        "retention: expired keys",
        lambda: retention.purge(engine, 36_500, 3600).keys,
    )
