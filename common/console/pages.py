"""Render the console's pages, with an action's effects in sentences.

Effects come from the rules themselves, so that a page promises only what a form can do.
"""

import functools
import hashlib
import itertools
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import jinja2
from flask import Response
from msgspec import json
from werkzeug.datastructures import MultiDict

from common.clients import product
from common.clients.batch import Upstream
from common.console import reads
from common.console.access import Operator
from common.console.actions import quantity_of
from common.database.engine import Connection
from common.domain import checkout
from common.domain.model import (
    Change,
    Entry,
    ItemStatus,
    Snapshot,
    parse_uuid,
    status_label,
)
from common.messaging import dead_letters, pending
from common.messaging.pending import Bus
from common.operations import event_log
from common.store import paging
from common.telemetry import logs

HTML = "text/html; charset=utf-8"


class Pages:
    """The templates of a folder, and the style that all of them name."""

    def __init__(self, folder: Path) -> None:
        """Read nothing yet."""
        self._folder = folder
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folder),
            autoescape=True,
            trim_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        self._templates.filters.update(
            moment=_moment, iso=datetime.isoformat, age=_age, price=_price
        )
        self._templates.globals["statuses"] = {each: each.label for each in ItemStatus}

    @functools.cached_property
    def style(self) -> tuple[bytes, str]:
        """The style sheet, and what this version of it is known by."""
        content = (self._folder / "console.css").read_bytes()
        return content, hashlib.sha256(content).hexdigest()[:16]

    def render(
        self,
        name: str,
        operator: Operator | None,
        *,
        here: str | None = None,
        **shown: Any,  # noqa: ANN401 whatever the template wants
    ) -> Response:
        """Return a page; `here` is its path below the console's root."""
        context = logs.current()
        request_id = context.request_id if context else ""
        given = {"request_id": request_id, "style_tag": self.style[1]} | shown
        template = self._templates.get_template(f"{name}.html")
        text = template.render(operator=operator, here=here, **given)
        headers = {"Cache-Control": "no-store"}
        return Response(text, headers=headers, content_type=HTML)

    def draw(
        self, title: str, labels: Sequence[str], series: Mapping[str, Sequence[int]]
    ) -> Response:
        """Return a bar chart as an image, with a bar of each series at each label."""
        drawn = self._templates.get_template("chart.svg").render(
            title=title,
            labels=labels,
            series=series,
            ticks=_ticks(max(map(max, series.values()))),
        )
        headers = {"Cache-Control": "private, max-age=60"}
        return Response(drawn, headers=headers, mimetype="image/svg+xml")

    def replace_problem(self, response: Response, request_id: str) -> None:
        """Make a page of an answer that is a problem; its status stays."""
        problem = response.get_json()
        page = self.render(
            "error",
            None,
            title=problem["title"],
            detail=problem["detail"],
            request_id=request_id,
        )
        response.set_data(page.get_data())
        response.headers["Content-Type"] = HTML
        response.headers["Cache-Control"] = "no-store"


