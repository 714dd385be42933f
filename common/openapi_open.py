"""What anybody may ask for: how a function is, this document, problem types, pages.

Lives here: the API document's operations that need no caller. Not here: all others
(`openapi_operations.py`), what both refer to (`openapi_components.py`). Surprise: what
is the same for everybody has an ETag and is worth keeping for a while.
"""

from typing import Any

JSON = "application/json"
# What each format of the document is called, the first where nothing else is said.
DOCUMENT_TYPES = {
    JSON: "json",
    "application/yaml": "yaml",
    "application/vnd.oai.openapi+json": "json",
    "application/vnd.oai.openapi": "yaml",
}
HTML = "text/html"

Part = dict[str, Any]


def _ref(kind: str, name: str) -> Part:
    return {"$ref": f"#/components/{kind}/{name}"}


_OBJECT = {"schema": {"type": "object"}}
_TEXT = {"schema": {"type": "string"}}
_PAGE = {HTML: _TEXT}
_UP = {
    "type": "object",
    "properties": {"status": {"type": "string", "const": "ok"}},
    "required": ["status"],
}
_UP_CONTENT = {JSON: {"schema": _UP, "example": {"status": "ok"}}}
_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "The last part of a problem's `type`",
    "schema": {"type": "string", "examples": ["cart-repaired"]},
}
_REFUSALS = {
    "413": "BodyTooLarge",
    "500": "InternalError",
}


def _format(*names: str) -> Part:
    return {
        "name": "format",
        "in": "query",
        "description": "Instead of an `Accept`",
        "schema": {"type": "string", "enum": list(names)},
    }


def _operation(
    name: str, tag: str, summary: str, replies: Part, parameters: tuple[Part, ...] = ()
) -> Part:
    refusals = {status: _ref("responses", kind) for status, kind in _REFUSALS.items()}
    replies["200"]["headers"] = replies["200"].get("headers", {}) | {
        "X-Request-ID": _ref("headers", "X-Request-ID")
    }
    operation = {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "security": [],
        "parameters": [*parameters, _ref("parameters", "X-Request-ID")],
        "responses": dict(sorted((replies | refusals).items())),
    }
    return {"get": operation}


def _health(name: str, summary: str, meaning: str, replies: Part) -> Part:
    up = {"description": meaning, "content": _UP_CONTENT}
    return _operation(name, "Health", summary, replies | {"200": up})


def _kept(
    name: str,
    summary: str,
    found: Part,
    parameters: tuple[Part, ...] = (),
    replies: Part | None = None,
) -> Part:
    """Answer the operation of something that is kept by whoever has asked for it."""
    # With a choice of media types, it is the caller's `Accept` that chooses.
    is_negotiated = len(found["content"]) > 1
    names = ["ETag", "Cache-Control", *(["Vary"] if is_negotiated else [])]
    headers = {name: _ref("headers", name) for name in names}
    all_replies = dict(replies or {})
    all_replies["200"] = found | {"headers": headers}
    all_replies["304"] = {
        "description": "What the caller has is the newest",
        "headers": headers | {"X-Request-ID": _ref("headers", "X-Request-ID")},
    }
    all_replies["503"] = _ref("responses", "Busy")
    if is_negotiated:
        all_replies["406"] = _ref("responses", "NotAcceptable")
    parameters = (*parameters, _ref("parameters", "If-None-Match"))
    return _operation(name, "Documentation", summary, all_replies, parameters)


OPEN_PATHS = {
    "/health/live": _health(
        "health_live", "Tell whether the process answers", "It does", {}
    ),
    "/health/ready": _health(
        "health_ready",
        "Tell whether the function can serve",
        "It can",
        {"503": _ref("responses", "NotReady")},
    ),
    "/openapi.json": _kept(
        "openapi_document",
        "This document",
        {"description": "An OpenAPI 3.1 document", "content": {JSON: _OBJECT}},
    ),
    "/api/schema/": _kept(
        "schema_document",
        "This document, as JSON or YAML",
        {
            "description": "An OpenAPI 3.1 document",
            "content": dict.fromkeys(DOCUMENT_TYPES, _OBJECT),
        },
        parameters=(_format("json", "yaml"),),
        replies={"400": _ref("responses", "InvalidRequest")},
    ),
    "/api/schema/events/": _kept(
        "event_document",
        "What the service publishes, for programs and for people",
        {
            "description": "An AsyncAPI 3.0 document, or a page",
            "content": dict.fromkeys((JSON, "application/yaml"), _OBJECT) | _PAGE,
        },
        parameters=(_format("json", "yaml", "html"),),
        replies={"400": _ref("responses", "InvalidRequest")},
    ),
    "/api/schema/swagger-ui/": _kept(
        "swagger_ui",
        "The API in Swagger UI",
        {"description": "A page for people", "content": _PAGE},
    ),
    "/api/schema/redoc/": _kept(
        "redoc",
        "The API in ReDoc",
        {"description": "A page for people", "content": _PAGE},
    ),
    "/problems/": _kept(
        "list_problem_types",
        "What can go wrong, and what to do then",
        {
            "description": "Every type, as a page or as JSON",
            "content": _PAGE
            | {
                JSON: {
                    "schema": {"type": "array", "items": _ref("schemas", "ProblemType")}
                }
            },
        },
    ),
    "/problems/{name}": _kept(
        "get_problem_type",
        "One type of problem",
        {
            "description": "The type, as a page or as JSON",
            "content": _PAGE | {JSON: {"schema": _ref("schemas", "ProblemType")}},
        },
        parameters=(_NAME,),
        replies={"404": _ref("responses", "NotFound")},
    ),
}
