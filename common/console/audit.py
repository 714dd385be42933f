"""Do each operator's action once, and record it in `operator_actions`.

Sending a form twice returns the first result; a change of an order and its entry are
one transaction.
"""

from collections.abc import Mapping
from uuid import UUID

from msgspec import Struct

from common.console.actions import Action, Values, decision, read
from common.database.engine import Connection, Engine, connect, named, transaction
from common.errors import ServiceError
from common.json import encode
from common.messaging import outbox
from common.messaging.pending import Bus
from common.store import orders
from common.store.orders import Target
from common.store.paging import parse_id
from common.telemetry import logs


class Asked(Struct, frozen=True, kw_only=True):
    """What an operator asked for, with the form it came on."""

    form_id: UUID
    operator: str
    operator_id: UUID
    reason: str
    values: Mapping[str, str]


_BEGIN = named(
    "console.begin",
    """
INSERT INTO operator_actions
  (form_id, operator, action, order_id, given, reason, request_id)
VALUES (CAST(:form_id AS uuid), CAST(:operator AS text), CAST(:action AS text),
  CAST(:order_id AS bigint), CAST(:given AS jsonb), CAST(:reason AS text),
  CAST(:request_id AS text))
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


def is_new(engine: Engine, form_id: UUID) -> bool:
    """Return whether a form has not been sent before."""
    with connect(engine) as connection:
        given = {"form_id": str(form_id)}
        return connection.execute(_EARLIER, given).one_or_none() is None


def perform(engine: Engine, bus: Bus, action: Action, asked: Asked) -> int:
    """Do it, once; return the id of its entry, an earlier one for a form sent again.

    Raise what the rules do. Of an order nothing is written then; of a letter or an
    event, that it was tried in vain.
    """
    if action.decide is not None:
        return _change_order(engine, bus, action, asked)
    run = action.run
    assert run is not None
    with connect(engine) as connection:
        id_, is_new = _begin(connection, action, asked)
    if not is_new:
        return id_
    try:
        outcome = run(engine, bus, asked.values)
    except ServiceError as error:
        _end(engine, id_, f"refused: {error.detail}", asked.values)
        raise
    _end(engine, id_, outcome, asked.values)
    return id_


def _change_order(engine: Engine, bus: Bus, action: Action, asked: Asked) -> int:
    target = Target(order_id=read(asked.values, "order", parse_id))
    decide = decision(action, asked.values, asked.operator_id)
    with transaction(engine) as connection:
        id_, is_new = _begin(connection, action, asked)
        if is_new:
            done = orders.change_locked(connection, target, decide, bus)
            outcome = "nothing to do" if done.change is None else "done"
            connection.execute(_END, {"id": id_, "outcome": outcome, "letter": None})
            connection.execute(outbox.NOTIFY)  # a relay that listens sends at once
    return id_


def _begin(connection: Connection, action: Action, asked: Asked) -> tuple[int, bool]:
    """Return the entry's id and True, or the one that this form has and False."""
    context = logs.current()
    order = asked.values.get("order")
    parameters = {
        "form_id": str(asked.form_id),
        "operator": asked.operator,
        "action": action.name,
        "order_id": None if order is None else read(asked.values, "order", parse_id),
        "given": encode(asked.values),
        "reason": asked.reason,
        "request_id": context.request_id if context else None,
    }
    if row := connection.execute(_BEGIN, parameters).one_or_none():
        return row[0], True
    return connection.execute(
        _EARLIER, {"form_id": str(asked.form_id)}
    ).scalar_one(), False


def _end(engine: Engine, id_: int, outcome: str, values: Values) -> None:
    letter = values.get("letter")
    parameters = {"id": id_, "outcome": outcome, "letter": letter}
    with connect(engine) as connection:
        connection.execute(_END, parameters)
