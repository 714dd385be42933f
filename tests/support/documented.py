"""Holds what a function answered against what the API document says it may answer.

Lives here: `documented(response)`. Not here: which answers are tried. Surprise: shapes
are closed here, though the document leaves them open: a field that is answered and not
documented is a mistake of ours, not of a caller.
"""

import copy
import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
from werkzeug.test import TestResponse

from common.openapi import document

CLOSED = ("Item", "Order", "CheckoutReply", "TimelineEntry", "TimelineEvent")
PROBLEM = {"$ref": "#/components/schemas/Problem"}
# What HTTP itself brings along, and what is the same for all pages.
UNREMARKABLE = {
    "connection",
    "content-length",
    "content-security-policy",
    "content-type",
    "date",
    "referrer-policy",
    "x-content-type-options",
}


@functools.cache
def closed_document() -> dict[str, Any]:
    """Answer the document, with no room for fields that it does not name."""
    found = copy.deepcopy(document())
    for name in CLOSED:
        found["components"]["schemas"][name]["additionalProperties"] = False
    return found


def resolve(part: dict[str, Any]) -> dict[str, Any]:
    """Answer a part of the document, or what it refers to."""
    while "$ref" in part:
        found: Any = closed_document()
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        part = found
    return part


def validate(value: object, schema: dict[str, Any]) -> None:
    """Fail unless `value` has the shape of a schema of the document."""
    rooted = schema | {"components": closed_document()["components"]}
    jsonschema.Draft202012Validator(
        rooted, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    ).validate(value)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and operation of everything that is documented."""
    for path, item in closed_document()["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def operation_for(method: str, path: str) -> dict[str, Any]:
    """Answer the operation that a request is for."""
    for documented_method, template, operation in operations():
        pattern = re.sub(r"{\w+}", "[^/]+", template).rstrip("/")
        if documented_method == method and re.fullmatch(pattern + "/?", path):
            return operation
    raise AssertionError(f"{method} {path} is not documented")


def documented(response: TestResponse) -> TestResponse:
    """Answer the response, having checked status, headers, media type and body."""
    asked = response.request
    check(
        operation_for(asked.method, asked.path),
        response.status_code,
        dict(response.headers),
        response.data,
    )
    return response


def check(
    operation: dict[str, Any], status: int, headers: Mapping[str, str], body: bytes
) -> None:
    """Fail unless an answer is documented: status, headers, media type, body, type."""
    told = f"{operation['operationId']}: {status}"
    responses = operation["responses"]
    assert str(status) in responses, f"{told} is not documented"
    reply = resolve(responses[str(status)])

    known = {name.lower() for name in reply.get("headers", {})}
    unknown = {name.lower() for name in headers} - known - UNREMARKABLE
    assert not unknown, f"{told} has headers that are not documented: {unknown}"

    content = reply.get("content", {})
    if not content:
        assert body == b"", f"{told} has a body that is not documented"
        return
    given = {name.lower(): value for name, value in headers.items()}["content-type"]
    media_type = given.partition(";")[0].strip()
    assert media_type in content, f"{told} is {media_type!r}"
    if media_type.endswith("json"):
        validate(json.loads(body), content[media_type]["schema"])
    if media_type == "application/problem+json":
        if content[media_type]["schema"] == PROBLEM:
            more = json.loads(body).keys() - resolve(PROBLEM)["properties"].keys()
            assert not more, f"{told} has members that are not documented: {more}"
        slug = json.loads(body)["type"].removeprefix("/problems/")
        slugs = content[media_type]["examples"]
        assert slug in slugs, f"{told}, {slug}, is not documented"
