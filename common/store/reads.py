"""Read orders and items as JSON that PostgreSQL builds, and that is sent unparsed.

Every statement checks the owner, so another owner's row is treated as absent.
"""

import functools
from typing import Any
from uuid import UUID

from msgspec import Struct

from common.database.engine import Connection, Statement, named, read
from common.domain.model import MAX_ID
from common.errors import NotFoundError
from common.store.paging import MAX_ROWS_SCANNED, ListQuery

MOMENT = "to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"

# Concatenated text costs PostgreSQL half as much as json_build_object. Quoted values
# are UUIDs and times, which need no escapes; metadata is jsonb, whose text has spaces
# that no other response has. concat() skips nulls.
ITEM_JSON = """concat('{"id":', i.id, ',"order":', i.order_id, ',"status":', i.status,
  ',"quantity":', i.quantity, ',"product_variation":"', i.product_variation,
  '","product_id":', coalesce('"' || i.product_id || '"', 'null'),
  ',"shop_id":', coalesce('"' || i.shop_id || '"', 'null'),
  ',"price":', i.price, '}')"""

_METADATA = """CASE WHEN o.metadata = '{}' THEN '{}' ELSE (
    SELECT concat('{', string_agg(concat(to_json(m.key), ':', m.value), ','), '}')
    FROM jsonb_each(o.metadata) m) END"""

ORDER_JSON = f"""concat('{{"id":', o.id, ',"user_id":"', o.user_id,
  '","created_at":"', {MOMENT.format("o.created_at")}, '","is_approved":',
  CASE WHEN o.is_approved THEN 'true' ELSE 'false' END, ',"metadata":', {_METADATA},
  ',"items":[', (
    SELECT string_agg({ITEM_JSON}, ',' ORDER BY i.id)
    FROM order_items i WHERE i.order_id = o.id), ']}}')"""  # noqa: S608 fragments of our own


# What a page weighs at most, unless its first row weighs more. The platform passes on
# 32 MiB.
MAX_PAGE_BYTES = 8 * 1024 * 1024


class Document(Struct, frozen=True):
    """The body of a response as JSON text, and its version."""

    body: str
    version: int | str


class Page(Struct, frozen=True):
    """A page of a list: a JSON array as text, and `after` of the next page, if any."""

    body: str
    next_after: int | None


def unique(
    connection: Connection, statement: Statement, parameters: dict[str, Any]
) -> tuple[Any, ...]:
    """Return the one row of a statement's result; raise NotFoundError without any."""
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


# The filters of each list. Each combination of them is its own statement, with its own
# plan.
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
# The owner is checked by the order, so that PostgreSQL does not choose an index on the
# caller's items.
_OF_ORDER = """i.order_id = CAST(:order AS bigint)
      AND i.id <= CAST(:up_to AS bigint)
      AND CAST(:user_id AS uuid) = (
        SELECT user_id FROM orders WHERE id = CAST(:order AS bigint))"""


@functools.cache
def _page_statement(
    table: str, filters: tuple[str, ...], max_scanned: int
) -> Statement:
    alias, row = ("o", ORDER_JSON) if table == "orders" else ("i", ITEM_JSON)
    columns, values = [f"{alias}.user_id"], ["CAST(:user_id AS uuid)"]
    if "is_approved" in filters:
        columns.append("o.is_approved")
        values.append("CAST(:is_approved AS boolean)")
    # One range of one index, scanned backwards from the id. It is not written as
    # `user_id = …`, because for a caller who owns a fifth of the table PostgreSQL would
    # then scan the primary key, and skip other owners' rows: millions, if that caller
    # has not ordered for long.
    prefix, prefix_values = ", ".join(columns), ", ".join(values)
    condition = f"""({prefix}, {alias}.id) <= ({prefix_values}, CAST(:up_to AS bigint))
      AND ({prefix}) >= ({prefix_values})"""
    if "order" in filters:
        columns, condition = [], _OF_ORDER
    ordering = ", ".join(f"{column} DESC" for column in [*columns, f"{alias}.id"])
    scan = f"FROM {table} {alias} WHERE {condition} ORDER BY {ordering}"
    rows, last_scanned = f"SELECT {alias}.* {scan}", ""
    known = _FILTERS[table]
    if matches := " AND ".join(known[name] for name in filters if name in known):
        # Of a caller's million rows only the oldest may match.
        rows = f"""SELECT {alias}.* FROM ({rows} LIMIT {max_scanned}) {alias}
    WHERE {matches} ORDER BY {ordering}"""  # noqa: S608 fragments of our own
        # The next page starts after the last row scanned, if another follows.
        last_scanned = f"""ELSE (
    SELECT max(id) FROM (
      SELECT {alias}.id {scan} OFFSET {max_scanned} - 1 LIMIT 2) last
    HAVING count(*) = 2) """  # noqa: S608 fragments of our own
    # PostgreSQL builds row after row in this order, and stops at the third one beyond
    # the limit of bytes, since `beyond` only grows. OFFSET 0 keeps it from building one
    # twice. Where there is a next page, there is a row that is not shown.
    return named(
        f"reads.page_of_{table}",
        f"""
WITH page AS (
  SELECT *, n <= CAST(:limit AS int) AND (n = 1 OR beyond = 0) AS is_shown
  FROM (
    SELECT *, row_number() OVER so_far AS n,
      count(*) FILTER (WHERE bytes >= CAST(:max_bytes AS int)) OVER so_far AS beyond
    FROM (
      SELECT *, sum(octet_length(body) + 1) OVER so_far AS bytes
      FROM (
        SELECT {alias}.*, {row} AS body
        FROM (
          {rows}
          LIMIT CAST(:limit AS int) + 1  -- one more, to know if there is a next page
        ) {alias}
        ORDER BY {ordering} OFFSET 0
      ) {alias}
      WINDOW so_far AS (ORDER BY {ordering} ROWS UNBOUNDED PRECEDING)
    ) {alias}
    WINDOW so_far AS (ORDER BY {ordering} ROWS UNBOUNDED PRECEDING)
  ) {alias}
  WHERE beyond < 3
)
SELECT concat('[',
    string_agg(body, ',' ORDER BY {ordering}) FILTER (WHERE is_shown), ']'),
  CASE WHEN NOT bool_and(is_shown)
    THEN min(id) FILTER (WHERE is_shown) {last_scanned}END
FROM page {alias}
""",  # noqa: S608 fragments of our own
    )


def read_page(
    connection: Connection, table: str, user_id: UUID, query: ListQuery
) -> Page:
    """Return a page of the caller's `orders` or `order_items`, newest id first.

    It scans one index range, however deep, and at most MAX_ROWS_SCANNED rows if there
    are filters; so a page may be short, even empty, and still have a next one. It ends
    early, too, before it would weigh more than MAX_PAGE_BYTES.
    """
    statement = _page_statement(table, tuple(sorted(query.filters)), MAX_ROWS_SCANNED)
    parameters = {
        **query.filters,
        "user_id": user_id,
        "limit": query.limit,
        "max_bytes": MAX_PAGE_BYTES,
        "up_to": MAX_ID if query.after is None else query.after - 1,
    }
    return Page(*read(connection, statement, parameters).one())
