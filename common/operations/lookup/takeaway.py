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

    def read(
        connection: Connection, after: int | None
    ) -> tuple[Sequence[dict[str, Any]], int | None]:
        page = find.find(connection, filters, limit=PAGE, after=after)
        return [_order(order) for order in page.orders], page.next_after

    return read


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

    def read(
        connection: Connection, after: int | None
    ) -> tuple[Sequence[dict[str, Any]], int | None]:
        asked = structs.replace(query, limit=PAGE, after=after)
        page = events.read_page(connection, asked)
        return [_row(each, ("body",)) for each in page.rows], page.next_after

    return read


def dead_letters(query: letters.Query) -> Read:
    """Return how to read dead letters, without headers and bodies."""
    return _structs(
        lambda connection, after: letters.read_many(
            connection, structs.replace(query, limit=PAGE, after=after)
        ),
        without=("headers", "body"),
    )


def operator_actions(chosen: actions.Filter) -> Read:
    """Return how to read what operators did, newest first."""
    return _structs(
        lambda connection, after: actions.read_many(
            connection, chosen, limit=PAGE, **({"up_to": after - 1} if after else {})
        )
    )


def _structs(
    read_page: Callable[[Connection, int | None], Sequence[Any]],
    without: tuple[str, ...] = (),
) -> Read:
    """Return how to read a list whose pages are full until it ends."""

    def read(
        connection: Connection, after: int | None
    ) -> tuple[Sequence[dict[str, Any]], int | None]:
        found: Sequence[Struct] = read_page(connection, after)
        rows = [_row(each, without) for each in found]
        return rows, rows[-1]["id"] if len(rows) == PAGE else None

    return read


def _row(each: Struct, without: tuple[str, ...]) -> dict[str, Any]:
    row = structs.asdict(each)
    for name in without:
        del row[name]
    return {"id": row.pop("id"), **row}
