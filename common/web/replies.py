"""Replies in JSON, with an entity tag where there is a version."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flask import Response

from common.json import encode
from common.web.conditions import etag, is_none_match

if TYPE_CHECKING:  # so that a function without a database loads no driver
    from common.store.reads import Document

JSON = "application/json"


def json_response(
    value: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return `value` as JSON; a string is JSON already."""
    text = value if isinstance(value, str) else encode(value)
    return Response(text, status, headers, content_type=JSON)


def document(found: "Document") -> Response:
    """Return a document with its ETag, or 304 if the caller has that version."""
    headers = {"ETag": etag(found.version), "Cache-Control": "private, no-cache"}
    if not is_none_match(found.version):
        return Response(status=304, headers=headers)
    return json_response(found.body, headers=headers)
