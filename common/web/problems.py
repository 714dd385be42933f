"""Turn an exception into a problem document (RFC 9457).

The member `error` repeats the title, because older front ends read only that.
"""

import random
from collections.abc import Mapping
from typing import Any

from flask import Response, request
from werkzeug.exceptions import HTTPException

from common.errors import ServiceError, UnauthenticatedError
from common.json import encode

PROBLEM_JSON = "application/problem+json"


def problem(error: ServiceError, more: Mapping[str, Any] | None = None) -> Response:
    """Return the problem document of an error, with `more` members."""
    members = _members(error.slug, error.title, error.status, error.detail)
    if error.errors:
        members["errors"] = error.errors
    members |= {**error.extra, **(more or {})}
    response = Response(encode(members), error.status, content_type=PROBLEM_JSON)
    seconds = error.retry_after_seconds
    if seconds is not None:
        # Spread, so that callers who were refused together do not return together.
        seconds = random.randint(seconds, 2 * seconds)  # noqa: S311
        response.headers["Retry-After"] = str(seconds)
    if isinstance(error, UnauthenticatedError):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


_TITLES = {
    400: ("invalid-request", "Invalid request"),
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "Method not allowed"),
    413: ("body-too-large", "Body too large"),
    415: ("unsupported-media-type", "Unsupported media type"),
}


def http_problem(error: HTTPException) -> Response:
    """Return the problem of an error of Flask's: route, method, media type, size."""
    status = error.code or 500
    slug, title = _TITLES.get(status, ("", error.name))
    members = _members(slug, title, status, error.description or title)
    if not slug:  # the status says it all (RFC 9457, 4.2.1)
        members["type"] = "about:blank"
    response = Response(encode(members), status, content_type=PROBLEM_JSON)
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers[name] = value
    return response


def defect() -> Response:
    """Return the 500 for a defect of ours, without details."""
    return problem(ServiceError("Something went wrong on our side."))


def _members(slug: str, title: str, status: int, detail: str) -> dict[str, Any]:
    return {
        "type": f"/problems/{slug}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": request.path,
        "error": title,
    }
