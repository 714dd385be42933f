"""`orderctl events`: list events, show one, send it again, confirm that it arrived.

Without `--order` an event is found slowly, since no index holds its id.
"""

import argparse
from collections.abc import Iterator
from uuid import UUID

from common import wiring
from common.database.engine import connect
from common.domain.model import parse_uuid
from common.messaging.event_rows import EventRow
from common.operations import event_log
from common.operations.event_log import Done, Query
from infra.orderctl.output import (
    Commands,
    Printed,
    add_command,
    add_group,
    add_limit,
    as_rows,
    confirm,
    facts,
    positive,
    table,
)

_ROW_KEYS = (
    "Keys of a row: place (pending, held, sent, dead), id, event_id, event_type,\n"
    "destination, order_id, created_at, attempts, doubts, is_resend, available_at,\n"
    "sending_since, held_since, sent_at, settled_as, reason, body (null in a list)."
)
_PENDING = ("order_id", "event_id", "event_type", "destination", "place", "attempts")


def add_to(commands: Commands) -> None:
    """Add the commands."""
    group = add_group(
        commands,
        "events",
        help="list events, send them again, confirm held ones",
        epilog="Example: orderctl events list --held",
    )
    listing = add_command(
        group,
        "list",
        _list,
        help="list pending events, oldest first, or sent ones, newest first",
        epilog="Without --order, only the newest 100,000 sent events are searched.\n"
        f"Keys of --json: events, a list of rows.\n{_ROW_KEYS}\n"
        "Example: orderctl events list --sent --order 42",
    )
    place = listing.add_mutually_exclusive_group()
    place.add_argument("--sent", action="store_true", help="instead of pending ones")
    place.add_argument("--held", action="store_true", help="only those that are held")
    listing.add_argument("--order", type=positive, metavar="ID", help="of this order")
    listing.add_argument("--destination", metavar="NAME", help="to this destination")
    listing.add_argument("--type", metavar="TYPE", help="such as order.created")
    add_limit(listing)

    shown = add_command(
        group,
        "show",
        _show,
        help="show one event for each of its destinations, with its body",
        epilog=f"Keys of --json: events, a list of rows.\n{_ROW_KEYS}\n"
        "Example: orderctl events show 7d1c2a90-3f0e-4a53-9a44-0f2d4c1b8e11",
    )
    _add_event(shown)

    resent = add_command(
        group,
        "resend",
        _resend,
        help="send an event again: a held one is released, a pending one is due now,"
        " a sent one is sent once more",
        epilog="Consumers may count it twice: product lowers stock again.\n"
        "Keys of --json: event_id, order_id, done, a list of destination and action\n"
        "(released, due, resent, sending).\n"
        "Example: orderctl events resend 7d1c2a90-3f0e-4a53-9a44-0f2d4c1b8e11"
        " --destination rabbitmq",
    )
    _add_event(resent)
    resent.add_argument(
        "--destination", metavar="NAME", help="only there (default: to each it was for)"
    )
    resent.add_argument("--yes", action="store_true", help="do not ask")

    confirmed = add_command(
        group,
        "confirm",
        _confirm,
        help="record a held event as sent, because you know that it arrived",
        epilog="Keys of --json: as for resend; the action is confirmed.\n"
        "Example: orderctl events confirm 7d1c2a90-3f0e-4a53-9a44-0f2d4c1b8e11"
        " --destination rabbitmq",
    )
    _add_event(confirmed)
    confirmed.add_argument(
        "--destination", required=True, metavar="NAME", help="where it arrived"
    )
    confirmed.add_argument("--yes", action="store_true", help="do not ask")


def _add_event(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("event_id", type=_uuid, metavar="EVENT_ID", help="its id")
    parser.add_argument(
        "--order",
        type=positive,
        metavar="ID",
        help="the order it is about; without it the event is searched for",
    )


def _uuid(text: str) -> UUID:
    if (parsed := parse_uuid(text)) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an event id (a UUID)")
    return parsed


def _list(arguments: argparse.Namespace) -> Printed:
    wiring.use("DATABASE")
    place = "sent" if arguments.sent else "held" if arguments.held else "pending"
    query = Query(
        limit=arguments.limit,
        place=place,
        order_id=arguments.order,
        destination=arguments.destination,
        event_type=arguments.type,
    )
    with connect(wiring.engine()) as connection:
        found = event_log.read_many(connection, query)
    return Printed({"events": found}, _listing(found, query))


def _listing(found: list[EventRow], query: Query) -> Iterator[str]:
    columns = (*_PENDING, *(("sent_at",) if query.place == "sent" else ("reason",)))
    yield from table(as_rows(found), columns, nothing=f"no {query.place} events")
    if len(found) == query.limit:
        yield f"… perhaps more: --limit {query.limit * 2}"


def _order(arguments: argparse.Namespace) -> int:
    if arguments.order is not None:
        return int(arguments.order)
    return event_log.find_order(wiring.engine(), arguments.event_id)


def _show(arguments: argparse.Namespace) -> Printed:
    wiring.use("DATABASE")
    order_id = _order(arguments)
    with connect(wiring.engine()) as connection:
        found = event_log.read(connection, arguments.event_id, order_id)
    return Printed({"events": found}, _blocks(found))


def _blocks(found: list[EventRow]) -> Iterator[str]:
    first = found[0]
    yield from facts(
        {
            "event": first.event_id,
            "order": first.order_id,
            "recorded": first.created_at,
        }
    )
    for row in found:
        yield ""
        yield from facts(
            {
                "destination": row.destination,
                "type": row.event_type,
                "place": f"{row.place}, {row.settled_as or 'open'}"
                if row.place == "dead"
                else row.place,
                "row": row.id,
                "resend": row.is_resend or None,
                "attempts": row.attempts,
                "in doubt": row.doubts or None,
                "not before": row.available_at,
                "sending since": row.sending_since,
                "held since": row.held_since,
                "sent": row.sent_at,
                "reason": row.reason,
                "body": row.body,
            }
        )


def _resend(arguments: argparse.Namespace) -> Printed:
    wiring.use("DATABASE")
    order_id = _order(arguments)
    where = arguments.destination or "every destination"
    question = f"Send event {arguments.event_id} of order {order_id} to {where} again?"
    confirm(question, is_sure=arguments.yes)
    done = event_log.resend(
        wiring.engine(), arguments.event_id, order_id, arguments.destination
    )
    return _done(arguments.event_id, order_id, done)


def _confirm(arguments: argparse.Namespace) -> Printed:
    wiring.use("DATABASE")
    order_id = _order(arguments)
    where = arguments.destination
    question = f"Did event {arguments.event_id} of order {order_id} arrive at {where}?"
    confirm(question, is_sure=arguments.yes)
    done = event_log.confirm(wiring.engine(), arguments.event_id, order_id, where)
    return _done(arguments.event_id, order_id, [done])


_ACTIONS = {
    "released": "released: the relay sends it",
    "due": "was pending: it is due now",
    "resent": "will be sent once more",
    "sending": "is being sent right now: nothing was done",
    "confirmed": "recorded as sent: the order's later events are released",
}


def _done(event_id: UUID, order_id: int, done: list[Done]) -> Printed:
    data = {"event_id": event_id, "order_id": order_id, "done": done}
    return Printed(data, facts({d.destination: _ACTIONS[d.action] for d in done}))
