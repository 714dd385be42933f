"""`orderctl doctor`: report what holds up orders and events, and repair it.

After `--fix` the diagnosis is repeated; the exit status is about what remains.
"""

import argparse
from collections.abc import Iterator

from msgspec import Struct, structs

from common import startup, wiring
from common.config.endpoints import CloudSql
from common.config.settings import Settings
from common.database.engine import connect, ping
from common.operations import diagnosis
from common.operations.diagnosis import Diagnosis, Repairs
from infra.orderctl.output import (
    Commands,
    Printed,
    add_command,
    add_reason,
    as_rows,
    positive,
    recorded,
    table,
)

_EVENT = ("order_id", "event_type", "destination", "attempts", "age", "reason")
_SECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "backlog": (
        "Destinations",
        (
            *("destination", "pending", "age", "failed_at", "next_try_at"),
            *("served_by", "last_error"),
        ),
    ),
    "causes": (
        "Why events wait",
        ("destination", "events", "failed_at", "next_try_at", "reason"),
    ),
    "stuck": ("Stuck", (*_EVENT[:-1], "event_id", "reason")),
    "held": ("Held", (*_EVENT[:-1], "event_id", "reason")),
    "leased": ("Unfinished attempts", _EVENT),
    "analytics": ("Analytics not notified yet", _EVENT),
    "ahead": ("Recorded ahead of the clock", _EVENT),
    "unapproved": ("Complete, not approved", ("order_id", "age")),
    "overdue_holds": (
        "Stock held too long",
        ("order_id", "item_id", "product_variation", "quantity", "age"),
    ),
    "snapshots": (
        "Held snapshots",
        ("kind", "name", "login", "application", "client", "state", "age"),
    ),
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
        help="report what holds up orders and events, and repair what is safe",
        epilog="Exit status 1: something needs attention.\n"
        "Keys of --json: is_well, complaints, database (where, login; null but\n"
        "for Cloud SQL), schema (at, head), repairs (approved, released, events; null\n"
        "without --fix), open_dead_letters (their number), backlog (of each\n"
        "destination: pending, since, seconds, causes, last_error, failed_at,\n"
        "next_try_at, served_by, served_at, is_served), causes (destination, reason,\n"
        "events, failed_at, next_try_at), and the oldest of each kind: stuck, held,\n"
        "leased, analytics, ahead, dead_letters, unapproved, overdue_holds and\n"
        "snapshots.\n"
        "Example: orderctl doctor --fix",
    )
    parser.add_argument(
        "--fix",
        action="store_true",
        help="approve complete orders, send due events, release expired leases; held"
        " events and dead letters are left to you",
    )
    add_reason(parser)
    parser.add_argument(
        "--patience",
        type=positive,
        default=diagnosis.GRACE_SECONDS,
        metavar="SECONDS",
        help="anything younger counts as in progress (default: %(default)s)",
    )


def _doctor(arguments: argparse.Namespace) -> Printed:
    from common.database import migrations  # noqa: PLC0415 alembic is slow to import

    wiring.use("DATABASE", *(("EVENT_BUS",) if arguments.fix else ()))
    ping(wiring.engine())
    at, head = migrations.revision_of(wiring.engine()), migrations.head()
    settings = startup.settings()
    database = _database(settings)
    about = {"database": database, "schema": {"at": at, "head": head}}
    if at == "empty" or at < head:
        text = f"the schema is at {at}, this release needs {head}: run orderctl migrate"
        data = {"is_well": False, "complaints": [text], "repairs": None}
        lines = [*_heading(database), f"! {text}"]
        return Printed(data | about, lines, is_failure=True)
    heading = _heading(database)
    if migrations.is_later(at):
        heading += [f"The schema is at {at}, a later release's, not {head}.", ""]
    repairs = None
    if arguments.fix:
        with recorded(arguments, "doctor-fix", {}) as outcome:
            repairs = diagnosis.repair(wiring.engine(), wiring.relay(), settings.bus)
            outcome.text = (
                f"approved {len(repairs.approved)}, released {repairs.released},"
                f" sent {repairs.events.get('sent', 0)}"
            )
    with connect(wiring.engine()) as connection:
        diagnosed = diagnosis.examine(connection, arguments.patience)
    kinds = structs.asdict(diagnosed)
    findings = [finding.sentence for finding in kinds.pop("findings")]
    data = {"is_well": not findings, "complaints": findings, "repairs": repairs}
    lines = [*heading, *_lines(diagnosed, repairs)]
    return Printed(data | about | kinds, lines, is_failure=bool(findings))


def _database(settings: Settings) -> dict[str, str | None]:
    """Return where the database is and, on Cloud SQL, how this login reaches it."""
    database, login = settings.database, None
    assert database is not None, "every command needs it"
    if isinstance(database, CloudSql):
        kind = "IAM" if database.has_iam_login else "password"
        login = f"{database.ip_type} address, {kind} login as {database.user}"
    return {"where": database.where, "login": login}


def _heading(database: dict[str, str | None]) -> list[str]:
    """Return a heading on how Cloud SQL is reached, nothing for another database."""
    if database["login"] is None:
        return []
    return [f"Cloud SQL {database['where']}: {database['login']}", ""]


def _lines(diagnosed: Diagnosis, repairs: Repairs | None) -> Iterator[str]:
    if repairs is not None:
        events = ", ".join(f"{count} {how}" for how, count in repairs.events.items())
        yield f"approved {_ids(repairs.approved)}"
        yield f"released {repairs.released or 'no'} expired leases"
        yield f"events: {events or 'none was due'}"
        yield ""
    for name, (title, columns) in _SECTIONS.items():
        listed: list[Struct] = getattr(diagnosed, name)
        if listed:
            yield f"{title}:"
            yield from table(as_rows(listed), columns, nothing="")
            yield ""
    for finding in diagnosed.findings:
        yield f"! {finding.sentence}"
    if not diagnosed.findings:
        yield "all is well"


def _ids(ids: list[int]) -> str:
    if not ids:
        return "no order"
    shown = ", ".join(map(str, ids[:10]))
    return f"{len(ids)} orders: {shown}{', …' if len(ids) > 10 else ''}"  # noqa: PLR2004 a line's worth
