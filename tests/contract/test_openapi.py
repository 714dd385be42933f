"""The API document: valid, whole, and told as the functions have it.

Lives here: what can be held against the code without a database. Not here: real
answers (tests/functions/test_documented_replies.py). Surprise: the functions' modules
are run as they stand, once each, for their route tables alone.
"""

import json
import os
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from common import (
    errors,
    http,
    openapi,
    paging,
    problem_types,
    problems,
    schemas,
    wiring,
)
from common.errors import ServiceError
from common.openapi import document
from tests.support.documented import operations, resolve, validate

FUNCTIONS = Path(__file__).parents[2] / "functions"
NAMES = sorted(path.parent.name for path in FUNCTIONS.glob("*/main.py"))
OPEN = ("/health", "/openapi", "/api/schema", "/problems")
# Called by schedulers and triggers, by nobody else.
INTERNAL = {"approval_handler", "ops_console", "outbox_relay"}
# What only the documentation's own pages load.
NOT_FOR_CALLERS = {("GET", "/api/schema/assets/{}")}
HEALTH = {("GET", "/health/live"), ("GET", "/health/ready")}
ENVIRON = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1/nothing",
    "EVENT_BUS": "http",
    "EVENT_SINK_URL": "http://127.0.0.1/events",
    "SHOPCART_SERVICE": "http://127.0.0.1/shopcart",
    "PRODUCT_SERVICE": "http://127.0.0.1/product",
    "LOG_LEVEL": "WARNING",
}

Modules = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def modules() -> Iterator[Modules]:
    with mock.patch.dict(os.environ, ENVIRON):
        yield {
            name: runpy.run_path(str(FUNCTIONS / name / "main.py")) for name in NAMES
        }
    wiring.close()
    wiring._needs.clear()


def routes(module: dict[str, Any]) -> set[tuple[str, str]]:
    """Answer method and path of each route, as the document spells them."""
    return {
        (method, re.sub(r"<[^>]+>", "{}", rule.rule).rstrip("/"))
        for rule in module["app"].url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }


def described() -> set[tuple[str, str]]:
    return {
        (method, re.sub(r"{[^}]+}", "{}", path).rstrip("/"))
        for method, path, _ in operations()
    }


def slugs_of(operation: dict[str, Any]) -> set[str]:
    """Answer the problems that an operation is said to answer, by slug."""
    replies = [resolve(reply) for reply in operation["responses"].values()]
    contents = [reply.get("content", {}) for reply in replies]
    problems = [content.get(openapi.PROBLEM_JSON, {}) for content in contents]
    return {slug for problem in problems for slug in problem.get("examples", {})}


def every_error(of: type[ServiceError] = ServiceError) -> list[type[ServiceError]]:
    return [of, *(e for each in of.__subclasses__() for e in every_error(each))]


def test_the_document_is_valid_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(document()).validate()


def test_the_document_is_the_same_every_time_but_for_its_server() -> None:
    assert json.dumps(document()) == json.dumps(document())
    assert document() | {"servers": []} == document("..") | {"servers": []}


def test_every_route_of_every_function_is_in_the_document(modules: Modules) -> None:
    for name in set(NAMES) - INTERNAL:
        assert routes(modules[name]) <= described() | NOT_FOR_CALLERS, name


def test_every_operation_of_the_document_is_a_route(modules: Modules) -> None:
    answered = {route for name in NAMES for route in routes(modules[name])}
    assert described() <= answered


def test_every_function_says_how_it_is(modules: Modules) -> None:
    for name in NAMES:
        assert routes(modules[name]) >= HEALTH, name


def test_lists_take_the_filters_that_are_documented(modules: Modules) -> None:
    crud = modules["orders_crud"]
    for path, filters in (
        ("/api/orders/", crud["ORDER_FILTERS"]),
        ("/api/order-items/", crud["ITEM_FILTERS"]),
    ):
        parameters = [
            resolve(p) for p in document()["paths"][path]["get"]["parameters"]
        ]
        in_query = {p["name"] for p in parameters if p["in"] == "query"}
        assert in_query == {"limit", "cursor", *filters}


def test_the_limits_that_are_documented_are_those_of_the_code() -> None:
    parameters = document()["components"]["parameters"]
    assert parameters["limit"]["schema"]["maximum"] == paging.MAX_LIMIT
    key = parameters["Idempotency-Key"]["schema"]
    assert key["maxLength"] == http.MAX_KEY_LENGTH
    for slug, (status, title) in problem_types.TRANSPORT_PROBLEMS.items():
        assert problems._TITLES[status] == (slug, title)


@pytest.mark.parametrize(
    "error", [e for e in every_error() if e is not errors.ConflictError]
)
def test_every_error_is_documented_where_it_can_occur(
    error: type[ServiceError],
) -> None:
    example = document()["components"]["examples"][error.slug]["value"]
    assert example["status"] == error.status
    assert example["title"] == example["error"] == error.title
    assert any(error.slug in slugs_of(operation) for _, _, operation in operations())


def test_who_needs_an_identity_can_be_told_that_it_is_missing() -> None:
    for method, path, operation in operations():
        is_open = operation.get("security") == []
        assert is_open == path.startswith(OPEN)
        assert is_open != ("401" in operation["responses"]), (method, path)


def test_every_write_says_how_it_is_repeated_safely() -> None:
    wanted = {"POST": "Idempotency-Key", "PATCH": "If-Match", "DELETE": "If-Match"}
    for method, path, operation in operations():
        named = {resolve(p)["name"] for p in operation["parameters"]}
        if method in wanted:
            assert wanted[method] in named, (method, path)


def test_every_reply_but_an_internal_trigger_carries_the_request_id() -> None:
    for method, path, operation in operations():
        for status, reply in operation["responses"].items():
            assert "X-Request-ID" in resolve(reply)["headers"], (method, path, status)


def test_examples_have_the_shape_they_are_examples_of() -> None:
    for name, schema in document()["components"]["schemas"].items():
        for example in schema.get("examples", []):
            validate(example, {"$ref": f"#/components/schemas/{name}"})
    for example in document()["components"]["examples"].values():
        validate(example["value"], {"$ref": "#/components/schemas/Problem"})
    repaired = document()["components"]["examples"]["cart-repaired"]["value"]
    validate(repaired, {"$ref": "#/components/schemas/CartRepairedProblem"})


@pytest.mark.parametrize(
    "shape",
    [
        schemas.NewOrder,
        schemas.NewItem,
        schemas.OrderPatch,
        schemas.ItemPatch,
        schemas.StatusPatch,
    ],
)
def test_the_example_of_a_request_is_accepted(shape: type) -> None:
    [example] = document()["components"]["schemas"][shape.__name__]["examples"]
    schemas.decode(json.dumps(example).encode(), shape)


def test_no_address_of_a_machine_is_in_the_document() -> None:
    assert not re.search(r"https?://", json.dumps(document()))
