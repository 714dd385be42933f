"""Reads of orders and items: PostgreSQL builds the reply's JSON, nobody parses it.

Lives here: one order, one item, list pages. Not here: snapshots to decide on and the
write (`store.py`). Surprise: whose it must be is part of every statement, so that
somebody else's row and an absent one cannot be told apart.
"""

import functools
from typing import Any
from uuid import UUID

from msgspec import Struct

from common.db import Connection, Statement, named
from common.errors import NotFoundError
from common.paging import ListQuery

MOMENT = "to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"

ITEM_JSON = """json_build_object(
  'id', i.id, 'order', i.order_id, 'status', i.status, 'quantity', i.quantity,
  'product_variation', i.product_variation, 'product_id', i.product_id,
  'shop_id', i.shop_id, 'price', i.price)"""

ORDER_JSON = f"""json_build_object(
  'id', o.id, 'user_id', o.user_id, 'created_at', {MOMENT.format("o.created_at")},
  'is_approved', o.is_approved, 'metadata', o.metadata, 'items', (
    SELECT coalesce(json_agg({ITEM_JSON} ORDER BY i.id), '[]')
    FROM order_items i WHERE i.order_id = o.id))"""  # noqa: S608 fragments of our own


class Document(Struct, frozen=True):
    """A reply's body as JSON text, and the version it shows."""

    body: str
    version: int


class Page(Struct, frozen=True):
    """A list page: a JSON array as text, and the id after which the next one starts."""

    body: str
    next_after: int | None


def unique(
    connection: Connection, statement: Statement, parameters: dict[str, Any]
) -> tuple[Any, ...]:
    """Answer the one row that a statement finds; raises NotFoundError."""
    row = connection.execute(statement, parameters).one_or_none()
    if row is None:
        raise NotFoundError
    return tuple(row)


_READ_ORDER = named(
    "reads.order",
    f"""
SELECT CAST({ORDER_JSON} AS text), o.version FROM orders o
WHERE o.id = CAST(:id AS bigint) AND o.user_id = CAST(:user_id AS uuid)""",  # noqa: S608 fragments of our own
)

_READ_ITEM = named(
    "reads.item",
    f"""
SELECT CAST({ITEM_JSON} AS text), i.version FROM order_items i
WHERE i.id = CAST(:id AS bigint) AND i.user_id = CAST(:user_id AS uuid)""",  # noqa: S608 fragments of our own
)


def read_order(connection: Connection, order_id: int, user_id: UUID) -> Document:
    """Answer the order if it is the caller's; raises NotFoundError."""
    parameters = {"id": order_id, "user_id": user_id}
    body, version = unique(connection, _READ_ORDER, parameters)
    return Document(body, version)


def read_item(connection: Connection, item_id: int, user_id: UUID) -> Document:
    """Answer the item if it is the caller's; raises NotFoundError."""
    parameters = {"id": item_id, "user_id": user_id}
    body, version = unique(connection, _READ_ITEM, parameters)
    return Document(body, version)


# What a list can be narrowed by. Each combination is a statement of its own, so that
# each gets a plan of its own.
_ORDER_FILTERS = {
    "is_approved": "o.is_approved = CAST(:is_approved AS boolean)",
    "created_after": "o.created_at > CAST(:created_after AS timestamptz)",
    "created_before": "o.created_at < CAST(:created_before AS timestamptz)",
    "after": "o.id < CAST(:after AS bigint)",
}
_ITEM_FILTERS = {
    "order": "i.order_id = CAST(:order AS bigint)",
    "status": "i.status = CAST(:status AS smallint)",
    "shop_id": "i.shop_id = CAST(:shop_id AS uuid)",
    "product_variation": "i.product_variation = CAST(:product_variation AS uuid)",
    "after": "i.id < CAST(:after AS bigint)",
}
_PAGE = """
WITH page AS (
  SELECT {alias}.id, {row} AS body, row_number() OVER (ORDER BY {alias}.id DESC) AS n
  FROM (
    SELECT {alias}.* FROM {table} {alias}
    WHERE {alias}.user_id = CAST(:user_id AS uuid) {filters}
    ORDER BY {alias}.id DESC
    LIMIT CAST(:limit AS int) + 1  -- one more, to know whether there is more
  ) {alias}
)
SELECT CAST(coalesce(json_agg(body ORDER BY id DESC)
    FILTER (WHERE n <= CAST(:limit AS int)), '[]') AS text),
  CASE WHEN count(*) > CAST(:limit AS int)
    THEN min(id) FILTER (WHERE n <= CAST(:limit AS int)) END
FROM page
"""


@functools.cache
def _page_statement(table: str, filters: tuple[str, ...]) -> Statement:
    is_orders = table == "orders"
    alias, row = ("o", ORDER_JSON) if is_orders else ("i", ITEM_JSON)
    known = _ORDER_FILTERS if is_orders else _ITEM_FILTERS
    return named(
        f"reads.page_of_{table}",
        _PAGE.format(
            alias=alias,
            table=table,
            row=row,
            filters=" ".join(f"AND {known[name]}" for name in filters),
        ),
    )


def read_page(
    connection: Connection, table: str, user_id: UUID, query: ListQuery
) -> Page:
    """Answer the caller's `orders` or `order_items` that `query` asks for.

    Newest id first. One index range, however deep.
    """
    filters = dict(query.filters)
    if query.after is not None:
        filters["after"] = query.after
    statement = _page_statement(table, tuple(sorted(filters)))
    parameters = filters | {"user_id": user_id, "limit": query.limit}
    return Page(*connection.execute(statement, parameters).one())
