"""Read orders and items as JSON that PostgreSQL builds and nobody parses.

The owner is part of every statement, so another's row and an absent one look alike.
"""

import functools
from typing import Any
from uuid import UUID

from msgspec import Struct

from common.database.engine import Connection, Statement, named, read
from common.domain.model import MAX_ID
from common.errors import NotFoundError
from common.store.paging import MOST_LOOKED_AT, ListQuery

MOMENT = "to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"

# Text put together, which costs PostgreSQL half of what json_build_object does. What
# stands between quotes here is a UUID or a time, and needs no escapes; metadata comes
# out of its jsonb as the JSON it is. concat() leaves out what is null.
ITEM_JSON = """concat('{"id":', i.id, ',"order":', i.order_id, ',"status":', i.status,
  ',"quantity":', i.quantity, ',"product_variation":"', i.product_variation,
  '","product_id":', coalesce('"' || i.product_id || '"', 'null'),
  ',"shop_id":', coalesce('"' || i.shop_id || '"', 'null'),
  ',"price":', i.price, '}')"""

ORDER_JSON = f"""concat('{{"id":', o.id, ',"user_id":"', o.user_id,
  '","created_at":"', {MOMENT.format("o.created_at")}, '","is_approved":',
  CASE WHEN o.is_approved THEN 'true' ELSE 'false' END, ',"metadata":', o.metadata,
  ',"items":[', (
    SELECT string_agg({ITEM_JSON}, ',' ORDER BY i.id)
    FROM order_items i WHERE i.order_id = o.id), ']}}')"""  # noqa: S608 fragments of our own


class Document(Struct, frozen=True):
    """A reply's body as JSON text, and the version it shows."""

    body: str
    version: int | str


class Page(Struct, frozen=True):
    """A list page: a JSON array as text, and the id after which the next one starts."""

    body: str
    next_after: int | None


def unique(
    connection: Connection, statement: Statement, parameters: dict[str, Any]
) -> tuple[Any, ...]:
    """Return the one row that a statement finds; raise NotFoundError."""
    row = read(connection, statement, parameters).one_or_none()
    if row is None:
        raise NotFoundError
    return tuple(row)


_READ_ORDER = named(
    "reads.order",
    f"""
SELECT {ORDER_JSON}, o.version FROM orders o
WHERE o.id = CAST(:id AS bigint) AND o.user_id = CAST(:user_id AS uuid)""",  # noqa: S608 fragments of our own
)

_READ_ITEM = named(
    "reads.item",
    f"""
SELECT {ITEM_JSON}, i.version FROM order_items i
WHERE i.id = CAST(:id AS bigint) AND i.user_id = CAST(:user_id AS uuid)""",  # noqa: S608 fragments of our own
)


def read_order(connection: Connection, order_id: int, user_id: UUID) -> Document:
    """Return the order if it is the caller's; raise NotFoundError."""
    parameters = {"id": order_id, "user_id": user_id}
    body, version = unique(connection, _READ_ORDER, parameters)
    return Document(body, version)


def read_item(connection: Connection, item_id: int, user_id: UUID) -> Document:
    """Return the item if it is the caller's; raise NotFoundError."""
    parameters = {"id": item_id, "user_id": user_id}
    body, version = unique(connection, _READ_ITEM, parameters)
    return Document(body, version)


# What a list can be narrowed by. Each combination is a statement of its own, so that
# each gets a plan of its own.
_FILTERS = {
    "orders": {
        "created_after": "o.created_at > CAST(:created_after AS timestamptz)",
        "created_before": "o.created_at < CAST(:created_before AS timestamptz)",
    },
    "order_items": {
        "status": "i.status = CAST(:status AS smallint)",
        "shop_id": "i.shop_id = CAST(:shop_id AS uuid)",
        "product_variation": "i.product_variation = CAST(:product_variation AS uuid)",
    },
}
# Whose it is the order tells; no index of the caller's rows can then look better.
_OF_ORDER = """i.order_id = CAST(:order AS bigint)
      AND i.id <= CAST(:up_to AS bigint)
      AND CAST(:user_id AS uuid) = (
        SELECT user_id FROM orders WHERE id = CAST(:order AS bigint))"""


@functools.cache
def _page_statement(table: str, given: tuple[str, ...], most: int) -> Statement:
    alias, row = ("o", ORDER_JSON) if table == "orders" else ("i", ITEM_JSON)
    columns, values = [f"{alias}.user_id"], ["CAST(:user_id AS uuid)"]
    if "is_approved" in given:
        columns.append("o.is_approved")
        values.append("CAST(:is_approved AS boolean)")
    # One range of one index, walked backwards: what it has before the id, and from
    # which id on. It is not said as `user_id = …`: of a caller who owns a fifth of the
    # table PostgreSQL would rather walk the primary key and pass over everybody else's
    # rows, which are millions where that caller has left long ago.
    start, end = ", ".join(columns), ", ".join(values)
    within = f"""({start}, {alias}.id) <= ({end}, CAST(:up_to AS bigint))
      AND ({start}) >= ({end})"""
    if "order" in given:
        columns, within = [], _OF_ORDER
    order = ", ".join(f"{column} DESC" for column in [*columns, f"{alias}.id"])
    walk = f"FROM {table} {alias} WHERE {within} ORDER BY {order}"
    rows, otherwise = f"SELECT {alias}.* {walk}", ""
    known = _FILTERS[table]
    if filters := " AND ".join(known[name] for name in given if name in known):
        # Whoever owns a million rows may ask for what only the oldest of them are.
        rows = f"""SELECT {alias}.* FROM ({rows} LIMIT {most}) {alias}
    WHERE {filters} ORDER BY {order}"""  # noqa: S608 fragments of our own
        # The last row that was looked at, where another follows.
        otherwise = f"""ELSE (
    SELECT max(id) FROM (SELECT {alias}.id {walk} OFFSET {most} - 1 LIMIT 2) last
    HAVING count(*) = 2) """  # noqa: S608 fragments of our own
    return named(
        f"reads.page_of_{table}",
        f"""
WITH page AS (
  SELECT {alias}.id, {row} AS body, row_number() OVER (ORDER BY {alias}.id DESC) AS n
  FROM (
    {rows}
    LIMIT CAST(:limit AS int) + 1  -- one more, to know whether there is more
  ) {alias}
)
SELECT concat('[', string_agg(body, ',' ORDER BY id DESC)
    FILTER (WHERE n <= CAST(:limit AS int)), ']'),
  CASE WHEN count(*) > CAST(:limit AS int)
    THEN min(id) FILTER (WHERE n <= CAST(:limit AS int)) {otherwise}END
FROM page
""",  # noqa: S608 fragments of our own
    )


def read_page(
    connection: Connection, table: str, user_id: UUID, query: ListQuery
) -> Page:
    """Return the caller's `orders` or `order_items` that `query` asks for.

    Newest id first. One index range, however deep, and of what filters leave out at
    most `MOST_LOOKED_AT`: the page may then be short, even empty, and yet have a next.
    """
    statement = _page_statement(table, tuple(sorted(query.filters)), MOST_LOOKED_AT)
    parameters = {
        **query.filters,
        "user_id": user_id,
        "limit": query.limit,
        "up_to": MAX_ID if query.after is None else query.after - 1,
    }
    return Page(*read(connection, statement, parameters).one())
