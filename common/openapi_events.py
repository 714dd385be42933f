"""How the API document tells of the event document: its forms, and what it refuses.

Lives here: the operation at `/api/schema/events/`. Not here: the event document itself
(`asyncapi.py`). Surprise: what all open paths share is given by the caller, which has
it.
"""

from collections.abc import Callable
from typing import Any


def event_document(open_path: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Answer the path item, made by `open_path` as those of other open paths are."""
    content: dict[str, Any] = {
        "application/json": {"schema": {"type": "object"}},
        "application/yaml": {"schema": {"type": "string"}},
        "text/html": {"schema": {"type": "string"}},
    }
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    replies: dict[str, Any] = {
        "200": {
            "description": "An AsyncAPI 3.0 document, or a page",
            "content": content,
        },
        "400": {
            "description": "`format` is none of these",
            "content": {"application/problem+json": problem},
        },
    }
    summary = "What the service publishes, for programs (JSON, YAML) and for people"
    found = open_path("event_document", "Documentation", summary, replies)
    form: dict[str, Any] = {
        "name": "format",
        "in": "query",
        "description": "Goes before `Accept`; without both it is JSON",
        "schema": {"type": "string", "enum": ["json", "yaml", "html"]},
    }
    found["get"]["parameters"].append(form)
    vary = {"description": "Names `Accept`", "schema": {"type": "string"}}
    for status in ("200", "304"):
        replies[status]["headers"] = {**replies[status]["headers"], "Vary": vary}
    return found
