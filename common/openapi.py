"""The API document: OpenAPI 3.1 from the table of operations, schemas and errors.

Lives here: what all operations of a kind share, and putting the parts together. Not
here: the operations (`openapi_operations.py`), the parts they refer to
(`openapi_components.py`), serving it (`functions/api_docs`). Surprise: the address of
the server is relative, because only a caller knows which prefix it came through.
"""

from typing import Any

from common import errors
from common.errors import ServiceError
from common.openapi_components import (
    EXAMPLES,
    HEADERS,
    PARAMETERS,
    shapes,
)
from common.openapi_open import OPEN_PATHS
from common.openapi_operations import OPERATIONS, Operation
from common.paging import MOST_LOOKED_AT
from common.problem_types import TRANSPORT_PROBLEMS, problem_types

API_VERSION = "1.0.0"
JSON = "application/json"
PROBLEM_JSON = "application/problem+json"

INTRODUCTION = f"""\
Orders of the platform: from a cart to an approved order.

- **Paths** answer with and without their trailing slash, and never redirect. Every
  path that answers `GET` answers `HEAD`; all answer `OPTIONS`. A method that a path
  does not have is a 405 with `Allow`.
- **Ownership**: what belongs to somebody else is answered like what does not exist.
- **Lists** are bare JSON arrays, newest id first; follow `Link` for the next page, also
  from one that is short or empty: a page looks at {MOST_LOOKED_AT:,} rows of yours at
  most, and a filter may leave out all of them.
- **Bodies**: unknown fields are ignored. At most 1 MiB, not compressed.
- **Versions**: reads and writes answer an `ETag`; `If-Match` keeps a write from
  overwriting what its caller has not seen.
- **Retries**: every `POST` takes an `Idempotency-Key`. A 503 is worth another try
  after `Retry-After`.
- **Money** is an integer in the smallest unit of the currency.
- **Statuses**: 1 Processing, 2 Shipped, 3 Delivered (final), 4 Cancelled (final).

Errors are `application/problem+json` (RFC 9457): each `type` is
explained at `/problems/`, and listed in the schema `Problem`.
"""
PROBLEM_TABLE = """

| type | status | meaning |
|---|---|---|
"""

TAGS = {
    "Checkout": "The caller's cart becomes an order.",
    "Orders": "What the caller has ordered.",
    "Order items": "The lines of the caller's orders.",
    "Item status": "For shops: what becomes of an item.",
    "Health": "Every function has these.",
    "Documentation": "This document, for programs and for people.",
}

SECURITY_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": (
            "From outside. The gateway verifies the user's token, sets `X-User-ID`"
            " from its `sub`, and passes it on."
        ),
    },
    "userId": {
        "type": "apiKey",
        "in": "header",
        "name": "X-User-ID",
        "description": (
            "Behind the gateway, and in a local run: the caller, a UUID. The gateway"
            " overwrites what a client sends."
        ),
    },
}

# Any request of a user's may find the database gone or too busy.
_SHARED = (
    ServiceError,
    errors.UnauthenticatedError,
    errors.InvalidRequestError,
    errors.DatabaseUnavailableError,
    errors.BusyError,
)


