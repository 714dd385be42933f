"""`orderctl migrate` and `orderctl relay`: a release's migrations, and one sweep."""

import argparse
import time

from common import approval, startup, wiring
from common.database.engine import ping
from common.operations import retention
from infra.orderctl.output import (
    Commands,
    Printed,
    UsageError,
    add_command,
    add_reason,
    facts,
    recorded,
)


def add_to(commands: Commands) -> None:
    """Add both commands."""
    migrate = add_command(
        commands,
        "migrate",
        _migrate,
        help="upgrade the database's schema to this release's",
        epilog="Keys of --json: before, after (revisions), granted_to (roles).\n"
        "Example: orderctl migrate --grant-to orders_crud=orders-crud@my-project.iam",
    )
    migrate.add_argument(
        "--grant-to",
        action="extend",
        type=_names,
        default=[],
        metavar="[FUNCTION=]ROLE",
        help="give this role, such as a function's IAM user, the rights that the"
        " function (or orderctl) needs, and revoke all others; without FUNCTION, the"
        " rights of all functions; separate several by commas, or repeat the option",
    )
    relay = add_command(
        commands,
        "relay",
        _relay,
        help="approve complete orders, send pending events, and delete expired rows",
        epilog="Keys of --json: approved, how many events ended how (sent, refused,\n"
        "deferred, unconfirmed, unavailable, unroutable, held, not tried; absent: 0),\n"
        "purged_events, purged_keys.\n"
        "Example: orderctl relay --once --seconds 30",
    )
    relay.add_argument("--once", action="store_true", required=True, help="one sweep")
    relay.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        help="at most this long (default: %(default)s)",
    )
    add_reason(relay)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of roles")
    return names


def _migrate(arguments: argparse.Namespace) -> Printed:
    from common.database import migrations  # noqa: PLC0415 alembic is only for this command

    wiring.use("DATABASE")
    engine, roles = wiring.engine(), list(dict.fromkeys(arguments.grant_to))
    ping(engine)  # reports an unreachable database in one line
    try:
        migrations.check_roles(engine, roles)  # before anything is changed
        before, after = migrations.upgrade(engine)
        if roles:
            migrations.grant(engine, roles)
    except migrations.RoleError as error:
        raise UsageError(str(error)) from error
    revisions = {"before": before, "after": after}
    later = "a later release's: nothing to do" if migrations.is_later(after) else None
    lines = facts(revisions | {"granted to": ", ".join(roles) or None, "schema": later})
    return Printed(revisions | {"granted_to": roles}, lines)


def _relay(arguments: argparse.Namespace) -> Printed:
    wiring.use("DATABASE", "EVENT_BUS")
    with recorded(arguments, "relay-once", {}) as outcome:
        counts = _sweep(arguments.seconds)
        outcome.text = f"approved {counts['approved']}, sent {counts.get('sent', 0)}"
    return Printed(counts, facts(counts))


def _sweep(seconds: float) -> dict[str, int]:
    deadline = time.monotonic() + seconds
    approved = approval.sweep(wiring.engine(), startup.settings().bus)
    sent = wiring.relay().sweep(seconds)
    purged = retention.purge(
        wiring.engine(),
        startup.settings().event_retention_days,
        max(0.0, deadline - time.monotonic()),
    )
    return {
        "approved": len(approved),
        **sent,
        "purged_events": purged.events,
        "purged_keys": purged.keys,
    }
