"""`orderctl dead-letters`: list, replay or discard dead letters.

Each is handled separately: one that cannot be replayed does not stop the others.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import structs

from common import approval, startup, wiring
from common.database.engine import connect
from common.errors import ConflictError, NotFoundError
from common.messaging import dead_letters
from common.messaging.dead_letters import Kept
from common.messaging.pending import Bus
from infra.orderctl.output import (
    Commands,
    Printed,
    UsageError,
    add_command,
    add_group,
    add_limit,
    as_rows,
    confirm,
    facts,
    positive,
    table,
)

_KEYS = (
    "Keys of a dead letter: id, source (outbox, approval), reason, destination,\n"
    "order_id, event_id, event_type, created_at, settled_as (null, replayed,\n"
    "discarded), settled_at."
)
_COLUMNS = ("id", "source", "order_id", "event_type", "destination", "created_at")
_DONE_KEYS = "Keys of --json: done (ids), failed (a list of id and reason)."


def add_to(commands: Commands) -> None:
    """Add the commands."""
    group = add_group(
        commands,
        "dead-letters",
        help="list dead letters, replay or discard them",
        epilog="Example: orderctl dead-letters list",
    )
    listing = add_command(
        group,
        "list",
        _list,
        help="list open dead letters, oldest first",
        epilog=f"Keys of --json: dead_letters, a list.\n{_KEYS}\n"
        "Example: orderctl dead-letters list --source outbox",
    )
    listing.add_argument(
        "--all", action="store_true", help="also those replayed or discarded"
    )
    _add_source(listing)
    listing.add_argument(
        "--after", type=int, default=0, metavar="ID", help="only later ones"
    )
    add_limit(listing)
    shown = add_command(
        group,
        "show",
        _show,
        help="show one, with its headers and body",
        epilog=f"{_KEYS}\nBesides headers, and body_text, or body_hex where it is no"
        " text.\nExample: orderctl dead-letters show 7",
    )
    shown.add_argument("id", type=positive, metavar="ID", help="its id")
    replayed = add_command(
        group,
        "replay",
        _replay,
        help="send an event again, or process a message again",
        epilog=f"{_DONE_KEYS}\nExample: orderctl dead-letters replay --all"
        " --source approval",
    )
    replayed.add_argument("ids", type=positive, metavar="ID", nargs="*", help="which")
    replayed.add_argument("--all", action="store_true", help="all that are open")
    _add_source(replayed)
    discarded = add_command(
        group,
        "discard",
        _discard,
        help="discard dead letters for good; they stay readable for a while",
        epilog=f"{_DONE_KEYS}\nExample: orderctl dead-letters discard 7 8 --yes",
    )
    discarded.add_argument("ids", type=positive, metavar="ID", nargs="+", help="which")
    discarded.add_argument("--yes", action="store_true", help="do not ask")


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source",
        choices=dead_letters.SOURCES,
        help="outbox: events that a destination refused; approval: unreadable messages",
    )


def _list(arguments: argparse.Namespace) -> Printed:
    wiring.use("DATABASE")
    with connect(wiring.engine()) as connection:
        found = dead_letters.read_many(
            connection,
            limit=arguments.limit,
            source=arguments.source,
            with_settled=arguments.all,
            after=arguments.after,
        )
    settled_as = ("settled_as",) if arguments.all else ()
    columns = (*_COLUMNS, *settled_as, "reason")
    lines = table(as_rows(found), columns, nothing="no dead letters")
    if len(found) == arguments.limit:
        lines.append(f"… perhaps more: --after {found[-1].id}")
    return Printed({"dead_letters": [_summary(each) for each in found]}, lines)


def _summary(dead_letter: Kept) -> dict[str, Any]:
    summary = structs.asdict(dead_letter)
    del summary["headers"], summary["body"]
    return summary


def _show(arguments: argparse.Namespace) -> Printed:
    wiring.use("DATABASE")
    with connect(wiring.engine()) as connection:
        found = dead_letters.read(connection, arguments.id)
    summary, headers, body = _summary(found), found.headers or {}, found.body or b""
    text = _text(body)
    content = {"body_hex": body.hex()} if text is None else {"body_text": text}
    lines = facts(summary)
    if headers:
        lines += ["", "headers:", *(f"  {line}" for line in facts(headers))]
    title = "body:" if text is not None else "body, in hexadecimal:"
    lines += ["", title]
    lines += [body.hex(" ", 4)] if text is None else text.expandtabs().splitlines()
    return Printed(summary | {"headers": headers} | content, lines)


def _text(body: bytes) -> str | None:
    """Return the body as text, or None if a terminal cannot show it."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    is_plain = all(char.isprintable() or char in "\n\r\t" for char in text)
    return text if is_plain else None


def _replay(arguments: argparse.Namespace) -> Printed:
    if bool(arguments.ids) == arguments.all:
        raise UsageError("name dead letters by id, or all open ones with --all")
    if arguments.source and not arguments.all:
        raise UsageError("--source goes with --all, not with ids")
    wiring.use("DATABASE", "EVENT_BUS")
    engine, bus = wiring.engine(), Bus(startup.settings().bus)
    ids = arguments.ids
    if arguments.all:
        ids = dead_letters.open_ids(engine, source=arguments.source)

    def take(headers: Mapping[str, str], body: bytes) -> object:
        return approval.take(engine, headers, body, bus)

    return _each(ids, lambda id_: dead_letters.replay(engine, id_, take), "replayed")


def _discard(arguments: argparse.Namespace) -> Printed:
    wiring.use("DATABASE")
    count = len(arguments.ids)
    confirm(f"Discard {count} dead letters for good?", is_sure=arguments.yes)
    engine = wiring.engine()
    return _each(
        arguments.ids, lambda id_: dead_letters.discard(engine, id_), "discarded"
    )


def _each(ids: Sequence[int], act: Callable[[int], bool], participle: str) -> Printed:
    """Act on each dead letter; report failures and go on."""
    done: list[int] = []
    failed: list[dict[str, Any]] = []
    for id_ in dict.fromkeys(ids):
        try:
            if act(id_):
                done.append(id_)
            else:
                reason = f"Another operator was faster with dead letter {id_}."
                failed.append({"id": id_, "reason": reason})
        except (ConflictError, NotFoundError) as error:
            failed.append({"id": id_, "reason": error.detail})
    lines = [f"{participle} {len(done)} of {len(done) + len(failed)} dead letters"]
    lines += [f"! {failure['reason']}" for failure in failed]
    data = {"done": done, "failed": failed}
    return Printed(data, lines, is_failure=bool(failed))
