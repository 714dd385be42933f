"""`orderctl doctor`: report what holds up orders and events, and repair it.

After `--fix` it looks again; the exit status is about what remains.
"""

import argparse
from collections.abc import Iterator
from typing import Any

from msgspec import Struct, structs

from common import startup, wiring
from common.config.endpoints import CloudSql
from common.config.settings import Settings
from common.database.engine import connect, ping
from common.domain.events import ANALYTICS
from common.operations import diagnosis
from common.operations.diagnosis import Diagnosis, Repairs
from infra.orderctl.output import (
    Commands,
    Printed,
    add_command,
    as_rows,
    positive,
    table,
)

_EVENT = ("order_id", "event_type", "destination", "attempts", "age", "reason")
_SECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "backlog": ("Waiting", ("destination", "pending", "is_served", "age")),
    "stuck": ("Stuck", (*_EVENT[:-1], "event_id", "reason")),
    "held": ("Held", (*_EVENT[:-1], "event_id", "reason")),
    "leased": ("Never settled", _EVENT),
    "analytics": ("Analytics does not know yet", _EVENT),
    "unapproved": ("Complete, not approved", ("order_id", "age")),
    "dead_letters": (
        "Dead letters",
        ("id", "source", "order_id", "event_type", "age", "reason"),
    ),
}


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "doctor",
        _doctor,
        help="tell what keeps orders and events from going on, and mend what is safe",
        epilog="Exit status 1: something needs attention.\n"
        "Keys of --json: is_well, complaints, database (where, login; null but\n"
        "for Cloud SQL), schema (at, head), repairs (approved, released, events; null\n"
        "without --fix), and the oldest of each kind: stuck, held, leased,\n"
        " analytics, dead_letters, unapproved, backlog; besides\n"
        "open_dead_letters, their number.\n"
        "Example: orderctl doctor --fix",
    )
    parser.add_argument(
        "--fix",
        action="store_true",
        help="approve what is complete, send what is due, release leases that ran out;"
        " held events and dead letters are left to you",
    )
    parser.add_argument(
        "--patience",
        type=positive,
        default=diagnosis.PATIENCE_SECONDS,
        metavar="SECONDS",
        help="what is younger is under way (default: %(default)s)",
    )


def _doctor(arguments: argparse.Namespace) -> Printed:
    from common.database import migrations  # noqa: PLC0415 alembic is slow to import

    wiring.use("DATABASE", *(("EVENT_BUS",) if arguments.fix else ()))
    ping(wiring.engine())
    at, head = migrations.revision_of(wiring.engine()), migrations.head()
    schema = {"at": at, "head": head}
    settings = startup.settings()
    database = _database(settings)
    if at == "empty" or at < head:
        said = f"the schema is at {at}, this release needs {head}: run orderctl migrate"
        return Printed(
            {
                "is_well": False,
                "complaints": [said],
                "database": database,
                "schema": schema,
                "repairs": None,
            },
            [*_opening(database), f"! {said}"],
            is_failure=True,
        )
    repairs = None
    if arguments.fix:
        repairs = diagnosis.repair(wiring.engine(), wiring.relay(), settings.bus)
    served = [*settings.bus, *([ANALYTICS] if settings.analytics_url else [])]
    with connect(wiring.engine()) as connection:
        found = diagnosis.examine(connection, served, arguments.patience)
    data: dict[str, Any] = structs.asdict(found) | {
        "is_well": not found.complaints,
        "database": database,
        "schema": schema,
        "repairs": repairs,
    }
    lines = [*_opening(database), *_lines(found, repairs)]
    return Printed(data, lines, is_failure=bool(found.complaints))


def _database(settings: Settings) -> dict[str, str | None]:
    """Return where the database is, and how it is reached where that is by name."""
    database, login = settings.database, None
    assert database is not None, "every command needs it"
    if isinstance(database, CloudSql):
        kind = "IAM" if database.has_iam_login else "password"
        login = f"{database.ip_type} address, {kind} login as {database.user}"
    return {"where": database.where, "login": login}


def _opening(database: dict[str, str | None]) -> list[str]:
    """Return a line on Cloud SQL, where that is what it is."""
    if database["login"] is None:
        return []
    return [f"Cloud SQL {database['where']}: {database['login']}", ""]


def _lines(found: Diagnosis, repairs: Repairs | None) -> Iterator[str]:
    if repairs is not None:
        events = ", ".join(f"{count} {how}" for how, count in repairs.events.items())
        yield f"approved {_ids(repairs.approved)}"
        yield f"released {repairs.released or 'no'} leases that had run out"
        yield f"events: {events or 'none was due'}"
        yield ""
    for name, (title, columns) in _SECTIONS.items():
        listed: list[Struct] = getattr(found, name)
        if listed:
            yield f"{title}:"
            yield from table(as_rows(listed), columns, nothing="")
            yield ""
    for complaint in found.complaints:
        yield f"! {complaint}"
    if not found.complaints:
        yield "all is well"


def _ids(ids: list[int]) -> str:
    if not ids:
        return "no order"
    shown = ", ".join(map(str, ids[:10]))
    return f"{len(ids)} orders: {shown}{', …' if len(ids) > 10 else ''}"  # noqa: PLR2004 a line's worth
