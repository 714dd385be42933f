"""`orderctl audit`: check that all events were published, once and in order.

An event that may have been sent twice is reported, but is no difference: only its
destination knows.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any

from msgspec import json

from common import wiring
from common.database.engine import connect
from common.domain.model import MAX_ID
from common.operations import acknowledgements
from common.operations.audit import Report, audit
from common.operations.audit_checks import DIFFERENCES
from infra.orderctl.output import (
    Commands,
    Printed,
    UsageError,
    add_command,
    as_rows,
    positive,
    table,
)

_ACKNOWLEDGED = ("order_id", "what", "at", "operator", "reason")
_GIVEN_UP = ("sequence", "first", "last", "at", "operator", "reason")


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "audit",
        _audit,
        help="compare orders and their history with the events pending and sent",
        epilog="Writes only acknowledgements and seals; may run at any time. Exit\n"
        "status 1: something differs that nobody has acknowledged. Status 2, too: a\n"
        "later release has migrated the database; use that one's audit.\n"
        "Keys of --json: orders, events, pending, resent, found (differences, all),\n"
        "differences (order_id, what, sentence, details), doubtful (ambiguous, all),\n"
        "ambiguous (order_id, event_id, event_type, destination, place, doubts,\n"
        "is_resend), given_up (sequence, first, last, at, operator, reason),\n"
        "acknowledged (order_id, what, details, at, operator, reason).\n"
        "Example: orderctl audit --from-order 1000 --limit-differences 20\n"
        "Example: orderctl audit --order 7 --acknowledge 'clock went back, 30 Nov'",
    )
    parser.add_argument(
        "--acknowledge",
        metavar="REASON",
        help="record that the differences of --order are known, and why: they are"
        " listed apart from now on, and no longer a failure",
    )
    parser.add_argument(
        "--what", choices=sorted(DIFFERENCES), help="acknowledge only this kind"
    )
    parser.add_argument(
        "--operator", help="who acknowledges (default: the login at the database)"
    )
    parser.add_argument("--order", type=positive, metavar="ID", help="only this order")
    parser.add_argument(
        "--from-order", type=positive, metavar="ID", help="from this order on"
    )
    parser.add_argument(
        "--to-order", type=positive, metavar="ID", help="up to this order"
    )
    parser.add_argument(
        "--limit-differences",
        type=positive,
        default=1000,
        metavar="N",
        help="list at most this many; all are counted (default: %(default)s)",
    )


def _audit(arguments: argparse.Namespace) -> Printed:
    between = _between(arguments)
    _check_acknowledging(arguments)
    wiring.use("DATABASE")
    progress = _Progress()
    report = audit(
        wiring.engine(),
        between=between,
        limit=arguments.limit_differences,
        progress=progress,
    )
    progress.end()
    if arguments.acknowledge is not None:
        report = _acknowledge(arguments, report)
    return Printed(_data(report), _lines(report), is_failure=report.found > 0)


def _check_acknowledging(arguments: argparse.Namespace) -> None:
    reason = arguments.acknowledge
    if reason is None:
        if arguments.what or arguments.operator:
            raise UsageError("--what and --operator go with --acknowledge")
        return
    if arguments.order is None:
        raise UsageError("--acknowledge goes with --order: look at each")
    if not reason.strip() or "\0" in reason:
        raise UsageError("--acknowledge needs a reason")


def _acknowledge(arguments: argparse.Namespace, seen: Report) -> Report:
    """Acknowledge what was found of one order; return what is left."""
    known = [each for each in seen.differences if arguments.what in (None, each.what)]
    with connect(wiring.engine()) as connection:
        acknowledgements.record(
            connection,
            known,
            reason=arguments.acknowledge.strip(),
            operator=arguments.operator,
        )
    order_id = arguments.order
    return audit(
        wiring.engine(),
        between=(order_id, order_id),
        limit=arguments.limit_differences,
    )


def _between(arguments: argparse.Namespace) -> tuple[int, int]:
    low, high = arguments.from_order, arguments.to_order
    if arguments.order is not None:
        if low is not None or high is not None:
            raise UsageError("--order names one order: leave --from-order, --to-order")
        return arguments.order, arguments.order
    low, high = low or 0, high or MAX_ID
    if low > high:
        raise UsageError("--from-order is above --to-order")
    return low, high


def _data(report: Report) -> dict[str, Any]:
    differences = [
        {
            "order_id": difference.order_id,
            "what": difference.what,
            "sentence": difference.sentence,
            "details": difference.details,
        }
        for difference in report.differences
    ]
    return {
        "orders": report.orders,
        "events": report.events,
        "pending": report.pending,
        "resent": report.resent,
        "found": report.found,
        "differences": differences,
        "doubtful": report.doubtful,
        "ambiguous": report.ambiguous,
        "given_up": report.given_up,
        "acknowledged": report.acknowledged,
    }


def _lines(report: Report) -> Iterator[str]:
    rows = [
        {
            "order": difference.order_id,
            "what": difference.sentence,
            "details": json.encode(difference.details).decode(),
        }
        for difference in report.differences
    ]
    if rows:
        yield from table(rows, ("order", "what", "details"), nothing="")
        if report.found > len(rows):
            yield f"… and {report.found - len(rows)} more: --limit-differences"
        yield ""
    if report.ambiguous:
        yield f"{report.doubtful} events may have gone out more than once:"
        columns = ("order_id", "event_id", "event_type", "destination", "place")
        yield from table(as_rows(report.ambiguous), columns, nothing="")
        yield ""
    if report.acknowledged:
        yield "Differences that were acknowledged:"
        yield from table(as_rows(report.acknowledged), _ACKNOWLEDGED, nothing="")
        yield ""
    if report.given_up:
        yield "Ids that were skipped after a restore, and belong to no order:"
        yield from table(as_rows(report.given_up), _GIVEN_UP, nothing="")
        yield ""
    yield (
        f"{report.orders} orders, {report.events} events:"
        f" {report.found or 'no'} differences"
        f" ({report.pending} pending, {report.resent} resent by operators,"
        f" {report.doubtful} ambiguous)"
    )


_PROGRESS_SECONDS = 2.0


class _Progress:
    """Print how far an audit is, from the second second on."""

    def __init__(self) -> None:
        self._printed_at = time.monotonic()
        self._is_terminal = sys.stderr.isatty()
        self._has_printed = False

    def __call__(self, done: int, last: int) -> None:
        """Print it, at most every other second."""
        now = time.monotonic()
        if now - self._printed_at < _PROGRESS_SECONDS:
            return
        self._printed_at = now
        self._has_printed = True
        start, end = ("\r", "") if self._is_terminal else ("", "\n")
        text = f"{start}orderctl: compared up to order {done} of {last}{end}"
        print(text, end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """End the line that is rewritten on a terminal."""
        if self._has_printed and self._is_terminal:
            print(file=sys.stderr)
