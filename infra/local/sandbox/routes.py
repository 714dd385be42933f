"""Make a sandbox service's Flask app from plain functions.

Paths are served exactly as written, with or without the trailing slash.
"""

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import msgspec
from flask import Flask, Response, request

Route = tuple[str, str, Callable[..., Response]]  # method, path, handler

# Decimals leave as numbers with the very digits they hold.
_encode = msgspec.json.Encoder(decimal_format="number").encode


def make_app(name: str, routes: Iterable[Route]) -> Flask:
    """Return a Flask app with these routes."""
    app = Flask(name)
    for method, path, view in routes:
        app.add_url_rule(path, f"{method} {path}", view, methods=[method])
    return app


def reply(content: object, status: int = 200) -> Response:
    """Return `content` as JSON."""
    return Response(_encode(content), status, mimetype="application/json")


def complain(status: int, detail: str) -> Response:
    """Return an error in the siblings' shape."""
    return reply({"detail": detail}, status)


def body_field(name: str, default: object = None) -> Any:  # noqa: ANN401
    """Return a field of the request's JSON object, `default` when there is none."""
    body = request.get_json(silent=True)
    return body.get(name, default) if isinstance(body, dict) else default


def is_int(value: object, at_least: int | None = None) -> bool:
    """Return whether the value is a whole number and no boolean."""
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return at_least is None or value >= at_least


def normal_uuid(text: object) -> str | None:
    """Return the UUID in lower case with dashes, None when it is none."""
    try:
        return str(UUID(text)) if isinstance(text, str) else None
    except ValueError:
        return None
