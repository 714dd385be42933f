"""`orderctl dead-letters`: list, replay or discard dead letters.

Each is handled separately: one that cannot be replayed does not stop the others.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import structs

from common import approval, startup, wiring
from common.database.engine import connect
from common.messaging import dead_letters
from common.messaging.dead_letters import Kept, Settled
from common.messaging.pending import Bus
from common.operations.lookup import letters
from infra.orderctl import exporting
from infra.orderctl.output import (
    Commands,
    Printed,
    UsageError,
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
    _add_filters(listing)
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
    _add_filters(replayed)
    add_reason(replayed)
    discarded = add_command(
        group,
        "discard",
        _discard,
        help="discard dead letters for good; they stay readable for a while",
        epilog=f"{_DONE_KEYS}\nExample: orderctl dead-letters discard 7 8 --yes"
        " --reason 'orders of a test'",
    )
    discarded.add_argument("ids", type=positive, metavar="ID", nargs="*", help="which")
    discarded.add_argument("--all", action="store_true", help="all that are open")
    _add_filters(discarded)
    discarded.add_argument("--yes", action="store_true", help="do not ask")
    add_reason(discarded, is_required=True)
    exporting.add_to(group, "letters", "all=true")


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source",
        choices=dead_letters.SOURCES,
        help="outbox: events that a destination refused; approval: unreadable messages",
    )
    parser.add_argument("--cause", metavar="TEXT", help="only with exactly this reason")


def _list(arguments: argparse.Namespace) -> Printed:
    wiring.use("DATABASE")
    with connect(wiring.engine()) as connection:
        query = letters.Query(
            limit=arguments.limit,
            source=arguments.source,
            reason=arguments.cause,
            with_settled=arguments.all,
            after=arguments.after,
        )
        found = letters.read_many(connection, query)
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
    _check_chosen(arguments)
    wiring.use("DATABASE", "EVENT_BUS")
    engine, bus = wiring.engine(), Bus(startup.settings().bus)

    def take(headers: Mapping[str, str], body: bytes) -> object:
        return approval.take(engine, headers, body, bus)

    return _settle(
        arguments,
        _chosen(arguments),
        lambda id_: dead_letters.replay(engine, id_, take),
        Verb("replay", "replayed"),
    )


def _discard(arguments: argparse.Namespace) -> Printed:
    _check_chosen(arguments)
    wiring.use("DATABASE")
    ids = _chosen(arguments)
    confirm(f"Discard {len(ids)} dead letters for good?", is_sure=arguments.yes)
    engine = wiring.engine()
    return _settle(
        arguments,
        ids,
        lambda id_: dead_letters.discard(engine, id_),
        Verb("discard", "discarded"),
    )


def _check_chosen(arguments: argparse.Namespace) -> None:
    check_reason(arguments)
    if bool(arguments.ids) == arguments.all:
        raise UsageError("name dead letters by id, or all open ones with --all")
    if (arguments.source or arguments.cause) and not arguments.all:
        raise UsageError("--source and --cause go with --all, not with ids")


def _chosen(arguments: argparse.Namespace) -> Sequence[int]:
    if not arguments.all:
        return list(arguments.ids)
    query = letters.Query(limit=1000, source=arguments.source, reason=arguments.cause)
    return letters.open_ids(wiring.engine(), query)


class Verb(NamedTuple):
    """What is done to dead letters."""

    infinitive: str
    participle: str


def _settle(
    arguments: argparse.Namespace,
    ids: Sequence[int],
    settle: Callable[[int], bool],
    verb: Verb,
) -> Printed:
    """Act on each dead letter, and record it: those of --all as one action."""
    if arguments.all:
        given = {"source": arguments.source or "any", "cause": arguments.cause or "any"}
        with recorded(arguments, f"{verb.infinitive}-letters", given) as outcome:
            settled = dead_letters.settle_each(ids, settle)
            outcome.text = _summed_up(settled, verb)
    else:
        settled = dead_letters.settle_each(
            ids, lambda id_: _settle_one(arguments, id_, settle, verb)
        )
    failed = [{"id": id_, "reason": why} for id_, why in settled.failed.items()]
    lines = [
        _summed_up(settled, verb),
        *(f"! {why}" for why in settled.failed.values()),
    ]
    data = {"done": settled.done, "failed": failed}
    return Printed(data, lines, is_failure=bool(failed))


def _settle_one(
    arguments: argparse.Namespace, id_: int, settle: Callable[[int], bool], verb: Verb
) -> bool:
    given = {"letter": id_}
    with recorded(arguments, f"{verb.infinitive}-letter", given, letter=id_) as outcome:
        is_settled = settle(id_)
        outcome.text = verb.participle if is_settled else dead_letters.ALREADY_SETTLED
    return is_settled


def _summed_up(settled: Settled, verb: Verb) -> str:
    total = len(settled.done) + len(settled.failed)
    return f"{verb.participle} {len(settled.done)} of {total} dead letters"
