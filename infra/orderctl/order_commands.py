"""`orderctl orders` and `actions`: show an order, find orders, take lists away."""

import argparse
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from msgspec import structs

from common import wiring
from common.console import order_page
from common.console.lists import LISTS
from common.console.timeline import entries
from common.database.engine import connect
from common.domain.model import Snapshot, status_label
from common.errors import NotFoundError
from common.operations.lookup import actions
from common.operations.lookup.find import ListedOrder
from common.store import orders, timeline
from infra.orderctl import exporting
from infra.orderctl.output import (
    Commands,
    Printed,
    add_command,
    add_group,
    add_limit,
    facts,
    positive,
    price,
    table,
)


def add_to(commands: Commands) -> None:
    """Add the commands."""
    group = add_group(
        commands,
        "orders",
        help="show an order with its timeline, find orders, take them away",
        epilog="Example: orderctl orders show 42",
    )
    shown = add_command(
        group,
        "show",
        _show,
        help="show an order, even a deleted one, with the newest of its timeline",
        epilog="Keys of --json: id, order (as callers see it, null if deleted),\n"
        "version, total_minor, titles (by item), timeline (at, kind, title, who,\n"
        "request_id, details, link).\nExample: orderctl orders show 42",
    )
    shown.add_argument("id", type=positive, metavar="ID", help="its id")
    found = add_command(
        group,
        "find",
        _find,
        help="find orders, newest first",
        epilog=f"Filters: {', '.join(LISTS['orders'].filters)}, as in the console.\n"
        "Keys of --json: orders (id, user_id, created_at, is_approved, statuses,\n"
        "total_minor, metadata), count, is_whole_count, next_after (null at the end).\n"
        "Example: orderctl orders find --filter status=2 --filter is_approved=false",
    )
    exporting.add_filters(found)
    found.add_argument(
        "--after", type=positive, metavar="ID", help="only those below this id"
    )
    add_limit(found)
    exporting.add_to(group, "orders", "created_after=2026-11-01")
    log = add_group(
        commands,
        "actions",
        help="take away what operators did, in the console and with orderctl",
        epilog="Example: orderctl actions export --filter order=42",
    )
    exporting.add_to(log, "actions", "order=42")


def _show(arguments: argparse.Namespace) -> Printed:
    wiring.use("DATABASE")
    id_, snapshot = arguments.id, None
    with connect(wiring.engine()) as connection:
        page = timeline.read_whole(connection, id_)
        done = actions.read_of_order(connection, id_)
        titles = order_page.titles(connection, id_)
        with suppress(NotFoundError):
            snapshot = orders.load(connection, orders.Target(order_id=id_))
    rows = [structs.asdict(row) for row in entries(page, done)]
    data = {
        "id": id_,
        "order": snapshot and snapshot.order,
        "version": snapshot and snapshot.version,
        "total_minor": snapshot and order_page.total_minor(snapshot),
        "titles": {str(item_id): title for item_id, title in titles.items()},
        "timeline": rows,
    }
    return Printed(data, _shown(id_, snapshot, titles, rows))


def _shown(
    id_: int,
    snapshot: Snapshot | None,
    titles: dict[int, str],
    rows: list[dict[str, Any]],
) -> Iterator[str]:
    if snapshot is None:
        yield f"order {id_} was deleted; its history is kept"
    else:
        order = snapshot.order
        yield from facts(
            {
                "order": order.id,
                "user": order.user_id,
                "created": order.created_at,
                "approved": order.is_approved,
                "total": price(order_page.total_minor(snapshot)),
                **{f"metadata {key}": value for key, value in order.metadata.items()},
            }
        )
        items = [
            structs.asdict(item)
            | {"status": status_label(item.status), "price": price(item.price)}
            | {"title": titles.get(item.id) or str(item.product_variation)}
            for item in order.items
        ]
        yield ""
        columns = ("id", "status", "quantity", "price", "title")
        yield from table(items, columns, nothing="no items")
    yield ""
    yield from table(rows, ("at", "title", "who", "details"), nothing="no history")


def _find(arguments: argparse.Namespace) -> Printed:
    query = exporting.query("orders", arguments)
    asked = structs.replace(query, limit=arguments.limit, after=arguments.after)
    wiring.use("DATABASE")
    with connect(wiring.engine()) as connection:
        page = LISTS["orders"].read(connection, asked)
        counted = LISTS["orders"].count(connection, asked)
    data = {
        "orders": [_data(order) for order in page.rows],
        "count": counted.number,
        "is_whole_count": counted.is_whole,
        "next_after": page.next_after,
    }
    lines = table([_row(order) for order in page.rows], _FOUND, nothing="no orders")
    if page.next_after is not None:
        lines.append(f"… perhaps more: --after {page.next_after}")
    return Printed(data, lines)


def _data(order: ListedOrder) -> dict[str, object]:
    statuses = {status_label(s).lower(): n for s, n in order.statuses.items()}
    return structs.asdict(order) | {"statuses": statuses}


_FOUND = ("id", "created_at", "user_id", "approved", "total", "items")


def _row(order: ListedOrder) -> dict[str, object]:
    items = (f"{n} {status_label(s)}" for s, n in sorted(order.statuses.items()))
    return structs.asdict(order) | {
        "approved": order.is_approved,
        "total": price(order.total_minor),
        "items": ", ".join(items),
    }
