"""The API document in the words of Google API Gateway (OpenAPI 3.1 and extensions).

What is left out of `common/api_docs/openapi.yaml`, who may call what, which function
serves it. No path ends in a slash: the gateway refuses a document in which one does,
and serves each path with and without it.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.api_docs.documents import operations, parsed
from infra.local.gateway import function_of

# What stays inside: how a function is, and what only the shop service calls.
LEFT_OUT = ("/health/", "/api/order-items/{id}/status/")
# What the documentation's pages load, which the API document does not tell of.
ASSETS = "/api/schema/assets/{name}"
DEADLINE_SECONDS = 15.0

INTRODUCTION = """
Behind this gateway a `HEAD` or an `OPTIONS` is not answered, and neither is what has to
do with the status of single items and with the health of functions.
"""


@dataclass(frozen=True, kw_only=True)
class Token:
    """Who signs users' tokens: the claim `iss`, its public keys, and `aud`, any of."""

    issuer: str
    jwks_uri: str
    audiences: Sequence[str]


def functions() -> list[str]:
    """Return the functions that the gateway calls, by name."""
    return sorted({function_of(path) for path in _paths()})


def gateway_document(
    addresses: Mapping[str, str],
    token: Token,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> dict[str, Any]:
    """Return the document; the same every time.

    `addresses` has an `https://host` for each of `functions()`, which is also what the
    gateway's own token for that function is made out to.
    """
    found = copy.deepcopy(parsed("openapi"))
    # None is needed, and the gateway's own address is another one.
    del found["servers"]
    found["info"]["description"] += INTRODUCTION
    # An alternative that is an API key is not supported, and a client's X-User-ID is
    # worth nothing here.
    found["security"] = [{"token": []}]
    found["components"]["securitySchemes"] = {"token": _scheme(token)}
    found["paths"] = _paths()
    tags = {
        tag
        for path in found["paths"].values()
        for operation in path.values()
        for tag in operation["tags"]
    }
    found["tags"] = [each for each in found["tags"] if each["name"] in tags]
    found["x-google-api-management"] = {
        "backends": {
            name: {
                "address": addresses[name],
                "jwtAudience": addresses[name],
                "pathTranslation": "APPEND_PATH_TO_ADDRESS",
                "deadline": deadline_seconds,
                "protocol": "http/1.1",
            }
            for name in functions()
        }
    }
    return found


def _paths() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for method, path, told in operations(parsed("openapi")):
        if path.startswith(LEFT_OUT):
            continue
        operation = copy.deepcopy(told)
        # Said of each: what is not said of is open to everybody.
        operation.setdefault("security", [{"token": []}])
        operation["x-google-backend"] = function_of(path)
        found.setdefault(path.rstrip("/"), {})[method] = operation
    asset = _asset() | {"x-google-backend": function_of(ASSETS)}
    return found | {ASSETS: {"get": asset}}


def _asset() -> dict[str, Any]:
    schema = {"type": "string"}
    return {
        "operationId": "documentation_asset",
        "tags": ["Documentation"],
        "summary": "A file that a page loads",
        "security": [],
        "parameters": [
            {"name": "name", "in": "path", "required": True, "schema": schema}
        ],
        "responses": {"200": {"description": "Script or style"}},
    }


def _scheme(token: Token) -> dict[str, Any]:
    return {
        "type": "oauth2",
        "description": (
            "A token of the user's: signed with a key that its issuer publishes, `sub`"
            " a UUID. The gateway verifies it and passes its claims on."
        ),
        "flows": {"implicit": {"authorizationUrl": "", "scopes": {}}},
        "x-google-auth": {
            "issuer": token.issuer,
            "jwksUri": token.jwks_uri,
            "audiences": list(token.audiences),
            # Not in a query, where the gateway would look, too: addresses are logged.
            "jwtLocations": [{"header": "Authorization", "valuePrefix": "Bearer "}],
        },
    }
