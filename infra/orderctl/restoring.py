"""`orderctl after-restore`: prepare a restored database for use."""

import argparse
from collections.abc import Iterator
from typing import Any

from msgspec import structs

from common import wiring
from common.operations import restore
from common.operations.restore import Done, Margin, Plan
from infra.orderctl.output import (
    Commands,
    Printed,
    UsageError,
    add_command,
    age,
    as_rows,
    positive,
    table,
)

_REASON = "the database was restored"


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "after-restore",
        _after_restore,
        help="after a restore: skip ids that may be known, move versions, and mark"
        " events that may have been sent",
        epilog="Without --yes it only prints what it would do. Run it once after a\n"
        "restore, or a fail-over that lost commits, while nothing else writes.\n"
        "Keys of --json: is_done, skips (sequence, table, last, next), margin\n"
        "(orders, lost_seconds, busiest_minute), backlog (events, to_hold, held,\n"
        "dead_letters), in_doubt and held (null before it is done).\n"
        "Example: orderctl after-restore --past-order-id 352 --yes",
    )
    parser.add_argument(
        "--past-order-id",
        type=positive,
        metavar="ID",
        help="the greatest order id that anybody has seen; ids continue after it",
    )
    parser.add_argument(
        "--past-item-id", type=positive, metavar="ID", help="the same for items"
    )
    parser.add_argument(
        "--margin",
        type=positive,
        metavar="ORDERS",
        help="how many orders to allow for (default: ten times as many as the time"
        " since the newest entry would have brought at the busiest known rate, and"
        f" {restore.LEAST_MARGIN:,})",
    )
    parser.add_argument(
        "--operator", metavar="NAME", help="who does it (default: the database's login)"
    )
    parser.add_argument(
        "--reason", default=_REASON, help="why it is done (default: %(default)s)"
    )
    parser.add_argument("--yes", action="store_true", help="do it")


def _after_restore(arguments: argparse.Namespace) -> Printed:
    if not arguments.reason.strip() or "\0" in arguments.reason:
        raise UsageError("--reason is empty")
    told = {"orders": arguments.past_order_id, "order_items": arguments.past_item_id}
    wiring.use("DATABASE")
    engine = wiring.engine()
    plan = restore.plan(
        engine, arguments.margin, {t: id_ for t, id_ in told.items() if id_ is not None}
    )
    for option, name in (("order", "orders"), ("item", "order_items")):
        last = next((skip.last for skip in plan.skips if skip.table == name), 0)
        if (seen := told[name]) is not None and seen < last:
            raise UsageError(
                f"--past-{option}-id is less than {last}, the last one that this"
                " database knows of: nothing would be skipped"
            )
    done = None
    if arguments.yes:
        done = restore.carry_out(
            engine, plan, reason=arguments.reason.strip(), operator=arguments.operator
        )
    data: dict[str, Any] = {
        "is_done": arguments.yes,
        **structs.asdict(plan),
        "in_doubt": done and done.in_doubt,
        "held": done and done.held,
    }
    return Printed(data, _lines(plan, done))


def _lines(plan: Plan, done: Done | None) -> Iterator[str]:
    yield from table(as_rows(plan.skips), ("sequence", "last", "next"), nothing="")
    yield ""
    yield f"margin: {_margin(plan.margin)}"
    yield "versions: moved, so that no ETag from before matches other contents"
    backlog = plan.backlog
    in_doubt, held = (
        (done.in_doubt, done.held) if done else (backlog.events, backlog.to_hold)
    )
    yield (
        f"pending events: {_count(in_doubt)} are in doubt, as they may have been sent"
        f" since the backup; {_count(held)} of them are order.created and held until"
        " you confirm or resend each; the others are sent again, which does no harm"
    )
    if backlog.held:
        yield f"held before: {_count(backlog.held)}; they stay held"
    if backlog.dead_letters:
        yield (
            f"open dead letters: {_count(backlog.dead_letters)}; some may have been"
            " replayed or discarded since the backup: look before you replay"
        )
    yield "done" if done else "nothing was done: add --yes"


def _margin(margin: Margin) -> str:
    if margin.busiest_minute is None:
        return f"{margin.orders} orders, as given"
    since = "there is no history"
    if margin.lost_seconds is not None:
        since = f"the newest entry is {age(max(0, margin.lost_seconds))} old"
    return (
        f"{margin.orders} orders: {since}, and the busiest minute had"
        f" {margin.busiest_minute} orders, of which at least {restore.LEAST_BUSY} are"
        f" assumed; {restore.SAFETY_FACTOR} times that, and {restore.LEAST_MARGIN}"
    )


def _count(number: int) -> str:
    return f"{number} or more" if number >= restore.MANY else str(number)
