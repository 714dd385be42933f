"""List parameters: limits, cursors, filters, and the link to the next page."""

import base64
import re
import struct
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from werkzeug.datastructures import MultiDict

from common import paging
from common.errors import InvalidRequestError
from common.paging import ListQuery, next_link, parse_query
from common.schemas import MAX_ID
from tests.support.bodies import SHOP

PATH = "/api/orders/"
FILTERS: dict[str, paging.Parser] = {
    "order": paging.parse_id,
    "status": paging.parse_status,
    "is_approved": paging.parse_bool,
    "shop_id": paging.parse_uuid_filter,
    "created_after": paging.parse_moment,
}


def query(**args: str) -> ListQuery:
    return parse_query(MultiDict(args), FILTERS)


def filtered(name: str, value: str) -> Any:
    return query(**{name: value}).filters[name]


def cursor(after: int) -> str:
    """Answer the cursor that a list gives out."""
    link = next_link(PATH, MultiDict(), after)
    [(_, value)] = parse_qsl(urlsplit(link[1:].partition(">")[0]).query)
    return value


# The query.


def test_a_list_without_parameters_is_fifty_rows_from_the_newest() -> None:
    assert query() == ListQuery({}, limit=50, after=None)


@pytest.mark.parametrize(("text", "limit"), [("1", 1), ("200", 200), ("007", 7)])
def test_a_limit_is_taken_from_1_to_200(text: str, limit: int) -> None:
    assert query(limit=text).limit == limit


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("order", "4", 4),
        ("order", str(MAX_ID), MAX_ID),
        ("status", "1", 1),
        ("status", "4", 4),
        ("is_approved", "true", True),
        ("is_approved", "False", False),
        ("shop_id", SHOP.upper(), SHOP),
        (
            "created_after",
            "2025-12-01T10:00:00Z",
            datetime(2025, 12, 1, 10, tzinfo=UTC),
        ),
    ],
)
def test_a_filter_is_read(name: str, value: str, expected: object) -> None:
    found = filtered(name, value)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "201"),
        ("limit", "-1"),
        ("limit", "1.0"),
        ("limit", ""),
        ("limit", " 5"),
        ("limit", "5\n"),
        ("limit", "\N{ARABIC-INDIC DIGIT FIVE}"),
        ("limit", "9" * 5000),
        ("order", "0"),
        ("order", "-4"),
        ("order", str(MAX_ID + 1)),
        ("order", "4x"),
        ("order", "9" * 5000),
        ("status", "0"),
        ("status", "5"),
        ("status", "01"),
        ("status", "Shipped"),
        ("is_approved", "1"),
        ("is_approved", ""),
        ("shop_id", "x"),
        ("shop_id", "null"),
        ("created_after", "yesterday"),
        ("created_after", "2025-12-01"),
        ("created_after", "2025-12-01T10:00:00"),
        ("created_after", "2025-02-30T10:00:00Z"),
        ("created_after", "1764583200"),
        ("created_after", "2025-12-01T10:00:00Z\x00"),
        ("cursor", ""),
        ("cursor", "x"),
    ],
)
def test_a_bad_value_is_named_with_its_parameter(name: str, value: str) -> None:
    with pytest.raises(InvalidRequestError, match=rf"^{name}: ") as raised:
        query(**{name: value})
    assert list(raised.value.errors or {}) == [name]


@pytest.mark.parametrize("name", ["limit", "cursor", "status"])
def test_a_parameter_given_twice_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=rf"^{name}: must be given once"):
        parse_query(MultiDict([(name, "1"), (name, "1")]), FILTERS)


def test_unknown_parameters_are_ignored() -> None:
    args = MultiDict([("page", "2"), ("page", "3"), ("user_id", "x")])
    assert parse_query(args, FILTERS) == query()


# Times.

TEN = datetime(2025, 12, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2025-12-01T10:00:00Z",
        "2025-12-01t10:00:00z",
        "2025-12-01T10:00:00.000000+00:00",
        "2025-12-01T11:30:00+01:30",
        "2025-12-01T11:30:00 01:30",  # a plus that was not percent-encoded
        "2025-12-01T05:00:00-05:00",
    ],
)
def test_a_time_is_read_with_its_offset_and_becomes_utc(text: str) -> None:
    found = filtered("created_after", text)
    assert (found, found.tzinfo) == (TEN, UTC)


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"]
)
def test_a_time_that_utc_cannot_spell_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^created_after: "):
        query(created_after=text)


# Cursors.


@pytest.mark.parametrize("after", [1, 2, 255, 256, 10**9, MAX_ID])
def test_a_cursor_leads_on_from_the_row_it_was_made_for(after: int) -> None:
    assert query(cursor=cursor(after)).after == after


def test_a_cursor_is_opaque_and_safe_in_a_url() -> None:
    told = cursor(1234)
    assert "1234" not in told
    assert re.fullmatch(r"[A-Za-z0-9_-]+", told)


def packed(number: int) -> str:
    return base64.urlsafe_b64encode(struct.pack(">q", number)).decode().rstrip("=")


@pytest.mark.parametrize(
    "value",
    [
        packed(0),
        packed(-1),
        cursor(5) + "=",
        cursor(5) + "A",
        cursor(5)[:-1],
        cursor(5)[:-1] + "V",  # other bits after the last byte
        cursor(MAX_ID).replace("_", "/"),
        "5",
        "AAAAAAAAAA\x00",
        "ÄÄÄÄÄÄÄÄÄÄÄ",
    ],
)
def test_a_cursor_that_no_list_gave_out_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^cursor: "):
        query(cursor=value)


# The link.


def test_the_link_keeps_the_filters_and_replaces_the_cursor() -> None:
    args = MultiDict([("status", "1"), ("cursor", cursor(9)), ("limit", "2")])
    link = next_link("/order/api/order-items/", args, 5)
    target = f"/order/api/order-items/?status=1&limit=2&cursor={cursor(5)}"
    assert link == f'<{target}>; rel="next"'


def test_the_link_escapes_what_would_end_it() -> None:
    args = MultiDict({"x": '>; rel="prev", <y&z=é'})
    link = next_link(PATH, args, 5)
    target, _, rest = link[1:].partition(">")
    assert rest == '; rel="next"'
    assert parse_qsl(urlsplit(target).query)[0] == ("x", '>; rel="prev", <y&z=é')


def test_a_list_can_be_walked_by_its_links() -> None:
    args: MultiDict[str, str] = MultiDict({"limit": "2", "status": "1"})
    link = next_link(PATH, args, 8)
    followed = MultiDict(parse_qsl(urlsplit(link[1:].partition(">")[0]).query))
    assert parse_query(followed, FILTERS) == ListQuery({"status": 1}, 2, 8)
