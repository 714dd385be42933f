"""Hold what a function returned against what the API document says it may return.

Shapes are closed here, though the document leaves them open: a field that is returned
and not documented is a mistake of ours, not of a caller.
"""

import copy
import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema_rs import Draft202012Validator
from werkzeug.test import TestResponse

from common.api_docs import documents

PROBLEM = {"$ref": "#/components/schemas/Problem"}
# What HTTP itself brings along, and what is the same for all replies or pages.
UNREMARKABLE = {
    "cache-control",
    "connection",
    "content-length",
    "content-security-policy",
    "content-type",
    "date",
    "referrer-policy",
    "x-content-type-options",
    "x-request-id",
}


@functools.cache
def closed_document() -> dict[str, Any]:
    """Return the document, with no room for fields that it does not name.

    Kinds of problems add members to `Problem`, so those stay open.
    """
    found = copy.deepcopy(documents.parsed("openapi"))
    for name, schema in found["components"]["schemas"].items():
        if "properties" in schema and not name.endswith("Problem"):
            schema["additionalProperties"] = False
    return found


def resolve(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of the document, or what it refers to."""
    return documents.resolve(closed_document(), part)


def checked(schema: dict[str, Any]) -> Draft202012Validator:
    """Return a validator that looks at formats, too."""
    return Draft202012Validator(schema, validate_formats=True)


@functools.cache
def _validator(schema: str) -> Draft202012Validator:
    rooted = json.loads(schema) | {"components": closed_document()["components"]}
    return checked(rooted)


def validate(value: object, schema: dict[str, Any]) -> None:
    """Fail unless `value` has the shape of a schema of the document."""
    _validator(json.dumps(schema)).validate(value)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and operation of everything that is documented."""
    for method, path, operation in documents.operations(closed_document()):
        yield method.upper(), path, operation


def about_one() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and operation of all that is about one order or item."""
    yield from (each for each in operations() if "{id}" in each[1])


def reads_of_one() -> list[str]:
    """Return the paths at which one order or item, or a part of it, is read."""
    return [path for method, path, _ in about_one() if method == "GET"]


def path_of(path: str, order: Mapping[str, Any]) -> str:
    """Return a documented path with the id of the order, or of its first item."""
    subject = order["items"][0] if "/order-items/" in path else order
    return path.replace("{id}", str(subject["id"]))


def example_of(schema: dict[str, Any]) -> Any:
    """Return the example of a schema, in a list if it is one of lists.

    Where any of several schemas will do, it is the first one's.
    """
    schema = resolve(schema.get("anyOf", [schema])[0])
    if schema.get("type") == "array":
        return [example_of(schema["items"])]
    examples = schema.get("examples")
    assert examples, f"this schema of the document needs `examples`: {schema}"
    return examples[0]


@functools.cache
def _patterns() -> list[tuple[str, re.Pattern[str], dict[str, Any]]]:
    return [
        (method, re.compile(re.sub(r"{\w+}", "[^/]+", path).rstrip("/") + "/?"), told)
        for method, path, told in operations()
    ]


def operation_for(method: str, path: str) -> dict[str, Any] | None:
    """Return the operation that a request is for, if there is one."""
    for its_method, pattern, operation in _patterns():
        if its_method == method and pattern.fullmatch(path):
            return operation
    return None


def documented(response: TestResponse) -> TestResponse:
    """Return the response, having checked it if its operation is documented."""
    asked = response.request
    if operation := operation_for(asked.method, asked.path):
        headers = dict(response.headers)
        check(operation, response.status_code, headers, response.data)
    return response


def check(
    operation: dict[str, Any], status: int, headers: Mapping[str, str], body: bytes
) -> None:
    """Fail unless a reply is documented: status, headers, media type, body, type."""
    where = f"{operation['operationId']}: {status}"
    responses = operation["responses"]
    # Of what any request can meet, the type of problem is looked at below.
    reply = resolve(responses.get(str(status), responses["default"]))

    given = {name.lower(): value for name, value in headers.items()}
    assert given.get("x-request-id"), f"{where} has no X-Request-ID"
    known = {name.lower() for name in reply.get("headers", {})}
    unknown = given.keys() - known - UNREMARKABLE
    assert not unknown, f"{where} has headers that are not documented: {unknown}"

    content = reply.get("content", {})
    if not content:
        assert body == b"", f"{where} has a body that is not documented"
        return
    media_type = given["content-type"].partition(";")[0].strip()
    assert media_type in content, f"{where} is {media_type!r}"
    if media_type.endswith("json"):
        validate(json.loads(body), content[media_type]["schema"])
    if media_type == "application/problem+json":
        if content[media_type]["schema"] == PROBLEM:
            more = json.loads(body).keys() - resolve(PROBLEM)["properties"].keys()
            assert not more, f"{where} has members that are not documented: {more}"
        slug = json.loads(body)["type"].removeprefix("/problems/")
        slugs = content[media_type]["examples"]
        assert slug in slugs, f"{where}, {slug}, is not documented"
        told = resolve(slugs[slug])["value"]["status"]
        assert told == status, f"{where}, {slug}, is said to be a {told}"
