"""What an operator's action is: its values, each checked, and what it does with them.

The actions themselves are in `catalogue.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from msgspec import Struct
from werkzeug.datastructures import MultiDict

from common.database.engine import Engine, connect
from common.domain.commands import MAX_KEY_CHARACTERS, MAX_VALUE_CHARACTERS
from common.domain.model import (
    MAX_ID,
    MAX_QUANTITY,
    OPERATOR,
    Actor,
    Change,
    Item,
    ItemStatus,
    Snapshot,
)
from common.errors import InvalidRequestError
from common.messaging import dead_letters
from common.messaging.pending import Bus
from common.store.orders import Target, load
from common.store.paging import parse_id, parse_status, parse_text, parse_uuid_filter

MAX_REASON = 500
T = TypeVar("T")

Values = Mapping[str, str]


class Added(Struct, frozen=True):
    """An item that an action adds, as the product service has it."""

    item: Item
    title: str | None


Rule = Callable[[Snapshot, Values, Actor, Added | None], Change | None]


@dataclass(frozen=True, kw_only=True)
class Action:
    """Something an operator can do; `values` names the values that it needs.

    `title` is a format with these values. Either `rule` decides on a change of an
    order, or `run` does something to events or dead letters and returns the outcome.
    """

    name: str
    title: str
    warning: str
    values: tuple[str, ...]
    rule: Rule | None = None
    run: Callable[[Engine, Bus, Values], str] | None = None


# What the operator enters; the other values are those of the page before.
ENTERED = ("variation", "quantity", "key", "value")


class _Known(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "?"


_STATUS_TITLES = {  # by the value of `status`
    str(int(ItemStatus.PROCESSING)): "Set item {item} back to Processing",
    str(int(ItemStatus.SHIPPED)): "Mark item {item} as shipped",
    str(int(ItemStatus.DELIVERED)): "Mark item {item} as delivered",
    str(int(ItemStatus.CANCELLED)): "Cancel item {item}",
}


def title(action: Action, values: Values) -> str:
    """Return what an action does with these values, as its button says it."""
    text = action.title
    if action.name == "move-item":
        text = _STATUS_TITLES.get(values.get("status", ""), text)
    return text.format_map(_Known(values))


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
    action: Action,
    values: Values,
    operator_id: UUID,
    snapshot: Snapshot,
    added: Added | None = None,
) -> Change | None:
    """Return what the action changes in the order; raise what its rule raises."""
    assert action.rule is not None
    return action.rule(snapshot, values, Actor(operator_id, OPERATOR), added)


def read_order(engine: Engine, values: Values) -> Snapshot:
    """Return the order that an action is about; raise what its change would raise."""
    order = target(values)
    with connect(engine) as connection:
        snapshot = load(connection, order)
    order.check(snapshot)
    return snapshot


def at_current_version(engine: Engine, values: Values) -> dict[str, str]:
    """Return the values for the order as it is now; raise NotFoundError."""
    with connect(engine) as connection:
        order = Target(order_id=read(values, "order", parse_id))
        version = load(connection, order).version
    return {**values, "version": str(version)}


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
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(MAX_ID))
    if not is_number or not 1 <= int(text) <= MAX_QUANTITY:
        raise ValueError(f"must be a whole number from 1 to {MAX_QUANTITY}")
    return int(text)


def parse_key(text: str) -> str:
    """Return a key of metadata."""
    if not 1 <= len(text) <= MAX_KEY_CHARACTERS:
        raise ValueError(f"must be 1 to {MAX_KEY_CHARACTERS} characters")
    return parse_text(text)


def parse_value(text: str) -> str:
    """Return a value of metadata."""
    if len(text) > MAX_VALUE_CHARACTERS:
        raise ValueError(f"must be at most {MAX_VALUE_CHARACTERS} characters")
    return parse_text(text)


def _parse_source(text: str) -> str:
    if text not in dead_letters.SOURCES:
        raise ValueError(f"must be {' or '.join(dead_letters.SOURCES)}")
    return text


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "order": parse_id,
    "version": parse_id,
    "item": parse_id,
    "status": parse_status,
    "quantity": _parse_quantity,
    "variation": parse_uuid_filter,
    "key": parse_key,
    "value": parse_value,
    "event": parse_uuid_filter,
    "destination": parse_text,
    "letter": parse_id,
    "source": _parse_source,
    "cause": parse_text,
    "up_to": parse_id,
}
