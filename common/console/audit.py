"""Do each operator's action once, and record it in `operator_actions`.

A form that is sent twice returns the first result. A change of an order and its entry
are one transaction.
"""

from collections.abc import Mapping
from uuid import UUID

from msgspec import Struct

from common.console.actions import Action, Added, Values, decide, read, target
from common.database.engine import Connection, Engine, connect, transaction
from common.domain.model import Change, Snapshot
from common.errors import ServiceError
from common.messaging import outbox
from common.messaging.pending import Bus
from common.operations.lookup import actions as log
from common.operations.lookup.actions import NewAction
from common.store import orders
from common.store.paging import parse_id


class SentForm(Struct, frozen=True, kw_only=True):
    """A form that an operator sent: who, why, and the action's values."""

    form_id: UUID
    operator: str
    operator_id: UUID
    reason: str
    values: Mapping[str, str]


def is_new(engine: Engine, form_id: UUID) -> bool:
    """Return whether a form has not been sent before."""
    with connect(engine) as connection:
        return log.earlier(connection, form_id) is None


def perform(
    engine: Engine,
    bus: Bus,
    action: Action,
    form: SentForm,
    added: Added | None = None,
) -> int:
    """Do the action once; return the id of its entry, the first one's if sent again.

    Raise what the rules raise. A refused change of an order leaves no entry; a refused
    action on an event or a dead letter is recorded as refused.
    """
    if action.rule is not None:
        return _change_order(engine, bus, action, form, added)
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


def _change_order(
    engine: Engine, bus: Bus, action: Action, form: SentForm, added: Added | None
) -> int:
    def rule(snapshot: Snapshot) -> Change | None:
        return decide(action, form.values, form.operator_id, snapshot, added)

    order = target(form.values)
    with transaction(engine) as connection:
        id_, is_new = _begin(connection, action, form)
        if is_new:
            changed = orders.change_locked(connection, order, rule, bus)
            outcome = "nothing to do" if changed.change is None else "done"
            log.end(connection, id_, outcome)
            connection.execute(outbox.NOTIFY)  # a relay that listens sends at once
    return id_


def _begin(connection: Connection, action: Action, form: SentForm) -> tuple[int, bool]:
    """Record the action; return its entry's id, and whether the entry is new."""
    has_order = "order" in form.values
    new = NewAction(
        action=action.name,
        reason=form.reason,
        given=form.values,
        operator=form.operator,
        order_id=read(form.values, "order", parse_id) if has_order else None,
        form_id=form.form_id,
    )
    return log.begin(connection, new)


def _end(engine: Engine, id_: int, outcome: str, values: Values) -> None:
    with connect(engine) as connection:
        log.end(connection, id_, outcome, values.get("letter"))
