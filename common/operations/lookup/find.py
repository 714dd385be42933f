"""Lists of orders by what operators ask for, newest first.

Ids follow time, so a time is found by bisection. What no index leads to, such as a
status, is looked for among 10,000 orders at a time.
"""

import functools
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct, json

from common.database.engine import Connection, Statement, named
from common.domain.model import MAX_ID, ItemStatus
from common.json import encode
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
    total_minor: int  # of all items that are not cancelled
    metadata: dict[str, str]


class Page(Struct, frozen=True):
    """Rows of a list, and the id after which the next page begins, None at the end."""

    rows: Sequence[Any]
    next_after: int | None = None


class Count(Struct, frozen=True):
    """How many there are; unless `is_whole`, among the newest ones only."""

    number: int
    is_whole: bool


_WITH_ITEM = """EXISTS (SELECT FROM order_items i
      WHERE i.order_id = w.id AND i.{0} = CAST(:{0} AS {1}))"""
_CONDITIONS = {
    "is_approved": "w.is_approved = CAST(:is_approved AS boolean)",
    "is_late": "w.is_complete AND NOT w.is_approved",
    "created_after": "w.created_at >= CAST(:created_after AS timestamptz)",
    "created_before": "w.created_at < CAST(:created_before AS timestamptz)",
    "status": _WITH_ITEM.format("status", "smallint"),
    "shop_id": _WITH_ITEM.format("shop_id", "uuid"),
    "product_variation": _WITH_ITEM.format("product_variation", "uuid"),
    "metadata": "w.metadata @? CAST(:metadata AS jsonpath)",
}
_IN_RANGE = "o.id <= CAST(:up_to AS bigint) AND o.id >= CAST(:down_to AS bigint)"
_ALL_ORDERS = f"SELECT o.* FROM orders o WHERE {_IN_RANGE} ORDER BY o.id DESC"  # noqa: S608 fragments of our own
# As for a caller's own list (`store.reads`): one range of the index on user and id.
_ORDERS_OF_USER = """SELECT o.* FROM orders o
    WHERE (o.user_id, o.id) <= (CAST(:user_id AS uuid), CAST(:up_to AS bigint))
      AND (o.user_id, o.id) >= (CAST(:user_id AS uuid), CAST(:down_to AS bigint))
    ORDER BY o.user_id DESC, o.id DESC"""
# As above, of the index on `{0}` and order.
_ORDERS_WITH_ITEM = """SELECT o.* FROM (
      SELECT DISTINCT ON (i.{0}, i.order_id) i.order_id FROM order_items i
      WHERE (i.{0}, i.order_id) <= (CAST(:{0} AS uuid), CAST(:up_to AS bigint))
        AND (i.{0}, i.order_id) >= (CAST(:{0} AS uuid), CAST(:down_to AS bigint))
      ORDER BY i.{0} DESC, i.order_id DESC) x
    CROSS JOIN LATERAL (SELECT * FROM orders WHERE id = x.order_id OFFSET 0) o"""
# The index has no order: as many as are looked at are sorted.
_ORDERS_WITH_METADATA = """SELECT o.* FROM (
      SELECT x.id FROM orders_with_metadata(CAST(:metadata AS jsonpath),
        CAST(:down_to AS bigint), CAST(:up_to AS bigint), {most}) x(id)
      ORDER BY x.id DESC) x
    CROSS JOIN LATERAL (SELECT * FROM orders WHERE id = x.id OFFSET 0) o"""
_LATE_ORDERS = f"""SELECT o.* FROM orders o
    WHERE o.is_complete AND NOT o.is_approved AND {_IN_RANGE} ORDER BY o.id DESC"""  # noqa: S608 fragments of our own


def _source(filters: tuple[str, ...], most: int) -> str:
    """Return the query of the orders to look at, by the narrowest index there is."""
    if "user_id" in filters:
        return _ORDERS_OF_USER
    if "metadata" in filters:
        return _ORDERS_WITH_METADATA.format(most=most)
    if "is_late" in filters:
        return _LATE_ORDERS
    for name in ("shop_id", "product_variation"):
        if name in filters:
            return _ORDERS_WITH_ITEM.format(name)
    return _ALL_ORDERS


