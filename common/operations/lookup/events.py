"""Lists of events, pending or sent, in pages."""

import functools
from collections.abc import Sequence

from msgspec import Struct, json, structs

from common.database.engine import Connection, Statement, named
from common.domain.model import MAX_ID
from common.messaging.event_rows import AVAILABLE_AT, EventRow
from common.operations.lookup.find import Count, Page
from common.store.paging import MAX_ROWS_SCANNED

NEWEST = 100_000  # events that a page of a list without an order looks at
PLACES = ("pending", "held", "failed", "sent")

_PENDING = f"""to_jsonb(e) - 'body' || jsonb_build_object('reason', e.last_error,
  'place', CASE WHEN e.held_since IS NULL THEN 'pending' ELSE 'held' END,
  {AVAILABLE_AT.format("e")})"""
_SENT = "to_jsonb(e) - 'body' || jsonb_build_object('place', 'sent')"
_IN_PLACE = {
    "pending": "true",
    "held": "held_since IS NOT NULL",
    "failed": "last_error IS NOT NULL",  # at least once; they are tried again
    "sent": "true",
}
# In steps by the primary key or by an order's index.
_ROWS = """(SELECT * FROM {table}
    WHERE {in_place} AND id {beyond} CAST(:after AS bigint)
    ORDER BY id {direction} LIMIT {newest}) e"""
_ROWS_OF_ORDER = """(SELECT * FROM {table}
    WHERE order_id = CAST(:order_id AS bigint) OFFSET 0) e"""
_FILTERS = """
  (CAST(:type AS text) IS NULL OR e.event_type = CAST(:type AS text))
  AND (CAST(:destination AS text) IS NULL
    OR e.destination = CAST(:destination AS text))"""
_REASON = """
  AND (CAST(:reason AS text) IS NULL OR e.last_error = CAST(:reason AS text))"""


@functools.cache
def _list_statements(
    place: str, *, is_of_order: bool, is_newest_first: bool, newest: int = NEWEST
) -> tuple[Statement, Statement]:
    """Return the statements that list events, and that count them."""
    is_sent = place == "sent"
    table = "sent_events" if is_sent else "outbox"
    direction, beyond = ("DESC", "<") if is_newest_first else ("", ">")
    rows = _ROWS_OF_ORDER if is_of_order else _ROWS
    source = rows.format(
        table=table,
        in_place=_IN_PLACE[place],
        beyond=beyond,
        direction=direction,
        newest=newest,
    )
    condition = _FILTERS + ("" if is_sent else _REASON)
    if is_of_order:
        condition += f" AND {_IN_PLACE[place]} AND e.id {beyond} CAST(:after AS bigint)"
    name = f"{'sent' if is_sent else 'pending'}{'_of_order' if is_of_order else ''}"
    columns = _SENT if is_sent else _PENDING
    last = "min" if is_newest_first else "max"
    end = f"(SELECT CASE WHEN count(*) = {newest} THEN {last}(id) END FROM {source})"  # noqa: S608 fragments of our own
    listing = f"""
WITH page AS MATERIALIZED (
  SELECT {columns} AS row, e.id FROM {source} WHERE {condition}
  ORDER BY e.id {direction} LIMIT CAST(:limit AS int)
)
SELECT CAST((SELECT coalesce(json_agg(row ORDER BY id {direction}), '[]') FROM page)
    AS text),
  CASE WHEN (SELECT count(*) FROM page) = CAST(:limit AS int)
    THEN (SELECT {last}(id) FROM page) ELSE {"NULL" if is_of_order else end} END
"""  # noqa: S608 fragments of our own
    counting = f"""
SELECT count(*) FILTER (WHERE {condition}), count(*) < {MAX_ROWS_SCANNED}
FROM (SELECT * FROM {source} LIMIT {MAX_ROWS_SCANNED}) e
"""  # noqa: S608 fragments of our own
    return named(f"backlog.{name}", listing), named(f"backlog.count_{name}", counting)


for _place in ("pending", "sent"):  # in `STATEMENTS` from the start
    for _is_of_order in (False, True):
        _list_statements(_place, is_of_order=_is_of_order, is_newest_first=True)


class Query(Struct, frozen=True, kw_only=True):
    """Which events to list; `place` is one of PLACES, 'pending' includes the next two.

    `after` is the id of the last one of the page before.
    """

    limit: int
    place: str = "pending"
    order_id: int | None = None
    destination: str | None = None
    event_type: str | None = None
    reason: str | None = None
    after: int | None = None
    is_newest_first: bool | None = None  # None: only sent ones

    @property
    def has_newest_first(self) -> bool:
        """Return whether the newest event comes first."""
        if self.is_newest_first is None:
            return self.place == "sent"
        return self.is_newest_first


def read_page(connection: Connection, query: Query) -> Page:
    """Return the events that `query` asks for.

    Pending ones come oldest first, sent ones newest first, unless the query says
    otherwise. Unless an order is named, they are from among the next 100,000, so a
    short page may have a next.
    """
    statement, _ = _statements(query)
    text, next_after = connection.execute(statement, _parameters(query)).one()
    return Page(json.decode(text, type=list[EventRow]), next_after)


def read_many(connection: Connection, query: Query) -> Sequence[EventRow]:
    """Return the events of a page."""
    return read_page(connection, query).rows


def count(connection: Connection, query: Query) -> Count:
    """Return how many events pass the query, of the first 10,000."""
    whole = structs.replace(query, after=None)
    _, statement = _statements(whole)
    parameters = _parameters(whole)
    del parameters["limit"]
    return Count(*connection.execute(statement, parameters).one())


def _statements(query: Query) -> tuple[Statement, Statement]:
    return _list_statements(
        query.place,
        is_of_order=query.order_id is not None,
        is_newest_first=query.has_newest_first,
    )


def _parameters(query: Query) -> dict[str, object]:
    first = MAX_ID if query.has_newest_first else 0
    parameters: dict[str, object] = {
        "limit": query.limit,
        "destination": query.destination,
        "type": query.event_type,
        "after": first if query.after is None else query.after,
    }
    if query.place != "sent":
        parameters["reason"] = query.reason
    if query.order_id is not None:
        parameters["order_id"] = query.order_id
    return parameters
