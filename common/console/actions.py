"""Operators' actions: the same rules and writes as callers', with a recorded reason.

The rules for shops hold for operators, too: a final status stays final, because
siblings and approval rely on it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from werkzeug.datastructures import MultiDict

from common import approval
from common.database.engine import Engine, connect
from common.domain import orders
from common.domain.approval import patch_order
from common.domain.commands import (
    MAX_KEY_CHARACTERS,
    MAX_VALUE_CHARACTERS,
    OrderPatch,
)
from common.domain.model import (
    MAX_QUANTITY,
    OPERATOR,
    Actor,
    Change,
    Snapshot,
)
from common.errors import InvalidRequestError
from common.messaging import dead_letters
from common.messaging.pending import Bus
from common.operations import event_log
from common.store.orders import Target, load
from common.store.paging import parse_id, parse_status, parse_text, parse_uuid_filter

MAX_REASON = 500
T = TypeVar("T")

Values = Mapping[str, str]
Rule = Callable[[Snapshot, Values, Actor], Change | None]


@dataclass(frozen=True, kw_only=True)
class Action:
    """Something an operator can do; `values` names the values that it needs.

    Either `rule` decides on a change of an order, or `run` does something to an event
    or a dead letter and returns the outcome.
    """

    name: str
    title: str
    warning: str
    values: tuple[str, ...]
    rule: Rule | None = None
    run: Callable[[Engine, Bus, Values], str] | None = None


def check_reason(text: str) -> str:
    """Return the reason, stripped; raise InvalidRequestError."""
    reason = text.strip()
    if not 1 <= len(reason) <= MAX_REASON or "\0" in reason:
        raise InvalidRequestError.of("reason", f"must be 1 to {MAX_REASON} characters")
    return reason


def target(values: Values) -> Target:
    """Return the order that an action changes, in the version that the operator saw."""
    return Target(
        order_id=read(values, "order", parse_id),
        versions=(read(values, "version", parse_id),),
    )


def decide(
    action: Action, values: Values, operator_id: UUID, snapshot: Snapshot
) -> Change | None:
    """Return what the action changes in the order; raise what its rule raises."""
    assert action.rule is not None
    return action.rule(snapshot, values, Actor(operator_id, OPERATOR))


def preview(
    engine: Engine, action: Action, values: Values, operator_id: UUID
) -> tuple[Snapshot, Change | None]:
    """Return an order and what the action would change in it; raise what it would."""
    order = target(values)
    with connect(engine) as connection:
        snapshot = load(connection, order)
    order.check(snapshot)
    return snapshot, decide(action, values, operator_id, snapshot)


def take_values(action: Action, arguments: MultiDict[str, str]) -> dict[str, str]:
    """Return the action's values from a query or a form, each of them checked.

    Raise InvalidRequestError naming every one that is missing or malformed.
    """
    values: dict[str, str] = {}
    errors: dict[str, list[str]] = {}
    for name in action.values:
        given = arguments.getlist(name)
        if len(given) != 1:
            errors[name] = ["must be given once" if given else "is required"]
            continue
        values[name] = given[0].strip()
        try:
            _PARSERS[name](values[name])
        except ValueError as error:
            errors[name] = [str(error)]
    if errors:
        raise InvalidRequestError.of_all(errors)
    return values


def read(values: Values, name: str, parse: Callable[[str], T]) -> T:
    """Return a value as `parse` reads it; raise InvalidRequestError."""
    try:
        return parse(values[name].strip())
    except ValueError as error:
        raise InvalidRequestError.of(name, str(error)) from error


def read_quantity(values: Values) -> int:
    """Return the quantity asked for; raise InvalidRequestError."""
    return read(values, "quantity", _parse_quantity)


def _parse_quantity(text: str) -> int:
    number = parse_id(text)
    if number > MAX_QUANTITY:
        raise ValueError(f"must be a whole number from 1 to {MAX_QUANTITY}")
    return number


def _parse_key(text: str) -> str:
    if not 1 <= len(text) <= MAX_KEY_CHARACTERS:
        raise ValueError(f"must be 1 to {MAX_KEY_CHARACTERS} characters")
    return parse_text(text)


def _parse_value(text: str) -> str:
    if len(text) > MAX_VALUE_CHARACTERS:
        raise ValueError(f"must be at most {MAX_VALUE_CHARACTERS} characters")
    return parse_text(text)


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "order": parse_id,
    "version": parse_id,
    "item": parse_id,
    "status": parse_status,
    "quantity": _parse_quantity,
    "key": _parse_key,
    "value": _parse_value,
    "event": parse_uuid_filter,
    "destination": parse_text,
    "letter": parse_id,
}


# Orders


def _item(values: Values) -> int:
    return read(values, "item", parse_id)


def _set_status(snapshot: Snapshot, values: Values, actor: Actor) -> Change | None:
    status = read(values, "status", parse_status)
    return orders.set_status(snapshot, _item(values), status, actor)


def _set_quantity(snapshot: Snapshot, values: Values, actor: Actor) -> Change | None:
    return orders.set_quantity(snapshot, _item(values), read_quantity(values), actor)


def _remove(snapshot: Snapshot, values: Values, actor: Actor) -> Change:
    return orders.remove_item(snapshot, _item(values), actor)


def _set_metadata(snapshot: Snapshot, values: Values, actor: Actor) -> Change | None:
    key = read(values, "key", _parse_key)
    value = read(values, "value", _parse_value)
    return orders.set_metadata(snapshot, {key: value or None}, actor)


def _approve(snapshot: Snapshot, _values: Values, actor: Actor) -> Change | None:
    return patch_order(snapshot, OrderPatch(is_approved=True), actor)


def _delete(snapshot: Snapshot, _values: Values, actor: Actor) -> Change:
    return orders.delete_order(snapshot, actor)


# Events and dead letters


def _event(values: Values) -> UUID:
    return UUID(read(values, "event", parse_uuid_filter))


def _resend(engine: Engine, _bus: Bus, values: Values) -> str:
    order_id = read(values, "order", parse_id)
    done = event_log.resend(engine, _event(values), order_id, values["destination"])
    return ", ".join(f"{one.destination}: {one.action}" for one in done)


def _confirm(engine: Engine, _bus: Bus, values: Values) -> str:
    order_id = read(values, "order", parse_id)
    done = event_log.confirm(engine, _event(values), order_id, values["destination"])
    return f"{done.destination}: {done.action}"


_ALREADY_SETTLED = "another operator was faster"


def _replay(engine: Engine, bus: Bus, values: Values) -> str:
    def take(headers: Mapping[str, str], body: bytes) -> object:
        return approval.take(engine, headers, body, bus)

    dead_letter_id = read(values, "letter", parse_id)
    is_replayed = dead_letters.replay(engine, dead_letter_id, take)
    return "replayed" if is_replayed else _ALREADY_SETTLED


def _discard(engine: Engine, _bus: Bus, values: Values) -> str:
    is_discarded = dead_letters.discard(engine, read(values, "letter", parse_id))
    return "discarded" if is_discarded else _ALREADY_SETTLED


_OF_ITEM = ("order", "version", "item")
ACTIONS = {
    action.name: action
    for action in (
        Action(
            name="move-item",
            title="Change an item's status",
            warning="Delivered and Cancelled are final: they cannot be undone.",
            values=(*_OF_ITEM, "status"),
            rule=_set_status,
        ),
        Action(
            name="set-quantity",
            title="Change an item's quantity",
            warning="The price stays. More lowers the stock; less does not raise it.",
            values=(*_OF_ITEM, "quantity"),
            rule=_set_quantity,
        ),
        Action(
            name="remove-item",
            title="Remove an item",
            warning="It is removed for good; other services see it as Cancelled.",
            values=_OF_ITEM,
            rule=_remove,
        ),
        Action(
            name="set-metadata",
            title="Change metadata",
            warning="An empty value removes the key.",
            values=("order", "version", "key", "value"),
            rule=_set_metadata,
        ),
        Action(
            name="approve",
            title="Approve the order",
            warning="An approved order no longer changes. Analytics is notified.",
            values=("order", "version"),
            rule=_approve,
        ),
        Action(
            name="delete-order",
            title="Delete the order",
            warning="It is deleted for good, with its items; its history stays.",
            values=("order", "version"),
            rule=_delete,
        ),
        Action(
            name="resend-event",
            title="Send an event again",
            warning="Consumers may count it twice: product lowers its stock again.",
            values=("order", "event", "destination"),
            run=_resend,
        ),
        Action(
            name="confirm-event",
            title="Record a held event as sent",
            warning="Only if you know that it arrived: it is not sent again.",
            values=("order", "event", "destination"),
            run=_confirm,
        ),
        Action(
            name="replay-letter",
            title="Replay a dead letter",
            warning="Consumers may see the same event once more.",
            values=("letter",),
            run=_replay,
        ),
        Action(
            name="discard-letter",
            title="Discard a dead letter",
            warning="It is not sent any more. It stays readable for a while.",
            values=("letter",),
            run=_discard,
        ),
    )
}
