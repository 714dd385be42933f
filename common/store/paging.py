"""Query parameters, those of lists above all; and the link to the next page.

A cursor is opaque to callers. It contains only the last id they saw, so it stays valid
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
# How many of a caller's rows a filtered page scans at most, matching or not.
MAX_ROWS_SCANNED = 10_000

Parser = Callable[[str], Any]


class ListQuery(Struct, frozen=True):
    """A validated list request. `after` is the last id of the page before."""

    filters: dict[str, Any]
    limit: int
    after: int | None


def parse_query(args: MultiDict[str, str], parsers: Mapping[str, Parser]) -> ListQuery:
    """Return the query; each of `parsers` raises ValueError with the rule it checks.

    Unknown parameters are ignored. Raise InvalidRequestError naming every invalid one.
    """
    limits = {"limit": _parse_limit, "cursor": _parse_cursor}
    values = parse_parameters(args, limits | dict(parsers))
    return ListQuery(
        limit=values.pop("limit", DEFAULT_LIMIT),
        after=values.pop("cursor", None),
        filters=values,
    )


def parse_parameters(
    args: MultiDict[str, str], parsers: Mapping[str, Parser]
) -> dict[str, Any]:
    """Return the value of each parameter that is given and has a parser.

    Raise InvalidRequestError naming every invalid one.
    """
    values: dict[str, Any] = {}
    errors: dict[str, list[str]] = {}
    for name, parser in parsers.items():
        texts = args.getlist(name)
        if not texts:
            continue
        try:
            if len(texts) > 1:
                raise ValueError("must be given once")  # noqa: TRY301 as parsers do
            values[name] = parser(texts[0])
        except ValueError as error:
            errors[name] = [str(error)]
    if errors:
        raise InvalidRequestError.of_all(errors)
    return values


def next_query(query: ListQuery, after: int) -> str:
    """Return the query string of the page after `after`.

    It has the same filters as `query`, in one spelling, and no unknown parameters,
    which may be longer than a server accepts once they are encoded.
    """
    limit = {} if query.limit == DEFAULT_LIMIT else {"limit": query.limit}
    parameters = limit | query.filters | {"cursor": _encode_cursor(after)}
    return _query_string(parameters)


def filters_query(query: ListQuery) -> str:
    """Return the query string of the filters alone."""
    return _query_string(query.filters)


def _query_string(parameters: Mapping[str, Any]) -> str:
    return urlencode({name: _text(value) for name, value in parameters.items()})


def next_link(path: str, query: ListQuery, after: int) -> str:
    """Return the Link header (RFC 8288) to the page after `after`."""
    return f'<{path}?{next_query(query, after)}>; rel="next"'


def _text(value: object) -> str:
    """Return a parameter's value as the parsers of this module accept it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)


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
    """Return the value of `true` or `false`, in any case."""
    if value.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return value.lower() == "true"


def parse_uuid_filter(value: str) -> str:
    """Return a UUID in its canonical form."""
    parsed = parse_uuid(value)
    if parsed is None:
        raise ValueError("must be a UUID")
    return str(parsed)


def parse_text(value: str) -> str:
    """Return a text that PostgreSQL can hold."""
    if "\0" in value:
        raise ValueError("must not contain NUL characters")
    return value


def parse_moment(value: str) -> datetime:
    """Return an RFC 3339 time in UTC, if it is within the years 1 to 9999 there.

    A plus that was not percent-encoded arrives as a space, and is accepted as a plus.
    """
    rule = "must be an RFC 3339 time with an offset, such as 2025-12-01T10:00:00Z"
    with_plus = re.sub(r" (\d\d:?\d\d)$", r"+\1", value)
    try:
        moment = msgspec.convert(with_plus, type=datetime)
        if moment.tzinfo is None:
            raise ValueError(rule)
        return moment.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ValueError(rule) from error


def _parse_limit(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value) or not 1 <= int(value) <= MAX_LIMIT:
        raise ValueError(f"must be a whole number from 1 to {MAX_LIMIT}")
    return int(value)


def _encode_cursor(after: int) -> str:
    return base64.urlsafe_b64encode(struct.pack(">q", after)).decode().rstrip("=")


def _parse_cursor(value: str) -> int:
    try:
        packed = base64.b64decode(f"{value}=", altchars=b"-_", validate=True)
        (after,) = struct.unpack(">q", packed)
    except (binascii.Error, struct.error, ValueError) as error:
        raise ValueError("is not a cursor that a list returned") from error
    if after < 1 or _encode_cursor(after) != value:
        raise ValueError("is not a cursor that a list returned")
    return int(after)