def _condition(filters: tuple[str, ...]) -> str:
    named_ones = [_CONDITIONS[name] for name in filters if name in _CONDITIONS]
    return " AND ".join(named_ones) or "true"


@functools.cache
def _find_statement(filters: tuple[str, ...], most: int) -> Statement:
    source, condition = _source(filters, most), _condition(filters)
    sql = f"""
WITH page AS MATERIALIZED (
  SELECT w.id, w.user_id, w.created_at, w.is_approved, w.metadata
  FROM ({source} LIMIT {most}) w WHERE {condition}
  LIMIT CAST(:limit AS int) + 1  -- one more, to know whether there is a next page
),
shown AS (SELECT * FROM page ORDER BY id DESC LIMIT CAST(:limit AS int))
SELECT CAST((SELECT coalesce(json_agg(json_build_object('id', s.id,
    'user_id', s.user_id, 'created_at', s.created_at, 'is_approved', s.is_approved,
    'metadata', s.metadata, 'statuses', c.statuses, 'total_minor', c.total)
    ORDER BY s.id DESC), '[]')
  FROM shown s CROSS JOIN LATERAL (
    SELECT coalesce(json_object_agg(status, n), '{{}}') AS statuses,
      coalesce(sum(total) FILTER (WHERE status <> {ItemStatus.CANCELLED}), 0) AS total
    FROM (SELECT i.status, count(*) AS n, sum(i.quantity * i.price) AS total
      FROM order_items i WHERE i.order_id = s.id GROUP BY i.status) by_status) c)
  AS text),
  CASE WHEN (SELECT count(*) FROM page) > CAST(:limit AS int)
    THEN (SELECT min(id) FROM shown)
    ELSE (SELECT CASE WHEN count(*) = {most} THEN min(id) END
      FROM ({source} LIMIT {most}) read) END
"""  # noqa: S608 fragments of our own
    return named("console.find", sql)


@functools.cache
def _count_statement(filters: tuple[str, ...], most: int) -> Statement:
    source, condition = _source(filters, most), _condition(filters)
    sql = f"""
SELECT count(*) FILTER (WHERE {condition}), count(*) < {most}
FROM ({source} LIMIT {most}) w
"""  # noqa: S608 fragments of our own
    return named("console.count_found", sql)


def find(
    connection: Connection,
    filters: dict[str, Any],
    *,
    limit: int,
    after: int | None = None,
    most: int = MAX_ROWS_SCANNED,
) -> Page:
    """Return the orders that pass `filters`, newest first, below id `after`.

    `filters`: user_id, shop_id, product_variation, metadata (one of its values, or
    `key=value`), status (of an item), is_approved, is_late (complete, not approved),
    created_after, created_before. At most `most` orders are read, so a short page may
    have a next.
    """
    parameters = _parameters(connection, filters, after) | {"limit": limit}
    statement = _find_statement(tuple(sorted(filters)), most)
    text, next_after = connection.execute(statement, parameters).one()
    return Page(json.decode(text, type=list[ListedOrder]), next_after)


def count(
    connection: Connection, filters: dict[str, Any], most: int = MAX_ROWS_SCANNED
) -> Count:
    """Return how many orders pass `filters`, among the newest `most`."""
    statement = _count_statement(tuple(sorted(filters)), most)
    return Count(*connection.execute(statement, _parameters(connection, filters)).one())


def _parameters(
    connection: Connection, filters: dict[str, Any], after: int | None = None
) -> dict[str, Any]:
    up_to, down_to = (MAX_ID if after is None else after - 1), 1
    if since := filters.get("created_after"):
        down_to = edge(connection, since - SKEW)
    if before := filters.get("created_before"):
        up_to = min(up_to, edge(connection, before + SKEW))
    values = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in filters.items()
        if name != "is_late"  # it says so itself
    }
    if "metadata" in values:
        values["metadata"] = metadata_path(values["metadata"])
    return values | {"up_to": up_to, "down_to": down_to}


def metadata_path(text: str) -> str:
    """Return the JSON path of a value of metadata, or of `key=value`."""
    key, equals, value = text.partition("=")
    anywhere = f"$.* ? (@ == {encode(text)})"
    if not equals or not key:
        return anywhere
    return f"$ ? (@.* == {encode(text)} || @.{encode(key)} == {encode(value)})"
