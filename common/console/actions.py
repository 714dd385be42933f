"""Operators' actions: the same rules and writes as callers', with a recorded reason.

A shop's rules hold for operators, too: final stays final, because siblings and approval
rely on it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

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
    parse_uuid,
)
from common.errors import InvalidRequestError, PreconditionFailedError
from common.messaging import dead_letters
from common.messaging.pending import Bus
from common.operations import event_log
from common.store.orders import Target, load
from common.store.paging import parse_id, parse_status

MAX_REASON = 500
T = TypeVar("T")

Values = Mapping[str, str]
Decide = Callable[[Snapshot, Values, Actor], Change | None]


@dataclass(frozen=True, kw_only=True)
class Action:
    """Something an operator can do; `values` are what it must be told.

    Either `decide` changes an order, or `run` does something to an event or a letter
    and answers how it ended.
    """

    name: str
    title: str
    warning: str
    values: tuple[str, ...]
    decide: Decide | None = None
    run: Callable[[Engine, Bus, Values], str] | None = None


def check_reason(text: str) -> str:
    """Return the reason without blanks around it; raise InvalidRequestError."""
    reason = text.strip()
    if not 1 <= len(reason) <= MAX_REASON or "\0" in reason:
        raise InvalidRequestError.of("reason", f"1 to {MAX_REASON} characters")
    return reason


# Orders


def _item(values: Values) -> int:
    return read(values, "item", parse_id)


def read(values: Values, name: str, parse: Callable[[str], T]) -> T:
    """Return a value as `parse` reads it; raise InvalidRequestError."""
    try:
        return parse(values[name].strip())
    except ValueError as error:
        raise InvalidRequestError.of(name, str(error)) from error


def _move(snapshot: Snapshot, values: Values, actor: Actor) -> Change | None:
    status = read(values, "status", parse_status)
    return orders.set_status(snapshot, _item(values), status, actor)


def quantity_of(values: Values) -> int:
    """Return the quantity that is asked for; raise InvalidRequestError."""

    def parse(text: str) -> int:
        number = parse_id(text)
        if number > MAX_QUANTITY:
            raise ValueError(f"must be a whole number from 1 to {MAX_QUANTITY}")
        return number

    return read(values, "quantity", parse)


def _set_quantity(snapshot: Snapshot, values: Values, actor: Actor) -> Change | None:
    return orders.set_quantity(snapshot, _item(values), quantity_of(values), actor)


def _remove(snapshot: Snapshot, values: Values, actor: Actor) -> Change:
    return orders.remove_item(snapshot, _item(values), actor)


def _set_metadata(snapshot: Snapshot, values: Values, actor: Actor) -> Change | None:
    key, value = values["key"].strip(), values["value"]
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        raise InvalidRequestError.of("key", f"1 to {MAX_KEY_CHARACTERS} characters")
    if len(value) > MAX_VALUE_CHARACTERS:
        rule = f"at most {MAX_VALUE_CHARACTERS} characters"
        raise InvalidRequestError.of("value", rule)
    return orders.set_metadata(snapshot, {key: value or None}, actor)


def _approve(snapshot: Snapshot, _values: Values, actor: Actor) -> Change | None:
    patch = OrderPatch(is_approved=True)
    return patch_order(snapshot, patch, actor)


def _delete(snapshot: Snapshot, _values: Values, actor: Actor) -> Change:
    return orders.delete_order(snapshot, actor)


# Events and letters


def _event(values: Values) -> UUID:
    found = parse_uuid(values["event"])
    if found is None:
        raise InvalidRequestError.of("event", "must be a UUID")
    return found


def _resend(engine: Engine, _bus: Bus, values: Values) -> str:
    order_id = read(values, "order", parse_id)
    done = event_log.resend(engine, _event(values), order_id, values["destination"])
    return ", ".join(f"{one.destination}: {one.action}" for one in done)


def _confirm(engine: Engine, _bus: Bus, values: Values) -> str:
    order_id = read(values, "order", parse_id)
    done = event_log.confirm(engine, _event(values), order_id, values["destination"])
    return f"{done.destination}: {done.action}"


def _replay(engine: Engine, bus: Bus, values: Values) -> str:
    def take(headers: Mapping[str, str], body: bytes) -> object:
        return approval.take(engine, headers, body, bus)

    letter_id = read(values, "letter", parse_id)
    is_ours = dead_letters.replay(engine, letter_id, take)
    return "replayed" if is_ours else "somebody else was faster"


def _discard(engine: Engine, _bus: Bus, values: Values) -> str:
    is_ours = dead_letters.discard(engine, read(values, "letter", parse_id))
    return "discarded" if is_ours else "somebody else was faster"


_OF_ITEM = ("order", "version", "item")
ACTIONS = {
    action.name: action
    for action in (
        Action(
            name="move-item",
            title="Change an item's status",
            warning="Delivered and Cancelled are final: there is no way back.",
            values=(*_OF_ITEM, "status"),
            decide=_move,
        ),
        Action(
            name="set-quantity",
            title="Change an item's quantity",
            warning="The price stays. Nobody is told of a quantity.",
            values=(*_OF_ITEM, "quantity"),
            decide=_set_quantity,
        ),
        Action(
            name="remove-item",
            title="Remove an item",
            warning="It is gone for good; everybody else sees it Cancelled.",
            values=_OF_ITEM,
            decide=_remove,
        ),
        Action(
            name="set-metadata",
            title="Change metadata",
            warning="An empty value removes the key.",
            values=("order", "version", "key", "value"),
            decide=_set_metadata,
        ),
        Action(
            name="approve",
            title="Approve the order",
            warning="An approved order no longer changes. Analytics is told.",
            values=("order", "version"),
            decide=_approve,
        ),
        Action(
            name="delete-order",
            title="Delete the order",
            warning="It is gone for good, with its items; its history stays.",
            values=("order", "version"),
            decide=_delete,
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
            title="Take a held event for sent",
            warning="Only if you know that it arrived: it is not sent again.",
            values=("order", "event", "destination"),
            run=_confirm,
        ),
        Action(
            name="replay-letter",
            title="Try a dead letter again",
            warning="Consumers may see the same event once more.",
            values=("letter",),
            run=_replay,
        ),
        Action(
            name="discard-letter",
            title="Give a dead letter up",
            warning="Nobody is told of it any more. It stays readable for a while.",
            values=("letter",),
            run=_discard,
        ),
    )
}


def decision(
    action: Action, values: Values, actor: UUID
) -> Callable[[Snapshot], Change | None]:
    """Return what decides on a snapshot: the order must be as the operator saw it."""
    decide, version = action.decide, read(values, "version", parse_id)
    assert decide is not None

    def check(snapshot: Snapshot) -> Change | None:
        if snapshot.version != version:
            raise PreconditionFailedError("The order has changed since you looked.")
        return decide(snapshot, values, Actor(actor, OPERATOR))

    return check


def preview(
    engine: Engine, action: Action, values: Values, actor: UUID
) -> tuple[Snapshot, Change | None]:
    """Return an order and what would become of it; raise what the action would."""
    target = Target(order_id=read(values, "order", parse_id))
    with connect(engine) as connection:
        snapshot = load(connection, target)
    return snapshot, decision(action, values, actor)(snapshot)
