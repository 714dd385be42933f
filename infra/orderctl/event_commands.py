"""`orderctl events`: list events, show one, send it again, confirm that it arrived."""

import argparse
from collections.abc import Iterator
from contextlib import AbstractContextManager
from uuid import UUID

from common import wiring
from common.database.engine import connect
from common.domain.model import parse_uuid
from common.messaging.event_rows import EventRow
from common.operations import event_log
from common.operations.event_log import Done
from common.operations.lookup import events
from common.operations.lookup.actions import Outcome
from common.operations.lookup.events import PLACES, Query
from common.operations.lookup.find import Page
from infra.orderctl import exporting
from infra.orderctl.output import (
    Commands,
    Printed,
    add_command,
    add_group,
    add_limit,
    add_reason,
    as_rows,
    check_reason,
    confirm,
    facts,
    positive,
    recorded,
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
        epilog="Without --order, only the next 100,000 events are searched.\n"
        "Keys of --json: events, a list of rows, and next_after, null at the end.\n"
        f"{_ROW_KEYS}\n"
        "Example: orderctl events list --sent --order 42",
    )
    place = listing.add_mutually_exclusive_group()
    place.add_argument("--sent", action="store_true", help="instead of pending ones")
    place.add_argument("--held", action="store_true", help="only those that are held")
    place.add_argument(
        "--failed", action="store_true", help="only those that failed at least once"
    )
    listing.add_argument("--order", type=positive, metavar="ID", help="of this order")
    listing.add_argument("--destination", metavar="NAME", help="to this destination")
    listing.add_argument("--type", metavar="TYPE", help="such as order.created")
    listing.add_argument(
        "--after", type=positive, metavar="ID", help="only those after this row"
    )
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
    add_reason(resent)
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
        " --destination rabbitmq --reason 'the shop has it'",
    )
    _add_event(confirmed)
    add_reason(confirmed, is_required=True)
    confirmed.add_argument(
        "--destination", required=True, metavar="NAME", help="where it arrived"
    )
    confirmed.add_argument("--yes", action="store_true", help="do not ask")

    hurried = add_command(
        group,
        "hurry",
        _hurry,
        help="have all that waits for its next attempt at a destination tried now",
        epilog="For after a fault is mended; the relay sends in the usual order.\n"
        "Keys of --json: due (how many).\n"
        "Example: orderctl events hurry --destination rabbitmq",
    )
    hurried.add_argument(
        "--destination", required=True, metavar="NAME", help="which one"
    )
    add_reason(hurried)
    exporting.add_to(group, "events", "place=failed")


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
    places = [place for place in PLACES if getattr(arguments, place, False)]
    query = Query(
        limit=arguments.limit,
        after=arguments.after,
        place=places[0] if places else "pending",
        order_id=arguments.order,
        destination=arguments.destination,
        event_type=arguments.type,
    )
    with connect(wiring.engine()) as connection:
        page = events.read_page(connection, query)
    data = {"events": page.rows, "next_after": page.next_after}
    return Printed(data, _listing(page, query))


def _listing(page: Page, query: Query) -> Iterator[str]:
    columns = (*_PENDING, *(("sent_at",) if query.place == "sent" else ("reason",)))
    yield from table(as_rows(page.rows), columns, nothing=f"no {query.place} events")
    if page.next_after is not None:
        yield f"… perhaps more: --after {page.next_after}"


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
    check_reason(arguments)
    wiring.use("DATABASE")
    order_id = _order(arguments)
    where = arguments.destination or "every destination"
    question = f"Send event {arguments.event_id} of order {order_id} to {where} again?"
    confirm(question, is_sure=arguments.yes)
    with _recorded(arguments, "resend-event", order_id) as outcome:
        done = event_log.resend(
            wiring.engine(), arguments.event_id, order_id, arguments.destination
        )
        outcome.text = ", ".join(f"{one.destination}: {one.action}" for one in done)
    return _done(arguments.event_id, order_id, done)


def _recorded(
    arguments: argparse.Namespace, action: str, order_id: int
) -> AbstractContextManager[Outcome]:
    given = {
        "order": order_id,
        "event": arguments.event_id,
        "destination": arguments.destination or "every destination",
    }
    return recorded(arguments, action, given, order_id=order_id)


def _confirm(arguments: argparse.Namespace) -> Printed:
    check_reason(arguments)
    wiring.use("DATABASE")
    order_id = _order(arguments)
    where = arguments.destination
    question = f"Did event {arguments.event_id} of order {order_id} arrive at {where}?"
    confirm(question, is_sure=arguments.yes)
    with _recorded(arguments, "confirm-event", order_id) as outcome:
        done = event_log.confirm(wiring.engine(), arguments.event_id, order_id, where)
        outcome.text = f"{done.destination}: {done.action}"
    return _done(arguments.event_id, order_id, [done])


def _hurry(arguments: argparse.Namespace) -> Printed:
    wiring.use("DATABASE")
    given = {"destination": arguments.destination}
    with recorded(arguments, "send-due", given) as outcome:
        number = event_log.make_due(wiring.engine(), arguments.destination)
        outcome.text = f"{number} events are due now"
    return Printed({"due": number}, [outcome.text])


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
