"""The API document for Google API Gateway: OpenAPI 3.1 with Google's extensions.

It leaves out internal paths, and says which function serves a path and which token it
needs. No path ends in a slash: the gateway refuses a document with one that does, and
serves each path with and without it.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.api_docs.documents import operations, parsed
from infra.local.gateway import function_of

# Not reachable through the gateway: health, and what only the shop service calls.
LEFT_OUT = ("/health/", "/api/order-items/{id}/status/")
# What the documentation's pages load; the API document does not contain it.
ASSETS = "/api/schema/assets/{name}"
DEADLINE_SECONDS = 15.0

INTRODUCTION = """
This gateway serves no `HEAD` and no `OPTIONS`, and neither the path that sets an item's
status nor those of functions' health.
"""


@dataclass(frozen=True, kw_only=True)
class Token:
    """The tokens that are accepted: their issuer, its public keys, and audiences."""

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

    `addresses` has an `https://host` for each of `functions()`, which is also the
    audience of the gateway's own token for that function.
    """
    document = copy.deepcopy(parsed("openapi"))
    # Not needed, and it would not be the gateway's address.
    del document["servers"]
    document["info"]["description"] += INTRODUCTION
    # The gateway supports no alternative that is an API key, and a client's own
    # X-User-ID does not count here.
    document["security"] = [{"token": []}]
    document["components"]["securitySchemes"] = {"token": _scheme(token)}
    document["paths"] = _paths()
    tags = {
        tag
        for path in document["paths"].values()
        for operation in path.values()
        for tag in operation["tags"]
    }
    document["tags"] = [each for each in document["tags"] if each["name"] in tags]
    document["x-google-api-management"] = {
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
    return document


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for method, path, documented in operations(parsed("openapi")):
        if path.startswith(LEFT_OUT):
            continue
        operation = copy.deepcopy(documented)
        # Explicit, because the gateway leaves an operation without it open to all.
        operation.setdefault("security", [{"token": []}])
        operation["x-google-backend"] = function_of(path)
        paths.setdefault(path.rstrip("/"), {})[method] = operation
    asset = _asset() | {"x-google-backend": function_of(ASSETS)}
    return paths | {ASSETS: {"get": asset}}


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
            "The user's token, signed with a key that its issuer publishes; `sub` is a"
            " UUID. The gateway verifies it and passes its claims on."
        ),
        "flows": {"implicit": {"authorizationUrl": "", "scopes": {}}},
        "x-google-auth": {
            "issuer": token.issuer,
            "jwksUri": token.jwks_uri,
            "audiences": list(token.audiences),
            # Not in a query, where the gateway would also look: URLs are logged.
            "jwtLocations": [{"header": "Authorization", "valuePrefix": "Bearer "}],
        },
    }
