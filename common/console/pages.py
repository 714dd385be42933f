"""What the console's pages take from a query, and what they show."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from msgspec import Struct, json
from werkzeug.datastructures import MultiDict

from common.console import reads
from common.database.engine import Connection
from common.errors import NotFoundError
from common.messaging import dead_letters
from common.operations import event_log
from common.store import paging


def _moment_or_local(value: str) -> datetime:
    """Return a time; one without an offset, as a browser's field gives it, is UTC."""
    try:
        local = datetime.fromisoformat(value)
    except ValueError:
        return _bounded(paging.parse_moment(value))
    return _bounded(local.replace(tzinfo=local.tzinfo or UTC))


def _bounded(moment: datetime) -> datetime:
    """Return a time that can be searched around (`reads.SKEW`), in UTC."""
    try:
        in_utc = moment.astimezone(UTC)
        _ = in_utc - reads.SKEW, in_utc + reads.SKEW
    except OverflowError as error:
        raise ValueError("must be a time within the calendar") from error
    return in_utc


ORDER_FILTERS: Mapping[str, paging.Parser] = {
    "user_id": paging.parse_uuid_filter,
    "shop_id": paging.parse_uuid_filter,
    "status": paging.parse_status,
    "is_approved": paging.parse_bool,
    "created_after": _moment_or_local,
    "created_before": _moment_or_local,
}


def filled(arguments: MultiDict[str, str]) -> MultiDict[str, str]:
    """Return the parameters of a query that its form did not leave empty."""
    values = [(k, v.strip()) for k, v in arguments.items(multi=True) if v.strip()]
    return MultiDict(values)


def events_query(arguments: MultiDict[str, str]) -> event_log.Query:
    """Return which events to list; raise InvalidRequestError."""
    parsers = {
        "order": paging.parse_id,
        "place": _place,
        "destination": paging.parse_text,
        "type": paging.parse_text,
    }
    parsed = paging.parse_query(arguments, parsers)
    return event_log.Query(
        limit=parsed.limit,
        place=parsed.filters.get("place", "pending"),
        order_id=parsed.filters.get("order"),
        destination=parsed.filters.get("destination"),
        event_type=parsed.filters.get("type"),
    )


def _place(value: str) -> str:
    if value not in ("pending", "held", "sent"):
        raise ValueError("must be pending, held or sent")
    return value


class Chart(Struct, frozen=True):
    """A chart's numbers: label, orders, approvals and dead letters of each bar."""

    name: str
    title: str
    rows: list[tuple[str, int, int, int]]


# Title, unit of time, its length, how many bars, and the format of their labels.
_CHARTS = {
    "hours": ("The last 24 hours", "hour", timedelta(hours=1), 24, "%H:%M"),
    "days": ("The last 30 days", "day", timedelta(days=1), 30, "%d %b"),
}


def chart(connection: Connection, name: str, now: datetime) -> Chart:
    """Return the chart `hours` or `days`; raise NotFoundError."""
    if name not in _CHARTS:
        raise NotFoundError
    title, unit, step, number, label = _CHARTS[name]
    last = now.replace(minute=0, second=0, microsecond=0)
    last = last.replace(hour=0) if unit == "day" else last
    starts = [last - step * n for n in reversed(range(number))]
    counts = reads.count(connection, unit, starts[0])
    rows = [(at.strftime(label), *counts.get(at, (0, 0, 0))) for at in starts]
    return Chart(name, title, rows)


def contents(dead_letter: dead_letters.Kept) -> dict[str, str | None]:
    """Return headers and body of a dead letter; `text` is None if it is not text."""
    body = dead_letter.body or b""
    headers = json.format(json.encode(dead_letter.headers or {})).decode()
    return {"headers": headers, "text": _text(body), "hex": body.hex(" ", 4)}


def _text(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def path_back(values: Mapping[str, str]) -> str:
    """Return the path to the order or dead letter that an action is about."""
    if "letter" in values:
        return f"/ops/letters/{paging.parse_id(values['letter'])}/"
    return f"/ops/orders/{paging.parse_id(values['order'])}/"
