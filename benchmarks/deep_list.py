"""Find or fill one caller's long list of orders, and read its pages far down.

With DATABASE_URL set, the longest list there is read and nothing is written.
"""

import contextlib
import os
import re
import uuid
from typing import Self
from urllib.parse import urlsplit

from werkzeug.datastructures import MultiDict

from benchmarks.traffic import Operation, insert_orders, repeated, request
from common.store import paging
from tests.support import database

SHORT_LIST = 20_000
DEEPEST = 1_000_000
PAGE = 50
PAGES = 20  # far down, one after the other


class DeepList:
    """The list; use it in a `with` block."""

    server = "orders_crud, long list"

    def __init__(self, url: str) -> None:
        """Use DATABASE_URL, or else `url`, the run's own database."""
        self.database_url = os.environ.get("DATABASE_URL") or url
        self._is_ours = self.database_url == url
        self._owner = ""
        self._cursors: list[str] = []
        self.remark = ""

    def __enter__(self) -> Self:
        """Find or fill the list."""
        with contextlib.closing(database.connect(self.database_url)) as connection:
            if self._is_ours:
                insert_orders(connection, str(uuid.uuid4()), SHORT_LIST)
                connection.run("VACUUM ANALYZE orders, order_items")
            [[self._owner, count]] = connection.run(
                "SELECT CAST(user_id AS text), count(*) FROM orders"
                " GROUP BY user_id ORDER BY 2 DESC LIMIT 1"
            )
            deep = min(DEEPEST, count - PAGE * (PAGES + 1))
            ids = connection.run(
                "SELECT id FROM orders WHERE user_id = CAST(:owner AS uuid)"
                " ORDER BY id DESC OFFSET :deep LIMIT :many",
                owner=self._owner,
                deep=max(0, deep),
                many=PAGE * PAGES,
            )
            [[total]] = connection.run("SELECT count(*) FROM orders")
        self._cursors = [_cursor(row[0]) for row in ids[::PAGE]]
        location = (
            "a table of this run"
            if self._is_ours
            else urlsplit(self.database_url).path.lstrip("/")
        )
        self.remark = (
            f"pages far down: order {deep:,} of {count:,} of one caller, in {location}"
            f" with {total:,} orders"
        )
        return self

    def __exit__(self, *_error: object) -> None:
        """Do nothing: the run's database is dropped as a whole."""

    def first_page(self) -> Operation:
        """Return the first page's reads."""
        found = [request("GET", "/api/orders/", self._owner)]
        return repeated("first page", self.server, found)

    def far_down(self) -> Operation:
        """Return reads of pages far down."""
        found = [
            request("GET", f"/api/orders/?cursor={cursor}", self._owner)
            for cursor in self._cursors
        ]
        return repeated("page far down", self.server, found)


def _cursor(order_id: int) -> str:
    """Return the cursor of the page after an order, as the service writes it."""
    link = paging.next_link("/", paging.parse_query(MultiDict(), {}), order_id)
    found = re.search(r"cursor=([^>&]+)", link)
    assert found
    return found[1]
