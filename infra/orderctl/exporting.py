"""`orderctl … export`: take a whole list away, as CSV or as lines of JSON.

The filters are those of the console's lists.
"""

import argparse
from collections.abc import Iterator
from functools import partial

from werkzeug.datastructures import MultiDict

from common import wiring
from common.console.lists import LISTS
from common.errors import InvalidRequestError
from common.operations.lookup import takeaway
from common.store.paging import ListQuery
from infra.orderctl.output import Commands, Printed, UsageError, add_command, positive


def add_to(group: Commands, name: str, example: str) -> None:
    """Add the command of the list `name` to a group."""
    exported = add_command(
        group,
        "export",
        partial(_export, name),
        help="print the whole list, as CSV or as lines of JSON (NDJSON)",
        epilog=f"Filters: {', '.join(LISTS[name].filters)}, as in the console.\n"
        "It takes the memory of one page. If it stops, go on with --resume and the id\n"
        "of the last line that arrived; CSV has no heading then. --json is --format\n"
        f"ndjson.\nExample: orderctl {_GROUPS.get(name, name)} export"
        f" --format csv --filter {example}",
    )
    exported.add_argument(
        "--format", choices=takeaway.FORMATS, default="csv", help="default: %(default)s"
    )
    add_filters(exported)
    exported.add_argument(
        "--resume", type=positive, metavar="ID", help="go on after this id"
    )


_GROUPS = {"letters": "dead-letters"}


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add --filter, which may be repeated."""
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="only what passes; may be repeated",
    )


def query(name: str, arguments: argparse.Namespace) -> ListQuery:
    """Return what the filters ask for; raise UsageError."""
    pairs = [text.partition("=") for text in arguments.filter]
    known = LISTS[name].filters
    for filter_name, equals, _ in pairs:
        if not equals or filter_name not in known:
            raise UsageError(f"--filter: NAME=VALUE with one of {', '.join(known)}")
    try:
        return LISTS[name].query(MultiDict((n, value) for n, _, value in pairs))
    except InvalidRequestError as error:
        raise UsageError(f"--filter {error.detail}") from error


def _export(name: str, arguments: argparse.Namespace) -> Printed:
    asked = query(name, arguments)
    wiring.use("DATABASE")
    form = "ndjson" if arguments.json else arguments.format
    arguments.json = False  # the lines are what machines read
    read = LISTS[name].take_away(asked)
    return Printed(None, _lines(read, form, arguments.resume))


def _lines(read: takeaway.Read, form: str, resume: int | None) -> Iterator[str]:
    for text in takeaway.stream(wiring.engine(), read, form, resume):
        for line in text.split("\n")[:-1]:
            yield line.removesuffix("\r")
