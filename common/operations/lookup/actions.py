"""What operators did, in the console or with `orderctl`, and why: one log for both."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from msgspec import Struct

from common.database.engine import Connection, Engine, connect, named
from common.domain.model import MAX_ID
from common.errors import ServiceError
from common.json import encode
from common.operations.lookup.find import Count, Page
from common.store.paging import MAX_ROWS_SCANNED
from common.telemetry import logs


class RecordedAction(Struct, frozen=True):
    """An entry of `operator_actions`; `given` has the action's values."""

    id: int
    at: datetime
    operator: str
    action: str
    order_id: int | None
    given: dict[str, Any]
    reason: str
    request_id: str | None
    outcome: str


class NewAction(Struct, frozen=True, kw_only=True):
    """An action to record; without an `operator` it is the database's login."""

    action: str
    reason: str
    given: Mapping[str, Any]
    operator: str | None = None
    order_id: int | None = None
    form_id: UUID | None = None  # of the console's form, which counts once


_BEGIN = named(
    "console.begin",
    """
INSERT INTO operator_actions
  (form_id, operator, action, order_id, given, reason, request_id)
VALUES (CAST(:form_id AS uuid), coalesce(CAST(:operator AS text), current_user),
  CAST(:action AS text), CAST(:order_id AS bigint), CAST(:given AS jsonb),
  CAST(:reason AS text), CAST(:request_id AS text))
ON CONFLICT (form_id) DO NOTHING
RETURNING id
""",
)
_EARLIER = named(
    "console.earlier",
    "SELECT id FROM operator_actions WHERE form_id = CAST(:form_id AS uuid)",
)
_END = named(
    "console.end",
    """
UPDATE operator_actions SET outcome = CAST(:outcome AS text),
  order_id = coalesce(order_id, (SELECT l.order_id FROM dead_letters l
    WHERE l.id = CAST(:letter AS bigint)))
WHERE id = CAST(:id AS bigint)
""",
)


def earlier(connection: Connection, form_id: UUID) -> int | None:
    """Return the entry of a form that was sent before."""
    parameters = {"form_id": str(form_id)}
    return connection.execute(_EARLIER, parameters).scalar_one_or_none()


def begin(connection: Connection, new: NewAction) -> tuple[int, bool]:
    """Record an action; return its entry's id, and whether the entry is new."""
    context = logs.current()
    form_id = new.form_id or uuid4()
    parameters = {
        "form_id": str(form_id),
        "operator": new.operator,
        "action": new.action,
        "order_id": new.order_id,
        "given": encode(new.given),
        "reason": new.reason,
        "request_id": context.request_id if context else None,
    }
    if row := connection.execute(_BEGIN, parameters).one_or_none():
        return row[0], True
    known = earlier(connection, form_id)
    assert known is not None, "it is what the new one conflicts with"
    return known, False


def end(
    connection: Connection, id_: int, outcome: str, letter: int | str | None = None
) -> None:
    """Record how an action ended; it is about the order of dead letter `letter`."""
    parameters = {"id": id_, "outcome": outcome, "letter": letter}
    connection.execute(_END, parameters)


class Outcome:
    """What an action that is recorded says of its end."""

    text = "done"


@contextmanager
def recorded(
    engine: Engine, new: NewAction, letter: int | None = None
) -> Iterator[Outcome]:
    """Record an action, and how it ended; what is refused is recorded as refused."""
    with connect(engine) as connection:
        id_, _ = begin(connection, new)
    outcome = Outcome()
    try:
        yield outcome
    except ServiceError as error:
        _end(engine, id_, f"refused: {error.detail}", letter)
        raise
    _end(engine, id_, outcome.text, letter)


def _end(engine: Engine, id_: int, outcome: str, letter: int | None) -> None:
    with connect(engine) as connection:
        end(connection, id_, outcome, letter)


_COLUMNS = ", ".join(RecordedAction.__struct_fields__)
_LISTED = 200  # actions of one order
_OF_ORDER = named(
    "console.actions_of_order",
    f"""
SELECT {_COLUMNS} FROM operator_actions WHERE order_id = CAST(:order_id AS bigint)
ORDER BY id DESC LIMIT {_LISTED}
""",  # noqa: S608 fragments of our own
)
# There are few actions, so that a filter may look at all of them.
_CONDITION = """
id <= CAST(:up_to AS bigint)
  AND (CAST(:operator AS text) IS NULL OR operator = CAST(:operator AS text))
  AND (CAST(:action AS text) IS NULL OR action = CAST(:action AS text))
  AND (CAST(:order_id AS bigint) IS NULL OR order_id = CAST(:order_id AS bigint))"""
_ACTIONS = named(
    "console.actions",
    f"""
SELECT {_COLUMNS} FROM operator_actions WHERE {_CONDITION}
ORDER BY id DESC LIMIT CAST(:limit AS int)
""",  # noqa: S608 fragments of our own
)
_COUNT = named(
    "console.count_actions",
    f"""
SELECT count(*) FILTER (WHERE {_CONDITION}), count(*) < {MAX_ROWS_SCANNED} FROM (
  SELECT * FROM operator_actions ORDER BY id DESC LIMIT {MAX_ROWS_SCANNED}) newest
""",  # noqa: S608 fragments of our own
)


class Query(Struct, frozen=True, kw_only=True):
    """Which actions to list: by whom, of which kind, on which order.

    `after` is the id of the last one of the page before.
    """

    limit: int
    operator: str | None = None
    action: str | None = None
    order_id: int | None = None
    after: int | None = None


def read_of_order(connection: Connection, order_id: int) -> list[RecordedAction]:
    """Return the newest 200 actions on an order, oldest first."""
    rows = connection.execute(_OF_ORDER, {"order_id": order_id})
    return [RecordedAction(*row) for row in rows][::-1]


def read_page(connection: Connection, query: Query) -> Page:
    """Return the actions that `query` asks for, newest first."""
    parameters = _parameters(query, query.after) | {"limit": query.limit}
    found = [RecordedAction(*row) for row in connection.execute(_ACTIONS, parameters)]
    return Page(found, found[-1].id if len(found) == query.limit else None)


def count(connection: Connection, query: Query) -> Count:
    """Return how many pass the query, of the newest 10,000."""
    return Count(*connection.execute(_COUNT, _parameters(query, None)).one())


def _parameters(query: Query, after: int | None) -> dict[str, object]:
    return {
        "up_to": MAX_ID if after is None else after - 1,
        "operator": query.operator,
        "action": query.action,
        "order_id": query.order_id,
    }
