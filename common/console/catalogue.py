"""All of the operators' actions: the same rules and writes as callers'.

The rules for shops hold for operators, too: a final status stays final, because
siblings and approval rely on it.
"""

from collections.abc import Mapping
from uuid import UUID

from common import approval
from common.console.actions import (
    Action,
    Added,
    Values,
    parse_key,
    parse_value,
    read,
    read_quantity,
    title,
)
from common.database.engine import Engine
from common.domain import orders
from common.domain.approval import patch_order
from common.domain.commands import OrderPatch
from common.domain.model import Actor, Change, Snapshot
from common.domain.stock import NOT_READ
from common.errors import NotFoundError
from common.messaging import dead_letters
from common.messaging.dead_letters import Settled
from common.messaging.pending import Bus
from common.operations import event_log
from common.operations.lookup import letters
from common.operations.lookup.actions import RecordedAction
from common.store.paging import parse_id, parse_status, parse_uuid_filter

BULK_SECONDS = 20.0  # of one request
BULK_PAGE = 1000


def _item(values: Values) -> int:
    return read(values, "item", parse_id)


def _set_status(
    snapshot: Snapshot, values: Values, actor: Actor, _: Added | None
) -> Change | None:
    status = read(values, "status", parse_status)
    return orders.set_status(snapshot, _item(values), status, actor)


def _set_quantity(
    snapshot: Snapshot, values: Values, actor: Actor, _: Added | None
) -> Change | None:
    return orders.set_quantity(snapshot, _item(values), read_quantity(values), actor)


def _remove(
    snapshot: Snapshot, values: Values, actor: Actor, _: Added | None
) -> Change:
    return orders.remove_item(snapshot, _item(values), actor)


def _add(
    snapshot: Snapshot, _: Values, actor: Actor, added: Added | None
) -> Change | None:
    if added is None:  # only asked whether the order takes one
        orders.check_not_approved(snapshot)
        orders.check_size(len(snapshot.order.items) + 1)
        return None
    return orders.add_item(snapshot, added.item, actor, NOT_READ, added.title)


def _set_metadata(
    snapshot: Snapshot, values: Values, actor: Actor, _: Added | None
) -> Change | None:
    key = read(values, "key", parse_key)
    value = read(values, "value", parse_value)
    return orders.set_metadata(snapshot, {key: value or None}, actor)


def _approve(
    snapshot: Snapshot, _values: Values, actor: Actor, _: Added | None
) -> Change | None:
    return patch_order(snapshot, OrderPatch(is_approved=True), actor)


def _delete(
    snapshot: Snapshot, _values: Values, actor: Actor, _: Added | None
) -> Change:
    return orders.delete_order(snapshot, actor)


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


def _send_due(engine: Engine, _bus: Bus, values: Values) -> str:
    number = event_log.make_due(engine, values["destination"])
    return f"{number} events are due now"


def _taker(engine: Engine, bus: Bus) -> dead_letters.Take:
    def take(headers: Mapping[str, str], body: bytes) -> object:
        return approval.take(engine, headers, body, bus)

    return take


def _replay(engine: Engine, bus: Bus, values: Values) -> str:
    dead_letter_id = read(values, "letter", parse_id)
    is_replayed = dead_letters.replay(engine, dead_letter_id, _taker(engine, bus))
    return "replayed" if is_replayed else dead_letters.ALREADY_SETTLED


def _discard(engine: Engine, _bus: Bus, values: Values) -> str:
    is_discarded = dead_letters.discard(engine, read(values, "letter", parse_id))
    return "discarded" if is_discarded else dead_letters.ALREADY_SETTLED


def group(values: Values) -> letters.Query:
    """Return the dead letters that an action on all of one reason is about."""
    return letters.Query(
        limit=BULK_PAGE,
        source=values["source"],
        destination=values["destination"] or None,
        reason=values["cause"],
        up_to=read(values, "up_to", parse_id),
    )


def _replay_all(engine: Engine, bus: Bus, values: Values) -> str:
    take = _taker(engine, bus)
    ids = letters.open_ids(engine, group(values))
    settled = dead_letters.settle_each(
        ids, lambda id_: dead_letters.replay(engine, id_, take), BULK_SECONDS
    )
    return _outcome("replayed", settled)


def _discard_all(engine: Engine, _bus: Bus, values: Values) -> str:
    ids = letters.open_ids(engine, group(values))
    settled = dead_letters.settle_each(
        ids, lambda id_: dead_letters.discard(engine, id_), BULK_SECONDS
    )
    return _outcome("discarded", settled)


def _outcome(participle: str, settled: Settled) -> str:
    parts = [f"{participle} {len(settled.done)} dead letters"]
    parts += [f"{len(settled.failed)} could not be"] if settled.failed else []
    parts += [f"{settled.left} are left: do it again"] if settled.left else []
    return "; ".join(parts)


_OF_ITEM = ("order", "version", "item")
_OF_GROUP = ("source", "destination", "cause", "up_to")
ACTIONS = {
    each.name: each
    for each in (
        Action(
            name="move-item",
            title="Change the status of item {item}",
            warning="Delivered and Cancelled are final: they cannot be undone.",
            values=(*_OF_ITEM, "status"),
            rule=_set_status,
        ),
        Action(
            name="set-quantity",
            title="Change the quantity of item {item}",
            warning="The price stays. More lowers the stock; less does not raise it.",
            values=(*_OF_ITEM, "quantity"),
            rule=_set_quantity,
        ),
        Action(
            name="remove-item",
            title="Remove item {item}",
            warning="It is removed for good; other services see it as Cancelled.",
            values=_OF_ITEM,
            rule=_remove,
        ),
        Action(
            name="add-item",
            title="Add an item",
            warning="It has today's price, and lowers the stock.",
            values=("order", "version", "variation", "quantity"),
            rule=_add,
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
            name="send-due",
            title="Send what waits for {destination} now",
            warning="What waits for its next attempt is tried at once, in its order.",
            values=("destination",),
            run=_send_due,
        ),
        Action(
            name="replay-letter",
            title="Replay dead letter {letter}",
            warning="Consumers may see the same event once more.",
            values=("letter",),
            run=_replay,
        ),
        Action(
            name="discard-letter",
            title="Discard dead letter {letter}",
            warning="It is not sent any more. It stays readable for a while.",
            values=("letter",),
            run=_discard,
        ),
        Action(
            name="replay-letters",
            title="Replay all dead letters with this reason",
            warning="Consumers may see the same events once more.",
            values=_OF_GROUP,
            run=_replay_all,
        ),
        Action(
            name="discard-letters",
            title="Discard all dead letters with this reason",
            warning="They are not sent any more. They stay readable for a while.",
            values=_OF_GROUP,
            run=_discard_all,
        ),
    )
}
# What `orderctl` records besides.
OTHERS = {
    "acknowledge": "Acknowledge a difference of the audit",
    "after-restore": "Prepare a restored database",
    "doctor-fix": "Make the safe repairs",
    "relay-once": "Make one sweep",
    "erase-user": "Erase a user's data",
}


def action(name: str) -> Action:
    """Return the action of a name; raise NotFoundError."""
    if name not in ACTIONS:
        raise NotFoundError
    return ACTIONS[name]


def title_of(entry: RecordedAction) -> str:
    """Return what was done, in words, by the console or by `orderctl`."""
    if entry.action in ACTIONS:
        given = {name: str(value) for name, value in entry.given.items()}
        return title(ACTIONS[entry.action], given)
    return OTHERS.get(entry.action, entry.action)
