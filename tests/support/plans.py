"""PostgreSQL's plans for statements as the service prepares them."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import pg8000.native

from common.database.sessions import PLANNING
from tests.support.database import connect

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