def _ticks(most: int) -> range:
    """Return at most six even steps from 0 to `most` or the next step above it."""
    sizes = (unit * 10**power for power in itertools.count() for unit in (1, 2, 5))
    step = next(size for size in sizes if most <= 5 * size)
    return range(0, -(-max(most, 1) // step) * step + 1, step)


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _age(seconds: int) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} seconds"


def _price(minor: int) -> str:
    return f"{minor // 100}.{minor % 100:02}"


# What parameters of a query may be


def _moment_or_local(value: str) -> datetime:
    """Return a time; one without an offset, as a browser's field gives it, is UTC."""
    try:
        local = datetime.fromisoformat(value)
    except ValueError:
        return paging.parse_moment(value)
    return local.replace(tzinfo=UTC) if local.tzinfo is None else local.astimezone(UTC)


def events_query(given: MultiDict[str, str]) -> event_log.Query:
    """Return which events are asked for; raise InvalidRequestError."""
    known = paging.parse_query(given, {"order": paging.parse_id, "place": _place})
    return event_log.Query(
        limit=known.limit,
        place=known.filters.get("place", "pending"),
        order_id=known.filters.get("order"),
        destination=given.get("destination"),
        event_type=given.get("type"),
    )


def _place(value: str) -> str:
    if value not in ("pending", "held", "sent"):
        raise ValueError("must be pending, held or sent")
    return value


ORDER_FILTERS: Mapping[str, paging.Parser] = {
    "user_id": paging.parse_uuid_filter,
    "shop_id": paging.parse_uuid_filter,
    "status": paging.parse_status,
    "is_approved": paging.parse_bool,
    "created_after": _moment_or_local,
    "created_before": _moment_or_local,
}


# Charts

CHARTS = {
    "hours": ("hour", timedelta(hours=1), 24, "%H:%M"),
    "days": ("day", timedelta(days=1), 30, "%d %b"),
}


def counted(
    connection: Connection, name: str, now: datetime
) -> list[tuple[str, int, int, int]]:
    """Return label, orders, approvals and dead letters of each hour or day."""
    unit, step, number, label = CHARTS[name]
    last = now.replace(minute=0, second=0, microsecond=0)
    last = last.replace(hour=0) if unit == "day" else last
    starts = [last - step * n for n in reversed(range(number))]
    found = reads.count(connection, unit, starts[0])
    return [(at.strftime(label), *found.get(at, (0, 0, 0))) for at in starts]


def contents(letter: dead_letters.Kept) -> dict[str, str | None]:
    """Return a letter's headers and body to be shown; `text` None: it is none."""
    body = letter.body or b""
    headers = json.format(json.encode(letter.headers or {})).decode()
    return {"headers": headers, "text": _text(body), "hex": body.hex(" ", 4)}


def _text(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


# What will happen


def effects(
    snapshot: Snapshot, change: Change | None, bus: Collection[str]
) -> list[str]:
    """Return what a change does to an order, a sentence each."""
    if change is None:
        return ["Nothing: it is so already."]
    before = {item.id: item for item in snapshot.order.items}
    said = []
    for item in change.changed:
        was = before[item.id]
        if was.quantity != item.quantity:
            said.append(f"Item {item.id}: quantity {was.quantity} to {item.quantity}.")
    if change.order.metadata != snapshot.order.metadata:
        said.append("The metadata changes.")
    told = Bus(tuple(bus))
    for entry in change.history:
        if entry.kind == "item.changed":  # said above
            continue
        said += [_happens(entry), *_tells(entry, told)]
    if change.is_complete and not change.order.is_approved and not change.is_deletion:
        said.append("The order is then complete, and is approved by itself.")
    return said


def _happens(entry: Entry) -> str:
    if entry.item_id is None:
        return {
            "order.approved": "The order is approved.",
            "order.deleted": "The order is deleted.",
        }.get(entry.kind, entry.kind)
    now, was = status_label(entry.to_status), status_label(entry.from_status)
    what = "is removed, for others" if entry.kind == "item.removed" else "goes from"
    return f"Item {entry.item_id} {what} {was} to {now}."


def _tells(entry: Entry, bus: Bus) -> list[str]:
    return [
        f"{event.type} is sent to {', '.join(pending.destinations(event, bus))}."
        for event in entry.events
    ]


def told(connection: Connection, values: Mapping[str, str]) -> list[str]:
    """Return what is known of the event or letter that an action is about.

    Raise NotFoundError.
    """
    if "letter" in values:
        letter = dead_letters.read(connection, paging.parse_id(values["letter"]))
        of = f" of order {letter.order_id}" if letter.order_id else ""
        to = f" to {letter.destination}" if letter.destination else ""
        state, what = letter.settled_as or "open", letter.event_type or "a message"
        return [
            f"Dead letter {letter.id}, {state}: {what}{of}{to}.",
            f"It was given up because: {letter.reason}",
        ]
    event_id = parse_uuid(values["event"]) or UUID(int=0)
    rows = event_log.read(connection, event_id, paging.parse_id(values["order"]))
    return [
        f"{row.event_type} of order {row.order_id} to {row.destination}: {row.place}"
        f"; attempts: {row.attempts or 0}, in doubt: {row.doubts}."
        for row in rows
        if row.destination == values["destination"]
    ]


def back(values: Mapping[str, str]) -> str:
    """Return the path to what an action is about."""
    if "letter" in values:
        return f"/ops/letters/{paging.parse_id(values['letter'])}/"
    return f"/ops/orders/{paging.parse_id(values['order'])}/"


def check_stock(
    snapshot: Snapshot, values: Mapping[str, str], upstream: Upstream, seconds: float
) -> None:
    """Raise ItemUnavailableError where a larger quantity is not in stock.

    As for an owner: a smaller one needs no stock.
    """
    item = snapshot.item(paging.parse_id(values["item"]))
    if (quantity := quantity_of(values)) > item.quantity:
        deadline = time.monotonic() + seconds
        ids = [item.product_variation]
        found = product.get_variations(upstream, snapshot.order.user_id, ids, deadline)
        checkout.check_stock(found[item.product_variation], quantity)
