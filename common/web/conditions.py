"""Entity tags, and the conditions that requests put on them (RFC 9110, 13)."""

import re

from flask import request

from common.errors import InvalidRequestError


def etag(version: int | str) -> str:
    """Return the strong entity tag of a version."""
    return f'"{version}"'


_VERSION = re.compile(r'"[1-9][0-9]{0,18}"')  # as `etag` makes it


def if_match() -> frozenset[int] | None:
    """Return the versions that If-Match names, compared strongly; None for any."""
    tags = _tags("If-Match")
    if tags is None or "*" in tags:
        return None
    return frozenset(int(tag[1:-1]) for tag in tags if _VERSION.fullmatch(tag))


def is_none_match(version: int | str) -> bool:
    """Return whether If-None-Match, compared weakly, does not name this version."""
    tags = {tag.removeprefix("W/") for tag in _tags("If-None-Match") or ()}
    return tags.isdisjoint(("*", etag(version)))


_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
# A list may have empty elements (RFC 9110, 5.6.1).
_ELEMENT = rf"[ \t]*(?:{_TAG}[ \t]*)?"
_TAG_LIST = re.compile(rf"{_ELEMENT}(?:,{_ELEMENT})*")


def _tags(header: str) -> list[str] | None:
    """Return the tags in a header, None if it is absent; raise InvalidRequestError."""
    value = request.headers.get(header)
    if value is None:
        return None
    if value.strip(" \t") == "*":
        return ["*"]
    if not _TAG_LIST.fullmatch(value):
        raise InvalidRequestError.of(header, 'must be * or a list of "entity tags"')
    return re.findall(_TAG, value)
