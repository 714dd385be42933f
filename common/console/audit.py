"""Do each operator's action once, and record it in `operator_actions`.

A form that is sent twice returns the first result. A change of an order and its entry
are one transaction.
"""

from collections.abc import Mapping
from uuid import UUID

from msgspec import Struct

from common.console.actions import Action, Values, decide, read, target
from common.database.engine import Connection, Engine, connect, named, transaction
from common.domain.model import Change, Snapshot
from common.errors import ServiceError
from common.json import encode
from common.messaging import outbox
from common.messaging.pending import Bus
from common.store import orders
from common.store.paging import parse_id
from common.telemetry import logs


class SentForm(Struct, frozen=True, kw_only=True):
    """A form that an operator sent: who, why, and the action's values."""

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
        parameters = {"form_id": str(form_id)}
        return connection.execute(_EARLIER, parameters).one_or_none() is None


def perform(engine: Engine, bus: Bus, action: Action, form: SentForm) -> int:
    """Do the action once; return the id of its entry, the first one's if sent again.

    Raise what the rules raise. A refused change of an order leaves no entry; a refused
    action on an event or a dead letter is recorded as refused.
    """
    if action.rule is not None:
        return _change_order(engine, bus, action, form)
    run = action.run
    assert run is not None
    with connect(engine) as connection:
        id_, is_new = _begin(connection, action, form)
    if not is_new:
        return id_
    try:
        outcome = run(engine, bus, form.values)
    except ServiceError as error:
        _end(engine, id_, f"refused: {error.detail}", form.values)
        raise
    _end(engine, id_, outcome, form.values)
    return id_


def _change_order(engine: Engine, bus: Bus, action: Action, form: SentForm) -> int:
    def rule(snapshot: Snapshot) -> Change | None:
        return decide(action, form.values, form.operator_id, snapshot)

    order = target(form.values)
    with transaction(engine) as connection:
        id_, is_new = _begin(connection, action, form)
        if is_new:
            changed = orders.change_locked(connection, order, rule, bus)
            outcome = "nothing to do" if changed.change is None else "done"
            connection.execute(_END, {"id": id_, "outcome": outcome, "letter": None})
            connection.execute(outbox.NOTIFY)  # a relay that listens sends at once
    return id_


def _begin(connection: Connection, action: Action, form: SentForm) -> tuple[int, bool]:
    """Record the action; return its entry's id, and whether the entry is new."""
    context = logs.current()
    has_order = "order" in form.values
    parameters = {
        "form_id": str(form.form_id),
        "operator": form.operator,
        "action": action.name,
        "order_id": read(form.values, "order", parse_id) if has_order else None,
        "given": encode(form.values),
        "reason": form.reason,
        "request_id": context.request_id if context else None,
    }
    if row := connection.execute(_BEGIN, parameters).one_or_none():
        return row[0], True
    earlier = connection.execute(_EARLIER, {"form_id": str(form.form_id)})
    return earlier.scalar_one(), False


def _end(engine: Engine, id_: int, outcome: str, values: Values) -> None:
    parameters = {"id": id_, "outcome": outcome, "letter": values.get("letter")}
    with connect(engine) as connection:
        connection.execute(_END, parameters)
