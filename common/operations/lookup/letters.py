"""Lists of dead letters in pages, and how many there are for each reason."""

import functools
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct, structs

from common.database.engine import Connection, Engine, Statement, connect, named
from common.domain.model import MAX_ID
from common.messaging.dead_letters import COLUMNS, Kept
from common.operations.lookup.find import Count, Page
from common.store.paging import MAX_ROWS_SCANNED

_FILTERS = """(CAST(:source AS text) IS NULL OR source = CAST(:source AS text))
  AND (CAST(:destination AS text) IS NULL
    OR destination = CAST(:destination AS text))
  AND (CAST(:reason AS text) IS NULL OR reason = CAST(:reason AS text))"""
# Two conditions, so that the first can use the partial index of open ones.
_STATES = {"open": "settled_as IS NULL", "all": "true"}


@functools.cache
def _list_statement(state: str, *, is_newest_first: bool) -> Statement:
    direction, beyond = ("DESC", "<") if is_newest_first else ("", ">")
    sql = f"""
SELECT {COLUMNS} FROM dead_letters
WHERE {_STATES[state]} AND id {beyond} CAST(:after AS bigint)
  AND id <= CAST(:up_to AS bigint) AND {_FILTERS}
ORDER BY id {direction} LIMIT CAST(:limit AS int)
"""  # noqa: S608 fragments of our own
    return named(f"dead_letters.{state}", sql)


_COUNTS = {
    state: named(
        f"dead_letters.count_{state}",
        f"""
SELECT count(*) FILTER (WHERE {_FILTERS}), count(*) < {MAX_ROWS_SCANNED} FROM (
  SELECT * FROM dead_letters WHERE {condition}
  ORDER BY id LIMIT {MAX_ROWS_SCANNED}) counted
""",  # noqa: S608 fragments of our own
    )
    for state, condition in _STATES.items()
}
for _each in _STATES:  # in `STATEMENTS` from the start
    _list_statement(_each, is_newest_first=False)


class Query(Struct, frozen=True, kw_only=True):
    """Which dead letters to list; `after` is the id of the last one of a page."""

    limit: int
    source: str | None = None
    destination: str | None = None
    reason: str | None = None
    with_settled: bool = False
    after: int | None = None
    up_to: int = MAX_ID
    is_newest_first: bool = False


def read_many(connection: Connection, query: Query) -> list[Kept]:
    """Return dead letters without headers and bodies, oldest first if not asked."""
    statement = _list_statement(_state(query), is_newest_first=query.is_newest_first)
    first = MAX_ID if query.is_newest_first else 0
    parameters = _filters(query) | {
        "limit": query.limit,
        "after": first if query.after is None else query.after,
        "up_to": query.up_to,
    }
    return [Kept(*row) for row in connection.execute(statement, parameters)]


def read_page(connection: Connection, query: Query) -> Page:
    """Return a page of them."""
    found = read_many(connection, query)
    return Page(found, found[-1].id if len(found) == query.limit else None)


def count(connection: Connection, query: Query) -> Count:
    """Return how many there are, of the oldest 10,000."""
    statement = _COUNTS[_state(query)]
    return Count(*connection.execute(statement, _filters(query)).one())


def _state(query: Query) -> str:
    return "all" if query.with_settled else "open"


def _filters(query: Query) -> dict[str, object]:
    names = ("source", "destination", "reason")
    return {name: getattr(query, name) for name in names}


class Group(Struct, frozen=True):
    """Open dead letters with the same reason, up to id `up_to`."""

    source: str
    destination: str | None
    reason: str
    number: int
    since: datetime
    up_to: int


MAX_GROUPS = 20
_GROUPS = named(
    "dead_letters.groups",
    f"""
SELECT source, destination, reason, count(*), min(created_at), max(id) FROM (
  SELECT * FROM dead_letters WHERE settled_as IS NULL
  ORDER BY id LIMIT {MAX_ROWS_SCANNED}) opened
GROUP BY source, destination, reason ORDER BY count(*) DESC, reason LIMIT {MAX_GROUPS}
""",  # noqa: S608 fragments of our own
)


def groups(connection: Connection) -> list[Group]:
    """Return the most frequent reasons of the oldest 10,000 open ones."""
    return [Group(*row) for row in connection.execute(_GROUPS)]


def open_ids(engine: Engine, query: Query | None = None) -> Sequence[int]:
    """Return the ids of all open dead letters that pass the query, oldest first.

    They are read in pages of the query's `limit`.
    """
    query = query or Query(limit=1000)
    ids: list[int] = []
    while True:
        page = structs.replace(query, after=ids[-1] if ids else 0)
        with connect(engine) as connection:
            rows = read_many(connection, page)
        ids += [row.id for row in rows]
        if len(rows) < query.limit:
            return ids
