"""`orderctl users`: hand out all that is stored of a user, or erase who they are."""

import argparse
from collections.abc import Iterator
from uuid import UUID

from msgspec import json

from common import wiring
from common.domain.model import parse_uuid
from common.operations.lookup import users
from common.operations.lookup.users import Preview
from common.telemetry import logs
from infra.orderctl.output import (
    Commands,
    Printed,
    UsageError,
    add_command,
    add_group,
    add_reason,
    check_reason,
    confirm,
)

_ELSEWHERE = (
    "the platform's accounts, shopcart, product and shop services, and analytics,"
    " which were told of the user: erase them there, too"
)


def add_to(commands: Commands) -> None:
    """Add the commands."""
    group = add_group(
        commands,
        "users",
        help="hand out all that is stored of a user, or erase who they are",
        epilog="Example: orderctl users export 7d1c2a90-3f0e-4a53-9a44-0f2d4c1b8e11",
    )
    exported = add_command(
        group,
        "export",
        _export,
        help="print all that is stored of a user, as lines of JSON",
        epilog="A line for each order, deleted ones included: order_id, order (null\n"
        "if deleted), titles, history, events (with bodies); then each response\n"
        "that is kept for an idempotency key or a cart.\n"
        "Example: orderctl users export 7d1c2a90-3f0e-4a53-9a44-0f2d4c1b8e11",
    )
    exported.add_argument("user", type=_uuid, metavar="UUID", help="the user's id")
    erased = add_command(
        group,
        "erase",
        _erase,
        help="replace a user's id by one that nobody has, and delete their metadata",
        epilog="What was ordered, when and for how much stays. Run it as the tables'\n"
        "owner, once all of the user's orders are final and their events are sent.\n"
        "Without --yes it shows what it would do, and asks.\n"
        "Keys of --json: orders, keys, destinations, is_erased, erased (the id in the\n"
        "user's place), log_name (what log lines call the user), elsewhere.\n"
        "Example: orderctl users erase 7d1c2a90-3f0e-4a53-9a44-0f2d4c1b8e11"
        " --reason 'request 17 of 1 December'",
    )
    erased.add_argument("user", type=_uuid, metavar="UUID", help="the user's id")
    erased.add_argument("--yes", action="store_true", help="do not ask")
    add_reason(erased, is_required=True)


def _uuid(text: str) -> UUID:
    if (parsed := parse_uuid(text)) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a user's id (a UUID)")
    return parsed


def _export(arguments: argparse.Namespace) -> Printed:
    wiring.use("DATABASE")
    arguments.json = False  # the lines are what machines read
    return Printed(None, _lines(arguments.user))


def _lines(user_id: UUID) -> Iterator[str]:
    for each in users.export(wiring.engine(), user_id):
        yield json.encode(each).decode()


def _erase(arguments: argparse.Namespace) -> Printed:
    reason = check_reason(arguments)
    wiring.use("DATABASE")
    engine = wiring.engine()
    planned = users.preview(engine, arguments.user)
    if planned.obstacles:
        raise UsageError(f"not yet: {'; '.join(planned.obstacles[:5])}")
    question = f"{'; '.join(_plan(planned))}. Erase user {arguments.user} for good?"
    confirm(question, is_sure=arguments.yes)
    done = users.erase(
        engine, arguments.user, reason=reason, operator=arguments.operator
    )
    log_name = logs.name_of_user(arguments.user)
    data = {
        "orders": done.orders,
        "keys": done.keys,
        "destinations": planned.destinations,
        "is_erased": True,
        "erased": done.erased,
        "log_name": log_name,
        "elsewhere": _ELSEWHERE,
    }
    lines = [
        *_plan(planned),
        f"erased: {done.erased} is in the user's place",
        f"log lines name the user as {log_name}, until they expire"
        if log_name
        else "log lines do not name users",
        f"not erased: {_ELSEWHERE}",
    ]
    return Printed(data, lines)


def _plan(planned: Preview) -> list[str]:
    told = ", ".join(f"{n} to {name}" for name, n in planned.destinations.items())
    return [
        f"{len(planned.orders)} orders, {planned.keys} kept responses",
        f"events that name the user were sent: {told or 'none'}",
    ]
