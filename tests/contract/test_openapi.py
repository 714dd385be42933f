"""The API document against the code: routes, shapes, problems, limits.

Each rule reads a document and yields what is wrong with it. Real replies are held
against it by tests/support/documented.py, in every test that calls a function.
"""

import json
import os
import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import pytest
from msgspec import Struct
from openapi_spec_validator import OpenAPIV31SpecValidator

from common import errors, wiring
from common.api_docs.documents import operations, parsed, resolve
from common.domain import commands, model
from common.domain.commands import MAX_METADATA_KEYS
from common.store import paging
from common.web import problems
from common.web.keys import MAX_KEY_LENGTH
from tests.support import documented
from tests.support.environs import DATABASE_URL, SERVICES, SINK
from tests.support.shapes import differences, structs_of

FUNCTIONS = Path(__file__).parents[2] / "functions"
NAMES = sorted(path.parent.name for path in FUNCTIONS.glob("*/main.py"))
# Called by schedulers, triggers and operators, by nobody else.
INTERNAL = {"approval_handler", "ops_console", "outbox_relay"}
# What only the documentation's own pages load.
NOT_FOR_CALLERS = {("get", "/api/schema/assets/{}")}
HEALTH = {("get", f"/health/{name}") for name in ("live", "ready", "start")}
OPEN = ("/health", "/openapi", "/api/schema", "/problems")
# Of the parent class of conflicts, which only operators meet.
NEVER_RETURNED = {errors.ConflictError.slug}
# Replies that no struct describes, held by the tests of those replies.
WITHOUT_STRUCT = {"CartRepair", "ProblemType"}
WITHOUT_STRUCT |= {"Problem", "OrderedLine", "CartRepairedProblem", "NotReadyProblem"}
ENVIRON = {"DATABASE_URL": DATABASE_URL, "EVENT_BUS": "http", "LOG_LEVEL": "WARNING"}
ENVIRON |= SINK | SERVICES | {"OPS_IDENTITY": "header"}

Document = dict[str, Any]
Route = tuple[str, str]


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, dict[str, Any]]]:
    """Yield each function's module, run as it stands for its routes alone."""
    with mock.patch.dict(os.environ, ENVIRON):
        yield {
            name: runpy.run_path(str(FUNCTIONS / name / "main.py")) for name in NAMES
        }
    wiring.close()


@pytest.fixture(scope="module")
def routes(modules: dict[str, dict[str, Any]]) -> dict[str, set[Route]]:
    """Return method and path of each function's routes, as the document spells them."""
    return {
        name: {
            (method.lower(), re.sub(r"<[^>]+>", "{}", rule.rule).rstrip("/"))
            for rule in module["app"].url_map.iter_rules()
            if rule.endpoint != "static"
            for method in rule.methods - {"HEAD", "OPTIONS"}
        }
        for name, module in modules.items()
    }


def every_error(of: type[errors.ServiceError]) -> Iterator[type[errors.ServiceError]]:
    yield of
    for each in of.__subclasses__():
        yield from every_error(each)


# What PostgreSQL builds, of which the service itself knows no shape.


class TimelineEvent(Struct):
    """What siblings are told of a step; `sent_at` is null until all of them were.

    It is null again where that is longer ago than sent events are kept.
    """

    type: str
    sent_at: str | None


class TimelineEntry(Struct):
    """One step of an order's life. `at` is RFC 3339 in UTC.

    `by` is null where it was not recorded who acted, `event` where nobody is told,
    `from_cart` where `kind` is not `order.created`. A change of quantity leaves the
    status as it is; what was not recorded of a quantity is null.
    """

    at: str
    kind: Literal[
        "order.created",
        "order.approved",
        "item.created",
        "item.taken",
        "item.changed",
        "item.moved",
        "item.removed",
    ]
    item: model.Id | None
    from_status: model.Status | None
    to_status: model.Status | None
    from_quantity: model.Quantity | None
    to_quantity: model.Quantity | None
    from_cart: bool | None
    by: Literal["owner", "shop", "system", "operator"] | None
    event: TimelineEvent | None


# The rules.


def every_route_is_told(told: Document, routes: dict[str, set[Route]]) -> Iterator[str]:
    described = {
        (method, re.sub(r"{[^}]+}", "{}", path).rstrip("/"))
        for method, path, _ in operations(told)
    }
    for name, found in routes.items():
        if not found >= HEALTH:
            yield f"{name} does not say how it is"
        if name not in INTERNAL:
            for method, path in found - described - NOT_FOR_CALLERS:
                yield f"{method} {path} of {name} is not documented"
    for method, path in described - set().union(*routes.values()):
        yield f"{method} {path} is documented, and no function has it"


def shapes_are_those_of_the_structs(told: Document) -> Iterator[str]:
    structs = [*structs_of(commands), model.Order, model.Item]
    structs += [TimelineEvent, TimelineEntry]
    known = {each.__name__ for each in structs} | WITHOUT_STRUCT
    for name, schema in told["components"]["schemas"].items():
        if "properties" in schema and name not in known:
            yield (
                f"{name} has no struct: add one to common/domain/commands.py,"
                " or beside TimelineEntry if PostgreSQL builds it"
            )
    yield from differences(told["components"]["schemas"], structs)


def requests_have_no_defaults(told: Document) -> Iterator[str]:
    if '"default"' in json.dumps(told["components"]["schemas"]):
        yield "a default"


def statuses_have_names(told: Document) -> Iterator[str]:
    named = told["components"]["schemas"]["Status"].get("oneOf", [])
    told_as = {each.get("title"): each["const"] for each in named}
    if told_as != {each.label: each for each in model.ItemStatus}:
        yield "status"


