"""Queries of the console: search for orders, operators' actions, counts.

No index exists for the console alone. Ids follow time, so a time is found by bisection;
other searches read 10,000 orders at a time.
"""

import functools
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct, json

from common.database.engine import Connection, Statement, named
from common.domain.model import MAX_ID
from common.store.paging import MAX_ROWS_SCANNED

# Ids are drawn a little before or after the time that is written beside them.
SKEW = timedelta(minutes=5)

# The first order since a moment, by bisection: each step is one primary key lookup.
_EDGE = named(
    "console.edge",
    """
WITH RECURSIVE probe AS (
  SELECT (SELECT id FROM orders ORDER BY id LIMIT 1) AS low,
    (SELECT id FROM orders ORDER BY id DESC LIMIT 1) + 1 AS high, 0 AS step
  UNION ALL
  SELECT CASE WHEN found.created_at < CAST(:moment AS timestamptz)
      THEN found.id + 1 ELSE p.low END,
    CASE WHEN found.created_at < CAST(:moment AS timestamptz)
      THEN p.high ELSE p.low + (p.high - p.low) / 2 END,
    p.step + 1
  FROM probe p LEFT JOIN LATERAL (
    SELECT o.id, o.created_at FROM orders o
    WHERE o.id >= p.low + (p.high - p.low) / 2 AND o.id < p.high
    ORDER BY o.id LIMIT 1) found ON true
  WHERE p.low < p.high AND p.step < 70
)
SELECT max(low) FROM probe
""",
)


def edge(connection: Connection, moment: datetime) -> int:
    """Return an id such that orders from `moment` on have it or a higher one."""
    first = connection.execute(_EDGE, {"moment": moment.isoformat()}).scalar_one()
    return first or 1


class ListedOrder(Struct, frozen=True):
    """An order in a list; `statuses` counts its items by status."""

    id: int
    user_id: str
    created_at: datetime
    is_approved: bool
    statuses: dict[int, int]


class Listing(Struct, frozen=True):
    """Orders, newest first, and the id below which the next page begins."""

    orders: list[ListedOrder]
    next_after: int | None = None


_CONDITIONS = {
    "is_approved": "w.is_approved = CAST(:is_approved AS boolean)",
    "created_after": "w.created_at >= CAST(:created_after AS timestamptz)",
    "created_before": "w.created_at < CAST(:created_before AS timestamptz)",
    "status": """EXISTS (SELECT FROM order_items i
      WHERE i.order_id = w.id AND i.status = CAST(:status AS smallint))""",
    "shop_id": """EXISTS (SELECT FROM order_items i
      WHERE i.order_id = w.id AND i.shop_id = CAST(:shop_id AS uuid))""",
}
_ALL_ORDERS = """SELECT o.* FROM orders o
    WHERE o.id <= CAST(:up_to AS bigint) AND o.id >= CAST(:down_to AS bigint)
    ORDER BY o.id DESC"""
# As for a caller's own list (`store.reads`): one range of the index on user and id.
_ORDERS_OF_USER = """SELECT o.* FROM orders o
    WHERE (o.user_id, o.id) <= (CAST(:user_id AS uuid), CAST(:up_to AS bigint))
      AND (o.user_id, o.id) >= (CAST(:user_id AS uuid), CAST(:down_to AS bigint))
    ORDER BY o.user_id DESC, o.id DESC"""


@functools.cache
def _find_statement(filters: tuple[str, ...], most: int) -> Statement:
    source = _ORDERS_OF_USER if "user_id" in filters else _ALL_ORDERS
    conditions = [_CONDITIONS[name] for name in filters if name in _CONDITIONS]
    condition = " AND ".join(conditions) or "true"
    sql = f"""
WITH page AS MATERIALIZED (
  SELECT w.id, w.user_id, w.created_at, w.is_approved
  FROM ({source} LIMIT {most}) w WHERE {condition}
  LIMIT CAST(:limit AS int) + 1  -- one more, to know whether there is a next page
),
shown AS (SELECT * FROM page ORDER BY id DESC LIMIT CAST(:limit AS int))
SELECT CAST((SELECT coalesce(json_agg(json_build_object('id', s.id,
    'user_id', s.user_id, 'created_at', s.created_at, 'is_approved', s.is_approved,
    'statuses', (SELECT coalesce(json_object_agg(c.status, c.n), '{{}}') FROM (
      SELECT i.status, count(*) AS n FROM order_items i WHERE i.order_id = s.id
      GROUP BY i.status) c)) ORDER BY s.id DESC), '[]') FROM shown s) AS text),
  CASE WHEN (SELECT count(*) FROM page) > CAST(:limit AS int)
    THEN (SELECT min(id) FROM shown)
    ELSE (SELECT CASE WHEN count(*) = {most} THEN min(id) END
      FROM ({source} LIMIT {most}) read) END
"""  # noqa: S608 fragments of our own
    return named("console.find", sql)