def document(server_url: str = ".") -> dict[str, Any]:
    """Answer the document; the same every time.

    `server_url` is where paths start, relative to where the document is read.
    """
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    examples = {
        name: {"summary": each.title, "value": each.example}
        for name, each in problem_types().items()
    }
    schemas = shapes()
    schemas["Problem"]["description"] += PROBLEM_TABLE + _problem_rows(examples)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Order service",
            "version": API_VERSION,
            "description": INTRODUCTION,
        },
        "servers": [{"url": server_url}],
        "security": [{"token": []}, {"userId": []}],
        "tags": [{"name": k, "description": v} for k, v in TAGS.items()],
        "paths": paths | OPEN_PATHS,
        "components": {
            "schemas": schemas,
            "parameters": PARAMETERS,
            "headers": HEADERS,
            "examples": examples,
            "responses": {
                "InternalError": _problem("Problem", [ServiceError.slug], "A defect"),
                "InvalidRequest": _problem(
                    "Problem", ["invalid-request"], "`errors` names what is wrong"
                ),
                "NotFound": _problem("Problem", ["not-found"], "There is none"),
                "NotAcceptable": _problem(
                    "Problem", ["not-acceptable"], "`detail` names what there is"
                ),
                "BodyTooLarge": _problem("Problem", ["body-too-large"], "Over 1 MiB"),
                "NotReady": _problem(
                    "NotReadyProblem",
                    ["database-unavailable", "busy"],
                    "`down` names what it waits for",
                    ["Retry-After"],
                ),
                "Busy": _problem("Problem", ["busy"], "Ask again", ["Retry-After"]),
                "MethodNotAllowed": _problem(
                    "Problem",
                    ["method-not-allowed"],
                    "The path has no such method",
                    ["Allow"],
                ),
            },
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def _problem_rows(examples: dict[str, Any]) -> str:
    problems = [example["value"] for example in examples.values()]
    problems.sort(key=lambda problem: (problem["status"], problem["type"]))
    rows = [f"| `{p['type']}` | {p['status']} | {p['detail']} |" for p in problems]
    return "\n".join(rows) + "\n"


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _refs(kind: str, names: list[str]) -> dict[str, dict[str, str]]:
    return {name: _ref(kind, name) for name in names}


def _operation(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": [_ref("parameters", name) for name in _parameters(operation)],
    }
    if operation.description:
        found["description"] = operation.description
    if operation.body is not None:
        media = {
            "schema": _ref("schemas", operation.body),
            "example": EXAMPLES[operation.body],
        }
        found["requestBody"] = {"required": True, "content": {JSON: media}}
    responses = _successes(operation) | _failures(operation)
    return found | {"responses": dict(sorted(responses.items()))}


def _parameters(operation: Operation) -> list[str]:
    found = ["id"] if operation.has_id else []
    found += operation.filters
    if operation.filters or operation.is_page:
        found += ["limit", "cursor"]
    if operation.filters:
        pass
    elif operation.method == "get":
        found.append("If-None-Match")
    elif operation.method == "post":
        found.append("Idempotency-Key")
    else:
        found.append("If-Match")
    return [*found, "X-Request-ID"]


def _successes(operation: Operation) -> dict[str, Any]:
    status, headers = {
        "get": ("200", ["ETag", "Cache-Control"]),
        "post": ("201", ["ETag", "Location", "Idempotency-Replayed"]),
        "patch": ("200", ["ETag"]),
        "delete": ("204", []),
    }[operation.method]
    if operation.filters:
        headers = ["Link"]
    elif operation.is_page:
        headers.append("Link")
    answer: dict[str, Any] = {
        "description": operation.replied if operation.reply else "It is gone",
        "headers": _refs("headers", [*headers, "X-Request-ID"]),
    }
    if operation.reply is not None:
        schema: dict[str, Any] = _ref("schemas", operation.reply)
        example: Any = EXAMPLES[operation.reply]
        if operation.filters or operation.is_page:
            schema, example = {"type": "array", "items": schema}, [example]
        answer["content"] = {JSON: {"schema": schema, "example": example}}
    found = {status: answer}
    if operation.reply == "CheckoutReply":
        again = "These very cart lines were ordered before: the same answer again"
        found["200"] = answer | {"description": again}
    if operation.method == "get" and not operation.filters:
        found["304"] = {
            "description": "What the caller has is still the newest",
            "headers": answer["headers"],
        }
    return found


def _errors(operation: Operation) -> list[type[ServiceError]]:
    """Answer what the operation can fail with: its own, and its kind's."""
    found: list[type[ServiceError]] = [*_SHARED, *operation.errors]
    if operation.has_id:
        found.append(errors.NotFoundError)
        if operation.method != "get":
            found.append(errors.PreconditionFailedError)
    if operation.method == "post":
        found += [errors.KeyReusedError, errors.InFlightError]
    return found


def _failures(operation: Operation) -> dict[str, Any]:
    slugs: dict[str, dict[str, bool]] = {}
    for error in _errors(operation):
        of_status = slugs.setdefault(str(error.status), {})
        of_status[error.slug] = error.retry_after_seconds is not None
    refused = ["body-too-large"]  # also where no body is expected
    refused += ["unsupported-media-type"] if operation.body is not None else []
    for slug in refused:
        slugs[str(TRANSPORT_PROBLEMS[slug][0])] = {slug: False}
    return {status: _failure(status, found) for status, found in slugs.items()}


def _failure(status: str, slugs: dict[str, bool]) -> dict[str, Any]:
    schema = "Problem"
    if errors.CartRepairedError.slug in slugs:
        schema = "CheckoutConflict"
    headers = ["Retry-After"] if any(slugs.values()) else []
    headers += ["WWW-Authenticate"] if status == "401" else []
    return _problem(schema, list(slugs), " · ".join(slugs), headers)


def _problem(
    schema: str, slugs: list[str], description: str, headers: list[str] | None = None
) -> dict[str, Any]:
    return {
        "description": description,
        "headers": _refs("headers", [*(headers or []), "X-Request-ID"]),
        "content": {
            PROBLEM_JSON: {
                "schema": _ref("schemas", schema),
                "examples": _refs("examples", slugs),
            }
        },
    }
