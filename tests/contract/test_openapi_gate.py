"""No change breaks a caller of the last release, unless the major version says so.

Lives here: today's document against the released one, and a copy broken in each way.
Not here: whether the document is true (tests/functions/test_openapi_requests.py).
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from common.openapi import document
from infra.api_gate import __main__ as command
from infra.api_gate.changes import breaking_changes

ORDERS = ("paths", "/api/orders/")
POST = (*ORDERS, "post")
ITEM = ("paths", "/api/order-items/{id}/")
SCHEMAS = ("components", "schemas")
NEW_ITEM = (*SCHEMAS, "NewItem")
FIELD = (*SCHEMAS, "Item", "properties")
LIMIT = ("components", "parameters", "limit")
GONE = object()

# What is done where, and what is said of it, in part.
BREAKAGES: list[tuple[tuple[str | int, ...], object, str]] = [
    (ORDERS, GONE, "GET /api/orders/: the path is gone"),
    (POST, GONE, "POST /api/orders/: the operation is gone"),
    ((*POST, "responses", "201"), GONE, "POST /api/orders/, 201: the status is gone"),
    (
        (*POST, "responses", "201", "headers", "Location"),
        GONE,
        "201, header Location: is gone",
    ),
    (
        (*POST, "responses", "201", "content"),
        {"application/hal+json": {}},
        "201, application/json: is gone",
    ),
    (
        (*POST, "requestBody", "content"),
        {"application/xml": {}},
        "POST /api/orders/, application/json body: is gone",
    ),
    (
        ("paths", "/api/orders-from-shopcart/", "post", "requestBody"),
        {"required": True, "content": {}},
        "body: is required now",
    ),
    (
        ("paths", "/openapi.json", "get", "security"),
        [{"token": []}],
        "GET /openapi.json: nobody may no longer call it",
    ),
    (("security",), [{"token": []}], "['userId'] may no longer call it"),
    ((*LIMIT, "required"), True, "GET /api/orders/, query limit: is required now"),
    ((*LIMIT, "name"), "size", "query limit: is gone"),
    ((*LIMIT, "schema", "maximum"), 100, "limit: maximum 200 against 100"),
    ((*LIMIT, "schema", "minimum"), 2, "limit: minimum 1 against 2"),
    ((*LIMIT, "schema", "type"), "string", "query limit: type integer"),
    (
        ("components", "parameters", "status", "schema", "enum"),
        [1, 2, 3],
        "query status: values [4] (no longer taken)",
    ),
    (
        ("components", "parameters", "cursor", "schema", "pattern"),
        "^a",
        "query cursor: pattern",
    ),
    (
        (*NEW_ITEM, "required"),
        ["order", "product_variation", "quantity"],
        "body.quantity: may be absent (no longer taken)",
    ),
    ((*NEW_ITEM, "properties", "quantity"), GONE, "body.quantity: is gone"),
    (
        (*NEW_ITEM, "properties", "quantity", "maximum"),
        9,
        "body.quantity: maximum 10000 against 9",
    ),
    ((*NEW_ITEM, "properties", "order", "type"), "string", "body.order: type integer"),
    ((*NEW_ITEM, "additionalProperties"), False, "body: other fields (no longer"),
    (
        (*SCHEMAS, "NewOrder", "properties", "metadata", "additionalProperties"),
        {"type": "string", "maxLength": 5},
        "body.metadata.*: maxLength 500 against 5",
    ),
    (
        (*SCHEMAS, "NewOrder", "properties", "user_id"),
        {"type": "string", "format": "uuid"},
        "body.user_id: type null (no longer taken)",
    ),
    ((*SCHEMAS, "ItemPatch", "not"), {"required": ["quantity"]}, "body: not"),
    ((*FIELD, "price"), GONE, "body[].price: is gone"),
    ((*FIELD, "shop_id"), GONE, "body.items[].shop_id: is gone"),
    (
        (*SCHEMAS, "Item", "required"),
        ["id"],
        "body[].price: may be absent (not answered before)",
    ),
    (
        (*FIELD, "price", "type"),
        ["integer", "null"],
        "body[].price: type null (not answered before)",
    ),
    ((*FIELD, "price", "type"), "number", "body[].price: type number"),
    ((*FIELD, "status", "maximum"), 5, "status: maximum 5 against 4 (not answered"),
    ((*FIELD, "product_variation", "format"), GONE, "format none against uuid"),
    (
        (
            *SCHEMAS,
            "CartRepairedProblem",
            "allOf",
            1,
            "properties",
            "details",
            "items",
            "properties",
            "action",
            "enum",
        ),
        ["quantity_updated", "removed", "kept"],
        "values ['kept'] (not answered before)",
    ),
]
FINE: list[tuple[tuple[str | int, ...], object]] = [
    (("paths", "/api/new/"), {"get": {"responses": {}}}),
    ((*ORDERS, "put"), {"responses": {}}),
    ((*POST, "responses", "418"), {"description": "New"}),
    ((*POST, "responses", "201", "headers", "X-New"), {"schema": {}}),
    ((*POST, "summary"), "Said better"),
    ((*POST, "security"), [{}]),
    ((*LIMIT, "schema", "maximum"), 500),
    ((*LIMIT, "schema", "minimum"), 0),
    ((*LIMIT, "schema", "type"), ["integer", "string"]),
    (("components", "parameters", "status", "schema", "enum"), [1, 2, 3, 4, 5]),
    ((*NEW_ITEM, "required"), ["order"]),
    ((*NEW_ITEM, "properties", "note"), {"type": "string"}),
    ((*NEW_ITEM, "properties", "quantity", "maximum"), 99_999),
    ((*FIELD, "note"), {"type": "string"}),
    ((*FIELD, "price", "minimum"), 1),
    ((*FIELD, "status", "maximum"), 3),
    ((*FIELD, "status"), {"enum": [1, 2, 3, 4]}),
    ((*FIELD, "shop_id"), {"type": "string", "format": "uuid"}),
]


def changed(place: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """Answer a copy of the document with something else in one place."""
    made = copy.deepcopy(document())
    part: Any = made
    for step in place[:-1]:
        part = part[step]
    if value is GONE:
        del part[place[-1]]
    else:
        part[place[-1]] = value
    return made


def test_nothing_breaks_a_caller_of_the_last_release() -> None:
    assert command.main([]) == 0


@pytest.mark.parametrize(
    ("place", "value", "said"),
    BREAKAGES,
    ids=[f"{n}-{each[0][-1]}" for n, each in enumerate(BREAKAGES)],
)
def test_a_change_that_breaks_callers_is_named(
    place: tuple[str | int, ...], value: object, said: str
) -> None:
    found = breaking_changes(document(), changed(place, value))
    assert [each for each in found if said in each], found


@pytest.mark.parametrize(
    ("place", "value"), FINE, ids=[f"{n}-{each[0][-1]}" for n, each in enumerate(FINE)]
)
def test_a_change_that_breaks_nobody_is_not_held_up(
    place: tuple[str | int, ...], value: object
) -> None:
    assert breaking_changes(document(), changed(place, value)) == []


def test_a_body_that_was_optional_stays_so() -> None:
    before = changed((*POST, "requestBody", "required"), value=False)
    [found] = breaking_changes(before, document())
    assert found == "POST /api/orders/, body: is required now"


def test_the_command_fails_and_keeps_the_released_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "released.json"
    released = changed((*FIELD, "was"), {"type": "string"})
    path.write_text(json.dumps(released))
    assert command.main(["--released", str(path), "--release", "--json"]) == 1
    told = capsys.readouterr()
    assert "body.was: is gone" in " ".join(json.loads(told.out)["breaking"])
    assert "API_VERSION" in told.err
    assert json.loads(path.read_text()) == released


def test_a_major_version_may_break_and_a_release_keeps_its_document(
    tmp_path: Path,
) -> None:
    path = tmp_path / "released.json"
    released = changed((*FIELD, "was"), {"type": "string"})
    released["info"]["version"] = "0.9.0"
    path.write_text(json.dumps(released))
    assert command.main(["--released", str(path), "--release"]) == 0
    assert json.loads(path.read_text()) == document()


def test_without_a_released_document_it_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--released", str(tmp_path / "none.json")]) == 2
    assert "--release" in capsys.readouterr().err
