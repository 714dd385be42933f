"""Lists to take away, as CSV or as lines of JSON, in the memory of one page.

Each page is read by itself: no transaction is held, and what stopped half-way goes on
after the last id that arrived.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct, json, structs

from common.database.engine import Connection, Engine, connect
from common.domain.model import ItemStatus
from common.operations.lookup import actions, events, find, letters
from common.operations.lookup.find import Page
from common.telemetry.printable import printable

FORMATS = ("csv", "ndjson")
PAGE = 500

# Returns the page after an id, None for the first page; and the id it ends at, None
# if there is no further page.
Read = Callable[[Connection, int | None], tuple[Sequence[dict[str, Any]], int | None]]


def stream(
    engine: Engine, read: Read, form: str, resume: int | None = None
) -> Iterator[str]:
    """Yield the text of a list, page by page, after the id in `resume`.

    CSV begins with the columns' names, unless it is resumed.
    """
    after, has_heading = resume, form == "csv" and resume is None
    while True:
        with connect(engine) as connection:
            rows, after = read(connection, after)
        if form == "csv":
            yield _csv(rows, has_heading=has_heading)
            has_heading = has_heading and not rows
        else:
            yield "".join(f"{json.encode(row).decode()}\n" for row in rows)
        if after is None:
            return


def _csv(rows: Sequence[dict[str, Any]], *, has_heading: bool) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    if rows and has_heading:
        writer.writerow(rows[0])
    writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return text.getvalue()


def _cell(value: object) -> str:
    """Return a value as spreadsheets read it; text is never a formula of theirs."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return json.encode(value).decode()
    text = printable(str(value))
    is_formula = isinstance(value, str) and text.startswith(("=", "+", "-", "@"))
    return f"'{text}" if is_formula else text


def orders(filters: dict[str, Any]) -> Read:
    """Return how to read orders, newest first."""
    return _pages(
        lambda connection, after: find.find(
            connection, filters, limit=PAGE, after=after
        ),
        _order,
    )


def _order(order: find.ListedOrder) -> dict[str, Any]:
    numbers = {s.name.lower(): order.statuses.get(s, 0) for s in ItemStatus}
    return {
        "id": order.id,
        "user_id": order.user_id,
        "created_at": order.created_at,
        "is_approved": order.is_approved,
        "total_minor": order.total_minor,
        **numbers,
        "metadata": order.metadata,
    }


def pending_or_sent(query: events.Query) -> Read:
    """Return how to read events, without bodies."""
    return _pages(
        lambda connection, after: events.read_page(
            connection, structs.replace(query, limit=PAGE, after=after)
        )
    )


def dead_letters(query: letters.Query) -> Read:
    """Return how to read dead letters, without headers and bodies."""
    return _pages(
        lambda connection, after: letters.read_page(
            connection, structs.replace(query, limit=PAGE, after=after)
        )
    )


def operator_actions(query: actions.Query) -> Read:
    """Return how to read what operators did, newest first."""
    return _pages(
        lambda connection, after: actions.read_page(
            connection, structs.replace(query, limit=PAGE, after=after)
        )
    )


def _row(each: Struct) -> dict[str, Any]:
    row = structs.asdict(each)
    for name in ("headers", "body"):
        row.pop(name, None)
    return {"id": row.pop("id"), **row}


def _pages(
    read_page: Callable[[Connection, int | None], Page],
    to_row: Callable[[Any], dict[str, Any]] = _row,
) -> Read:
    """Return how to read a list whose page after an id `read_page` returns."""

    def read(
        connection: Connection, after: int | None
    ) -> tuple[Sequence[dict[str, Any]], int | None]:
        page = read_page(connection, after)
        return [to_row(each) for each in page.rows], page.next_after

    return read
