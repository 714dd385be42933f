"""PostgreSQL's plans for statements as the service prepares them."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pg8000.native

from benchmarks import fill
from common.database.sessions import PLANNING
from common.operations import audit_checks
from tests.support.database import connect, database, execute

ORDERS = 24_000  # a fifth of them one customer's, the newest 2,000 all pending
PENDING, SENT, GONE = 23_995, 21_995, 11_000  # orders of the heavy customer
BIG = (
    *("orders", "order_items", "deleted_items", "order_history", "outbox"),
    *("sent_events", "idempotency_records", "ordered_lines", "dead_letters"),
    *("operator_actions", "stock_holds"),
)
# For tables that `benchmarks.fill` leaves nearly empty.
MORE_ROWS = (
    """
INSERT INTO dead_letters (source, reason, destination, order_id, event_id, event_type,
  body, settled_as, settled_at)
SELECT 'outbox', 'no', 'rabbitmq', n, gen_random_uuid(), 'order.approved', 'x',
  CASE WHEN mod(n, 2) = 0 THEN 'discarded' END,
  CASE WHEN mod(n, 2) = 0 THEN now() - make_interval(hours => n) END
FROM generate_series(1, 5000) n
""",
    """
INSERT INTO idempotency_records (user_id, scope, key, fingerprint, status, headers,
  body, expires_at)
SELECT gen_random_uuid(), 'key', CAST(n AS text), 'f', 201, '{}', 'x',
  now() + make_interval(secs => n - 1000) FROM generate_series(1, 5000) n
""",
    """
INSERT INTO operator_actions (form_id, operator, action, order_id, reason)
SELECT gen_random_uuid(), 'o', 'a', n, 'r' FROM generate_series(1, 5000) n
""",
    """
INSERT INTO stock_holds (order_id, item_id, event_id, product_variation, quantity,
  expected, unsent)
SELECT id, id * 3, gen_random_uuid(), gen_random_uuid(), 1, 9, 1 FROM orders
WHERE id > (SELECT max(id) - 5000 FROM orders)
""",
)

# Of tables as large as those of years, PostgreSQL finds these small beside all others.
PARALLEL_COSTS = (
    *("parallel_setup_cost", "parallel_tuple_cost"),
    *("min_parallel_index_scan_size", "min_parallel_table_scan_size"),
)

Plan = Any  # a node of a plan as JSON, with its parts below "Plans"


@contextmanager
def prepared(
    url: str, sql: str, names: list[str]
) -> Iterator[pg8000.native.Connection]:
    """Yield a connection that knows `sql` as `p`, in a transaction that is undone.

    `names` are those of its parameters, in the order in which it is given values.
    """

    def number(found: "re.Match[str]") -> str:
        return f"${names.index(found[1]) + 1}"

    numbered = re.sub(r"(?<!:):([a-z_]+)", number, sql)
    with closing(connect(url)) as connection:
        for name, value in PLANNING.items():  # as the service's connections
            connection.run(f"SET {name} = {value}")
        for name in PARALLEL_COSTS:
            connection.run(f"SET {name} = 0")
        connection.run("BEGIN")
        connection.run(f"PREPARE p AS {numbered}")
        yield connection


def explain(
    connection: pg8000.native.Connection, values: Mapping[str, object], options: str
) -> Plan:
    """Return the plan of `p` with these values."""
    given = ", ".join(
        "NULL" if value is None else "'" + str(value).replace("'", "''") + "'"
        for value in values.values()
    )
    execute = f"EXECUTE p({given})" if values else "EXECUTE p"
    [[plan]] = connection.run(f"EXPLAIN ({options}, FORMAT JSON) {execute}")
    [told] = json.loads(plan) if isinstance(plan, str) else plan
    return told["Plan"]


def nodes(plan: Plan) -> Iterator[Plan]:
    """Return the plan and all its parts."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def rows_read(plan: Plan, table: str) -> int:
    """Return how many rows of a table were looked at, counting each time."""
    return sum(
        node["Actual Loops"]
        * (
            node["Actual Rows"]
            + node.get("Rows Removed by Filter", 0)
            + node.get("Rows Removed by Index Recheck", 0)
        )
        for node in nodes(plan)
        if node.get("Relation Name") == table and "Scan" in node["Node Type"]
    )


def rows_sorted(plan: Plan) -> int:
    """Return how many rows went into the largest sort."""
    return max(
        (
            part["Actual Loops"] * part["Actual Rows"]
            for node in nodes(plan)
            if "Sort" in node["Node Type"]
            for part in node["Plans"]
        ),
        default=0,
    )


@dataclass(frozen=True)
class Use:
    """A statement's values, and how many rows of big tables it may read and sort."""

    values: Mapping[str, object] = field(default_factory=dict)
    reads: int = 1000
    sorts: int = 250
    # The audit's own settings come first.
    is_audit: bool = False


@contextmanager
def filled(postgres_url: str) -> Iterator[str]:
    """Yield a database as two years leave it behind, analysed."""
    with database(postgres_url) as url:
        fill.fill(url, fill.Plan(orders=ORDERS, days=120, pending=8000))
        for rows in MORE_ROWS:
            execute(url, rows)
        with closing(connect(url)) as connection:
            connection.run("VACUUM ANALYZE")
        yield url


def complaint(url: str, sql: str, use: Use) -> str:
    """Return what is wrong with a statement's plan, nothing if it is well."""
    with prepared(url, sql, list(use.values)) as connection:
        if use.is_audit:
            connection.run(str(audit_checks.PLAN.text))
        plan = explain(connection, use.values, "ANALYZE, TIMING OFF, BUFFERS OFF")
    whole = sorted(
        {n["Relation Name"] for n in nodes(plan) if n["Node Type"] == "Seq Scan"}
        & set(BIG)
    )
    read = sum(rows_read(plan, table) for table in BIG)
    complaints = [
        f"reads all of {', '.join(whole)}" if whole else "",
        f"reads {read} rows" if read > use.reads else "",
        f"sorts {n} rows" if (n := rows_sorted(plan)) > use.sorts else "",
    ]
    return "; ".join(filter(None, complaints))


def reads_whole(url: str, sql: str, use: Use, table: str) -> bool:
    """Return whether a plan that is made while the table is empty reads all of it.

    A process keeps such a plan until the table is analysed, however much is in it.
    """
    with prepared(url, sql, list(use.values)) as connection:
        connection.run(f"TRUNCATE {table}")
        partial = connection.run("""
            SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid
            WHERE indpred IS NOT NULL""")
        plan = explain(connection, use.values, "COSTS OFF")
        return _scans(plan, table, {name for [name] in partial})


def _scans(plan: Plan, table: str, partial: Collection[str]) -> bool:
    """Return whether a node reads the table by no key, and no limit ends that.

    The `partial` indexes have few of its rows, whatever comes.
    """
    if plan["Node Type"] == "Limit":
        return False
    is_scan = plan.get("Relation Name") == table and "Scan" in plan["Node Type"]
    is_keyed = {"Index Cond", "TID Cond"} & plan.keys()
    is_narrow = is_keyed or plan.get("Index Name") in partial
    parts = plan.get("Plans", ())
    return (is_scan and not is_narrow) or any(
        _scans(part, table, partial) for part in parts
    )