def limits_are_those_of_the_code(told: Document) -> Iterator[str]:
    parameters, found = told["components"]["parameters"], told["components"]["schemas"]
    limit = parameters["limit"]["schema"]
    if limit["maximum"] != paging.MAX_LIMIT or limit["default"] != paging.DEFAULT_LIMIT:
        yield "limit"
    if parameters["Idempotency-Key"]["schema"]["maxLength"] != MAX_KEY_LENGTH:
        yield "Idempotency-Key"
    patch = found["OrderPatch"]["properties"]["metadata"]
    if {found["Metadata"]["maxProperties"], patch["maxProperties"]} != {
        MAX_METADATA_KEYS
    }:
        yield "metadata"
    if f"{paging.MAX_ROWS_SCANNED:,} of your rows" not in told["info"]["description"]:
        yield "rows of a page"


def every_problem_is_told(told: Document) -> Iterator[str]:
    """Yield each error that the document does not have as the code has it."""
    examples = dict(told["components"]["examples"])
    wanted = {
        error.slug: (error.status, error.title, (error.__doc__ or "").strip())
        for error in every_error(errors.ServiceError)
    }
    for status, (slug, title) in problems._TITLES.items():
        wanted.setdefault(slug, (status, title, title))
    used = {
        (slug, status)
        for _, _, operation in operations(told)
        for status, reply in operation["responses"].items()
        for media in resolve(told, reply).get("content", {}).values()
        for slug in media.get("examples", {})
    }
    for slug in wanted.keys() - NEVER_RETURNED:
        value = examples.pop(slug, {}).get("value")
        if value is None:
            yield f"{slug} is not documented"
            continue
        status, title, detail = wanted[slug]
        if value["type"] != f"/problems/{slug}" or value["status"] != status:
            yield f"{slug}: {value['type']}, {value['status']}"
        if {value["title"], value["error"]} != {title}:
            yield f"{slug}: {value['title']}"
        if slug != "not-acceptable" and value["detail"] != detail:
            yield f"{slug}: {value['detail']}"
        if not any(
            each == (slug, s) for each in used for s in (str(status), "default")
        ):
            yield f"no operation returns {slug}"
    yield from (f"{slug} is no problem of the code" for slug in examples)
    for slug, status in used:
        if status not in (str(wanted.get(slug, (0,))[0]), "default"):
            yield f"{slug} is said to be a {status}"


def identity_is_asked_for_where_it_is_needed(told: Document) -> Iterator[str]:
    for method, path, operation in operations(told):
        is_open = operation.get("security") == []
        has_refusal = "401" in operation["responses"]
        if is_open != path.startswith(OPEN) or is_open == has_refusal:
            yield f"{method} {path}"


def writes_can_be_repeated(told: Document) -> Iterator[str]:
    wanted = {"post": "Idempotency-Key", "patch": "If-Match", "delete": "If-Match"}
    for method, path, operation in operations(told):
        named = {resolve(told, each)["name"] for each in operation["parameters"]}
        if method in wanted and wanted[method] not in named:
            yield f"{method} {path}: {wanted[method]}"


def examples_fit_their_schemas(told: Document) -> Iterator[str]:
    components = told["components"]
    wanted = [
        (name, example)
        for name, schema in components["schemas"].items()
        for example in schema.get("examples", [])
    ]
    wanted += [("Problem", e["value"]) for e in components["examples"].values()]
    repaired = components["examples"]["cart-repaired"]["value"]
    wanted.append(("CartRepairedProblem", repaired))
    for name, example in wanted:
        rooted = {"$ref": f"#/components/schemas/{name}", "components": components}
        found = documented.checked(rooted).iter_errors(example)
        yield from (f"{name}: {error.message}" for error in found)


def nothing_is_written_for_nobody(told: Document) -> Iterator[str]:
    used = set(re.findall(r'"#/components/([\w./-]+)"', json.dumps(told)))
    for kind, parts in told["components"].items():
        if kind != "securitySchemes":
            yield from ({f"{kind}/{name}" for name in parts} - used)


def the_server_is_an_address_that_generators_understand(
    told: Document,
) -> Iterator[str]:
    for server in told["servers"]:
        url = server["url"]
        for name, variable in server.get("variables", {}).items():
            url = url.replace(f"{{{name}}}", variable["default"])
        if not re.fullmatch(r"https?://[\w.:-]+", url):
            yield url


RULES: list[Callable[[Document], Iterator[str]]] = [
    shapes_are_those_of_the_structs,
    requests_have_no_defaults,
    statuses_have_names,
    limits_are_those_of_the_code,
    every_problem_is_told,
    identity_is_asked_for_where_it_is_needed,
    writes_can_be_repeated,
    examples_fit_their_schemas,
    nothing_is_written_for_nobody,
    the_server_is_an_address_that_generators_understand,
]


def test_the_document_is_valid_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(parsed("openapi")).validate()


def test_every_route_of_every_function_is_documented_and_no_other(
    routes: dict[str, set[Route]],
) -> None:
    wrong = list(every_route_is_told(parsed("openapi"), routes))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_document_says_what_the_code_does(
    rule: Callable[[Document], Iterator[str]],
) -> None:
    wrong = list(rule(parsed("openapi")))
    assert not wrong, "\n".join(wrong)


def test_lists_take_the_filters_that_are_documented(
    modules: dict[str, dict[str, Any]],
) -> None:
    crud = modules["orders_crud"]
    for path, filters in (
        ("/api/orders/", crud["ORDER_FILTERS"]),
        ("/api/order-items/", crud["ITEM_FILTERS"]),
    ):
        told = parsed("openapi")
        parameters = [
            resolve(told, p) for p in told["paths"][path]["get"]["parameters"]
        ]
        in_query = {p["name"] for p in parameters if p["in"] == "query"}
        assert in_query == {"limit", "cursor", *filters}