def find(
    connection: Connection,
    filters: dict[str, Any],
    *,
    limit: int,
    after: int | None = None,
    most: int = MAX_ROWS_SCANNED,
) -> Listing:
    """Return the orders that pass `filters`, newest first, below id `after`.

    `filters`: user_id, shop_id, status (of an item), is_approved, created_after,
    created_before. At most `most` orders are read, so a short page may have a next.
    """
    up_to, down_to = (MAX_ID if after is None else after - 1), 1
    if since := filters.get("created_after"):
        down_to = edge(connection, since - SKEW)
    if before := filters.get("created_before"):
        up_to = min(up_to, edge(connection, before + SKEW))
    values = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in filters.items()
    }
    parameters = values | {"up_to": up_to, "down_to": down_to, "limit": limit}
    statement = _find_statement(tuple(sorted(filters)), most)
    text, next_after = connection.execute(statement, parameters).one()
    return Listing(json.decode(text, type=list[ListedOrder]), next_after)


class RecordedAction(Struct, frozen=True):
    """An entry of `operator_actions`; `given` has the action's values."""

    id: int
    at: datetime
    operator: str
    action: str
    order_id: int | None
    given: dict[str, str]
    reason: str
    request_id: str | None
    outcome: str


_COLUMNS = ", ".join(RecordedAction.__struct_fields__)
_LISTED = 200  # actions of one order
_OF_ORDER = named(
    "console.actions_of_order",
    f"""
SELECT {_COLUMNS} FROM operator_actions WHERE order_id = CAST(:order_id AS bigint)
ORDER BY id DESC LIMIT {_LISTED}
""",  # noqa: S608 fragments of our own
)
_ACTIONS = named(
    "console.actions",
    f"""
SELECT {_COLUMNS} FROM operator_actions WHERE id <= CAST(:up_to AS bigint)
ORDER BY id DESC LIMIT CAST(:limit AS int)
""",  # noqa: S608 fragments of our own
)


def read_actions_of_order(
    connection: Connection, order_id: int
) -> list[RecordedAction]:
    """Return the newest 200 actions on an order, oldest first."""
    rows = connection.execute(_OF_ORDER, {"order_id": order_id})
    return [RecordedAction(*row) for row in rows][::-1]


def read_actions(
    connection: Connection, *, limit: int, up_to: int = MAX_ID
) -> list[RecordedAction]:
    """Return actions up to id `up_to`, newest first."""
    rows = connection.execute(_ACTIONS, {"limit": limit, "up_to": up_to})
    return [RecordedAction(*row) for row in rows]


_MOST_COUNTED = 100_000  # orders behind a chart
_COUNT = named(
    "console.count",
    f"""
WITH newest AS (
  SELECT o.created_at, o.approved_at FROM orders o
  WHERE o.id >= CAST(:down_to AS bigint)
  ORDER BY o.id DESC LIMIT {_MOST_COUNTED}
),
happened(at, what) AS (
  SELECT created_at, 'order' FROM newest
  UNION ALL SELECT approved_at, 'approval' FROM newest
  UNION ALL (SELECT created_at, 'failure' FROM dead_letters
    ORDER BY id DESC LIMIT {MAX_ROWS_SCANNED})
)
SELECT date_trunc(:unit, at, 'UTC'), count(*) FILTER (WHERE what = 'order'),
  count(*) FILTER (WHERE what = 'approval'), count(*) FILTER (WHERE what = 'failure')
FROM happened WHERE at >= CAST(:since AS timestamptz) GROUP BY 1
""",  # noqa: S608 fragments of our own
)


def count(
    connection: Connection, unit: str, since: datetime
) -> dict[datetime, tuple[int, int, int]]:
    """Count orders, their approvals and dead letters by `unit`, 'hour' or 'day', UTC.

    At most the newest 100,000 orders and 10,000 dead letters count. Approvals are those
    of orders created since `since`. Units without any are left out.
    """
    parameters = {
        "unit": unit,
        "since": since.isoformat(),
        "down_to": edge(connection, since - SKEW),
    }
    rows = connection.execute(_COUNT, parameters)
    return {start: (orders, approvals, dead) for start, orders, approvals, dead in rows}
