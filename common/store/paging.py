"""List parameters: limit, cursor, filters; and the link to the next page.

A cursor is opaque to callers, and is only the last id they saw, so it stays valid
whatever is written in between.
"""

import base64
import binascii
import re
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
from msgspec import Struct
from werkzeug.datastructures import MultiDict

from common.domain.model import MAX_ID, parse_uuid
from common.errors import InvalidRequestError

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
# Rows of a caller's that a filtered page looks at, whether they match or not.
MOST_LOOKED_AT = 10_000

Parser = Callable[[str], Any]


class ListQuery(Struct, frozen=True):
    """A list request, checked. `after` is the last id of the page before."""

    filters: dict[str, Any]
    limit: int
    after: int | None


def parse_query(args: MultiDict[str, str], parsers: Mapping[str, Parser]) -> ListQuery:
    """Return the query; a parser raises ValueError with the rule a value broke.

    Unknown parameters are ignored. Raise InvalidRequestError naming the parameter.
    """
    known = {"limit": _limit, "cursor": _cursor, **parsers}
    values: dict[str, Any] = {}
    for name, parser in known.items():
        given = args.getlist(name)
        if not given:
            continue
        if len(given) > 1:
            raise InvalidRequestError.of(name, "must be given once")
        try:
            values[name] = parser(given[0])
        except ValueError as error:
            raise InvalidRequestError.of(name, str(error)) from error
    return ListQuery(
        limit=values.pop("limit", DEFAULT_LIMIT),
        after=values.pop("cursor", None),
        filters=values,
    )


def next_query(args: MultiDict[str, str], after: int) -> str:
    """Return the query string of the page after `after`."""
    kept = [(k, v) for k, v in args.items(multi=True) if k != "cursor"]
    return urlencode([*kept, ("cursor", _encode(after))])


def next_link(path: str, args: MultiDict[str, str], after: int) -> str:
    """Return the Link header (RFC 8288) to the page after `after`."""
    return f'<{path}?{next_query(args, after)}>; rel="next"'


def parse_id(value: str) -> int:
    """Return a 64-bit id."""
    if not re.fullmatch(r"[0-9]{1,19}", value) or not 1 <= int(value) <= MAX_ID:
        raise ValueError("must be a whole number from 1 to 2^63 - 1")
    return int(value)


def parse_status(value: str) -> int:
    """Return an item's status."""
    if value not in ("1", "2", "3", "4"):
        raise ValueError("must be 1, 2, 3 or 4")
    return int(value)


def parse_bool(value: str) -> bool:
    """Return whether it says true; it may say false, both in any case."""
    if value.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return value.lower() == "true"


def parse_uuid_filter(value: str) -> str:
    """Return a UUID in its usual form."""
    parsed = parse_uuid(value)
    if parsed is None:
        raise ValueError("must be a UUID")
    return str(parsed)


def parse_moment(value: str) -> datetime:
    """Return an RFC 3339 time, in UTC; what UTC cannot spell is none.

    A plus that was not percent-encoded arrives as a space, and is taken for a plus.
    """
    rule = "must be an RFC 3339 time with an offset, such as 2025-12-01T10:00:00Z"
    repaired = re.sub(r" (\d\d:?\d\d)$", r"+\1", value)
    try:
        moment = msgspec.convert(repaired, type=datetime)
        if moment.tzinfo is None:
            raise ValueError(rule)
        return moment.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ValueError(rule) from error


def _limit(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value) or not 1 <= int(value) <= MAX_LIMIT:
        raise ValueError(f"must be a whole number from 1 to {MAX_LIMIT}")
    return int(value)


def _encode(after: int) -> str:
    return base64.urlsafe_b64encode(struct.pack(">q", after)).decode().rstrip("=")


def _cursor(value: str) -> int:
    try:
        packed = base64.b64decode(f"{value}=", altchars=b"-_", validate=True)
        (after,) = struct.unpack(">q", packed)
    except (binascii.Error, struct.error, ValueError) as error:
        raise ValueError("is not one that a list gave out") from error
    if after < 1 or _encode(after) != value:
        raise ValueError("is not one that a list gave out")
    return int(after)
