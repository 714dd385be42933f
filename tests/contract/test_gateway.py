"""The document for Google API Gateway: valid, and as the gateway takes it.

Where Google's documentation and the proxy's source are silent, a rule here is stricter
than the gateway may be.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from common.api_docs import documents
from infra.gateway.document import ASSETS, Token, functions, gateway_document

Document = dict[str, Any]
API = documents.parsed("openapi")

ADDRESSES = {
    name: f"https://{name.replace('_', '-')}-abc-ew.a.run.app" for name in functions()
}
TOKEN = Token(
    issuer="https://id.example.com",
    jwks_uri="https://id.example.com/.well-known/jwks.json",
    audiences=("shop", "app"),
)
KNOW_NO_USERS = {"api_docs"}
MOST_BYTES = 10_000_000


@pytest.fixture
def made() -> Document:
    return gateway_document(ADDRESSES, TOKEN)


def operations(made: Document) -> Iterator[tuple[str, str, Document]]:
    for path, item in made["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


# The rules: each answers what is wrong.


def backends_are_known(made: Document) -> Iterator[str]:
    backends = made["x-google-api-management"]["backends"]
    for method, path, operation in operations(made):
        if operation.get("x-google-backend") not in backends:
            yield f"{method} {path}: no backend"


def backends_are_ours_and_private(made: Document) -> Iterator[str]:
    for name, backend in made["x-google-api-management"]["backends"].items():
        address = urlsplit(backend["address"])
        if address.scheme != "https" or address.path or address.query:
            yield f"{name}: {backend['address']}"
        if backend.get("jwtAudience") != backend["address"] or "disableAuth" in backend:
            yield f"{name}: not called in the gateway's name"
        if backend.get("pathTranslation") != "APPEND_PATH_TO_ADDRESS":
            yield f"{name}: would be asked for another path"
        if not backend.get("deadline", 0) > 0:
            yield f"{name}: no deadline"


def who_knows_users_is_asked_with_a_token(made: Document) -> Iterator[str]:
    for method, path, operation in operations(made):
        is_open = operation.get("security") == []
        is_guarded = operation.get("security") == [{"token": []}]
        knows_users = operation.get("x-google-backend") not in KNOW_NO_USERS
        if knows_users and not is_guarded:
            yield f"{method} {path}: claims could be forged"
        if not knows_users and not is_open:
            yield f"{method} {path}: is open"
    if made.get("security") != [{"token": []}]:
        yield "open by default"


def tokens_are_verified(made: Document) -> Iterator[str]:
    schemes = made["components"]["securitySchemes"]
    if schemes.keys() != {"token"}:
        yield f"schemes: {', '.join(schemes)}"
    for name, scheme in schemes.items():
        auth = scheme.get("x-google-auth", {})
        if scheme.get("type") != "oauth2":
            yield f"{name}: the gateway does not verify {scheme.get('type')}"
        if not auth.get("issuer") or not auth.get("audiences"):
            yield f"{name}: anybody's tokens"
        if urlsplit(auth.get("jwksUri", "")).scheme != "https":
            yield f"{name}: anybody's keys"
        if auth.get("jwtLocations") != [
            {"header": "Authorization", "valuePrefix": "Bearer "}
        ]:
            yield f"{name}: tokens from anywhere"


def names_are_unique(made: Document) -> Iterator[str]:
    names = [operation.get("operationId") for *_, operation in operations(made)]
    if None in names or len(set(names)) != len(names):
        yield "operationId"


def paths_are_what_it_takes(made: Document) -> Iterator[str]:
    seen = set()
    for path in made["paths"]:
        if not re.fullmatch(r"(/([\w.-]+|\{\w+\}))+", path, re.ASCII):
            yield f"{path}: refused"
        shape = re.sub(r"\{\w+\}", "{}", path)
        if shape in seen:
            yield f"{path}: twice"
        seen.add(shape)


def what_is_inside_stays_inside(made: Document) -> Iterator[str]:
    for path in made["paths"]:
        if re.search(r"^/health|/status$|^/functions|^/$|dead-letters", path):
            yield path


def nothing_comes_from_elsewhere(made: Document) -> Iterator[str]:
    text = json.dumps(made)
    yield from (f"$ref {r}" for r in re.findall(r'"\$ref": "([^#"][^"]*)"', text))
    if made.get("servers"):
        yield "servers: would be a prefix"
    if "x-google-allow" in text:
        yield "x-google-allow is not of OpenAPI 3"
    if len(text.encode()) > MOST_BYTES:
        yield "too large"


def it_is_the_api_as_we_tell_it(made: Document) -> Iterator[str]:
    told = {
        (method, path.rstrip("/")): operation
        for method, path, operation in documents.operations(API)
    }
    for method, path, operation in operations(made):
        if path == ASSETS:
            continue
        ours = told.get((method, path))
        kept = {"x-google-backend", "security"}
        if ours is None or any(operation.get(k) != ours[k] for k in ours.keys() - kept):
            yield f"{method} {path}: differs"
    components = API["components"]
    if any(made["components"].get(k) != components[k] for k in ("schemas", "examples")):
        yield "schemas differ"


RULES = [
    backends_are_known,
    backends_are_ours_and_private,
    who_knows_users_is_asked_with_a_token,
    tokens_are_verified,
    names_are_unique,
    paths_are_what_it_takes,
    what_is_inside_stays_inside,
    nothing_comes_from_elsewhere,
    it_is_the_api_as_we_tell_it,
]
Rule = Callable[[Document], Iterator[str]]


def test_the_document_is_valid_openapi_3_1(made: Document) -> None:
    OpenAPIV31SpecValidator(made).validate()
    assert made["openapi"] == "3.1.0"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_document_keeps_the_rule(made: Document, rule: Rule) -> None:
    assert not list(rule(made))


def test_the_document_is_the_same_every_time_and_leaves_the_apis_alone(
    made: Document,
) -> None:
    before = copy.deepcopy(API)
    assert json.dumps(gateway_document(ADDRESSES, TOKEN)) == json.dumps(made)
    assert before == API


def test_every_operation_is_published_or_left_out_on_purpose(made: Document) -> None:
    published = {operation["operationId"] for *_, operation in operations(made)}
    told = {operation["operationId"] for *_, operation in documents.operations(API)}
    inside = {"health_live", "health_ready", "health_start", "set_item_status"}
    assert published == told - inside | {"documentation_asset"}
