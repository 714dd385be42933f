"""Print results for people and machines, and ask for confirmation.

On a terminal a table's last column is cut to its width; pipes and files get all of it.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from common import wiring
from common.operations.lookup import actions
from common.operations.lookup.actions import NewAction, Outcome
from common.telemetry.printable import printable

# What add_subparsers() returns; argparse has no public name for it.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001


class UsageError(Exception):
    """The command's arguments do not make sense; the message is one line."""


@dataclass
class Printed:
    """A command's result: `data` for machines, `lines` for people."""

    data: Any
    lines: Iterable[str] = field(default_factory=list)
    is_failure: bool = False


def show(result: Printed, *, as_json: bool) -> None:
    """Print a result to standard output, all of it printable."""
    if as_json:
        print(
            printable(msgspec.json.encode(result.data, order="deterministic").decode())
        )
        return
    for line in result.lines:
        print(printable(line))
    sys.stdout.flush()


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], Printed],
    *,
    help: str,  # noqa: A002 as argparse calls it
    epilog: str,
) -> argparse.ArgumentParser:
    """Add a command that calls `run`; `epilog` has an example and JSON's keys."""
    parser = commands.add_parser(
        name,
        help=help,
        description=f"{help[:1].upper()}{help[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="for machines")
    return parser


def add_group(commands: Commands, name: str, *, help: str, epilog: str) -> Commands:  # noqa: A002 as argparse calls it
    """Add a command with subcommands; return where these are added."""
    parser = commands.add_parser(
        name, help=help, description=f"{help[:1].upper()}{help[1:]}.", epilog=epilog
    )
    return parser.add_subparsers(required=True, metavar="COMMAND")


def positive(text: str) -> int:
    """Return a whole number above 0, for argparse."""
    number = int(text) if text.isdecimal() else 0
    if not 0 < number < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number


def add_limit(parser: argparse.ArgumentParser) -> None:
    """Add --limit to a command that lists."""
    parser.add_argument(
        "--limit",
        type=positive,
        default=50,
        metavar="N",
        help="at most this many (default: %(default)s)",
    )


NO_REASON = "no reason given"


def add_reason(parser: argparse.ArgumentParser, *, is_required: bool = False) -> None:
    """Add --reason and --operator to a command that changes something."""
    parser.add_argument(
        "--reason",
        required=is_required,
        default=NO_REASON,
        help="why; it is recorded, as in the console",
    )
    parser.add_argument(
        "--operator", help="who does it (default: the login at the database)"
    )


def check_reason(arguments: argparse.Namespace) -> str:
    """Return the reason that was given; raise UsageError if it is empty."""
    reason = str(arguments.reason).strip()
    if not reason or "\0" in reason:
        raise UsageError("--reason is empty")
    return reason


def recorded(
    arguments: argparse.Namespace,
    action: str,
    given: Mapping[str, object],
    *,
    order_id: int | None = None,
    letter: int | None = None,
) -> AbstractContextManager[Outcome]:
    """Return what records an action as the console's are; raise UsageError."""
    reason = check_reason(arguments)
    new = NewAction(
        action=action,
        reason=reason,
        given={name: str(value) for name, value in given.items()},
        operator=arguments.operator,
        order_id=order_id,
    )
    return actions.recorded(wiring.engine(), new, letter)


def confirm(question: str, *, is_sure: bool) -> None:
    """Ask the operator; raise UsageError unless the answer is yes."""
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise UsageError("cannot ask without a terminal: use --yes")
    print(printable(f"{question} [y/N] "), end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was done")


_GAP = "  "
_MIN_LAST_WIDTH = 12  # characters of the last column, however narrow the terminal


def table(
    rows: Sequence[Mapping[str, object]], columns: Sequence[str], *, nothing: str
) -> list[str]:
    """Return aligned lines under a heading, or `nothing` where there are no rows."""
    if not rows:
        return [nothing]
    cells = [[column.upper().replace("_", " ") for column in columns]]
    cells += [[cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
    if sys.stdout.isatty():
        others = sum(widths[:-1]) + len(_GAP) * len(widths[:-1])
        room = shutil.get_terminal_size().columns - others
        widths[-1] = min(widths[-1], max(room, _MIN_LAST_WIDTH))
    return [
        _GAP.join(
            _cut(text, width).ljust(width)
            for text, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in cells
    ]


def cell(value: object) -> str:
    """Return a value for people, in one line."""
    if value is None or value is False:
        return "-"
    if value is True:
        return "yes"
    if isinstance(value, datetime):
        return moment(value)
    return printable(" ".join(str(value).split())) or "-"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def moment(value: datetime) -> str:
    """Return a moment to the second; everything is in UTC."""
    return f"{value:%Y-%m-%d %H:%M:%S}Z"


def price(minor: int) -> str:
    """Return 1999 as '19.99'."""
    return f"{minor / 100:.2f}"


_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def age(seconds: int) -> str:
    """Return 93784 as '1d2h'."""
    left, parts = seconds, []
    for size, unit in _UNITS:
        if left >= size:
            parts.append(f"{left // size}{unit}")
            left %= size
    return "".join(parts[:2]) or "0s"


def facts(pairs: Mapping[str, object]) -> list[str]:
    """Return an aligned line for each pair whose value is not None."""
    known = {name: value for name, value in pairs.items() if value is not None}
    width = max(map(len, known), default=0)
    return [f"{name:<{width}}  {cell(value)}" for name, value in known.items()]


def as_rows(structs: Iterable[msgspec.Struct]) -> list[dict[str, Any]]:
    """Return structs as rows of a table; `age` is added where there is `seconds`."""
    rows = [msgspec.structs.asdict(struct) for struct in structs]
    for row in rows:
        if row.get("seconds") is not None:
            row["age"] = age(row["seconds"])
    return rows
