"""The console's lists: their filters, their pages, and the same to take away."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from msgspec import json
from werkzeug.datastructures import MultiDict

from common.database.engine import Connection
from common.domain.commands import MAX_KEY_CHARACTERS, MAX_VALUE_CHARACTERS
from common.messaging import dead_letters
from common.operations.lookup import actions, events, find, letters, takeaway
from common.operations.lookup.find import Count, Page
from common.store import paging
from common.store.paging import ListQuery


def _moment_or_local(value: str) -> datetime:
    """Return a time; one without an offset, as a browser's field gives it, is UTC."""
    try:
        local = datetime.fromisoformat(value)
    except ValueError:
        return _bounded(paging.parse_moment(value))
    return _bounded(local.replace(tzinfo=local.tzinfo or UTC))


def _bounded(moment: datetime) -> datetime:
    """Return a time that can be searched around (`find.SKEW`), in UTC."""
    try:
        in_utc = moment.astimezone(UTC)
        _ = in_utc - find.SKEW, in_utc + find.SKEW
    except OverflowError as error:
        raise ValueError("must be a time within the calendar") from error
    return in_utc


def _choice(*known: str) -> paging.Parser:
    def parse(value: str) -> str:
        if value not in known:
            raise ValueError(f"must be {', '.join(known[:-1])} or {known[-1]}")
        return value

    return parse


def _only_true(value: str) -> bool:
    if value.lower() != "true":
        raise ValueError("must be true, or left out")
    return True


_MAX_METADATA = MAX_KEY_CHARACTERS + 1 + MAX_VALUE_CHARACTERS


def _metadata(value: str) -> str:
    if len(value) > _MAX_METADATA:
        raise ValueError(f"must be at most {_MAX_METADATA} characters")
    return paging.parse_text(value)


@dataclass(frozen=True)
class Listing:
    """A list: its filters, and how to read, to count and to take away what passes."""

    filters: Mapping[str, paging.Parser]
    read: Callable[[Connection, ListQuery], Page]
    count: Callable[[Connection, ListQuery], Count]
    take_away: Callable[[ListQuery], takeaway.Read]

    def query(self, arguments: MultiDict[str, str]) -> ListQuery:
        """Return what a query asks for; raise InvalidRequestError."""
        return paging.parse_query(filled(arguments), self.filters)

    def fields(self, arguments: MultiDict[str, str]) -> dict[str, str]:
        """Return what was entered, for the form above the list."""
        given = filled(arguments)
        return {name: given.get(name, "") for name in self.filters}


def filled(arguments: MultiDict[str, str]) -> MultiDict[str, str]:
    """Return the parameters of a query that its form did not leave empty."""
    values = [(k, v.strip()) for k, v in arguments.items(multi=True) if v.strip()]
    return MultiDict(values)


def _orders() -> Listing:
    return Listing(
        filters={
            "user_id": paging.parse_uuid_filter,
            "shop_id": paging.parse_uuid_filter,
            "product_variation": paging.parse_uuid_filter,
            "metadata": _metadata,
            "status": paging.parse_status,
            "is_approved": paging.parse_bool,
            "is_late": _only_true,
            "created_after": _moment_or_local,
            "created_before": _moment_or_local,
        },
        read=lambda connection, query: find.find(
            connection, query.filters, limit=query.limit, after=query.after
        ),
        count=lambda connection, query: find.count(connection, query.filters),
        take_away=lambda query: takeaway.orders(query.filters),
    )


def _events() -> Listing:
    def query_of(query: ListQuery) -> events.Query:
        chosen = dict(query.filters)
        sort = chosen.pop("sort", None)
        return events.Query(
            limit=query.limit,
            after=query.after,
            place=chosen.get("place", "pending"),
            order_id=chosen.get("order"),
            destination=chosen.get("destination"),
            event_type=chosen.get("type"),
            reason=chosen.get("reason"),
            is_newest_first=None if sort is None else sort == "newest",
        )

    return Listing(
        filters={
            "place": _choice(*events.PLACES),
            "order": paging.parse_id,
            "destination": paging.parse_text,
            "type": paging.parse_text,
            "reason": paging.parse_text,
            "sort": _choice("oldest", "newest"),
        },
        read=lambda connection, query: events.read_page(connection, query_of(query)),
        count=lambda connection, query: events.count(connection, query_of(query)),
        take_away=lambda query: takeaway.pending_or_sent(query_of(query)),
    )


def _letters() -> Listing:
    def query_of(query: ListQuery) -> letters.Query:
        chosen = query.filters
        return letters.Query(
            limit=query.limit,
            after=query.after,
            source=chosen.get("source"),
            destination=chosen.get("destination"),
            reason=chosen.get("reason"),
            with_settled=chosen.get("all", False),
            is_newest_first=chosen.get("sort") == "newest",
        )

    return Listing(
        filters={
            "all": paging.parse_bool,
            "source": _choice(*dead_letters.SOURCES),
            "destination": paging.parse_text,
            "reason": paging.parse_text,
            "sort": _choice("oldest", "newest"),
        },
        read=lambda connection, query: letters.read_page(connection, query_of(query)),
        count=lambda connection, query: letters.count(connection, query_of(query)),
        take_away=lambda query: takeaway.dead_letters(query_of(query)),
    )


def _actions() -> Listing:
    def query_of(query: ListQuery) -> actions.Query:
        return actions.Query(
            limit=query.limit,
            after=query.after,
            operator=query.filters.get("operator"),
            action=query.filters.get("action"),
            order_id=query.filters.get("order"),
        )

    return Listing(
        filters={
            "operator": paging.parse_text,
            "action": paging.parse_text,
            "order": paging.parse_id,
        },
        read=lambda connection, query: actions.read_page(connection, query_of(query)),
        count=lambda connection, query: actions.count(connection, query_of(query)),
        take_away=lambda query: takeaway.operator_actions(query_of(query)),
    )


LISTS = {
    "orders": _orders(),
    "events": _events(),
    "letters": _letters(),
    "actions": _actions(),
}


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
    """Return the path to what an action is about."""
    if "letter" in values:
        return f"/ops/letters/{paging.parse_id(values['letter'])}/"
    if "order" in values:
        return f"/ops/orders/{paging.parse_id(values['order'])}/"
    return "/ops/letters/" if "cause" in values else "/ops/"
