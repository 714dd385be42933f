"""The event document as a page for people, made on the server and without a script.

Lives here: what the template is given. Not here: the template and its style
(`functions/api_docs/pages`), the facts (`asyncapi.py`, `asyncapi_parts.py`). Surprise:
backticks are all the Markdown that the texts may have; there is no parser for more.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from common.asyncapi import INTRODUCTION, document, message_name
from common.asyncapi_parts import GUARANTEES, HEADERS, KINDS


class Field(NamedTuple):
    """One row of a table of fields."""

    name: str
    type: str
    rule: str
    is_optional: bool


# What people call each transport's headers, in the order of the page.
_TITLES = {
    "RabbitMQProperties": "RabbitMQ: properties",
    "RabbitMQHeaders": "RabbitMQ: headers",
    "PubSubAttributes": "Pub/Sub: attributes",
    "HttpHeaders": "HTTP: headers",
    "AnalyticsHeaders": "Analytics: headers",
}


def render(template: str, root: str, style: str) -> str:
    """Answer the page; `root` leads to where the API's document is."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["ticks"] = _ticks
    found = document()
    return environment.from_string(template).render(
        version=found["info"]["version"],
        introduction=INTRODUCTION,
        guarantees=GUARANTEES,
        servers=found["servers"],
        channels=found["channels"],
        events=[_event(found, name) for name in KINDS],
        headers=[
            (_TITLES[name], found["components"]["schemas"][name]["description"], rows)
            for name in _TITLES
            if (rows := list(_fields(found, HEADERS[name])))
        ],
        root=root,
        # Ours, and read as it is.
        style=Markup(style),  # noqa: S704
    )


def _event(found: dict[str, Any], name: str) -> dict[str, Any]:
    kind = KINDS[name]
    message = next(
        each
        for key, each in found["components"]["messages"].items()
        if key.endswith(message_name("", name))
    )
    return {
        "name": name,
        "anchor": name.replace(".", "-"),
        "title": kind.title,
        "meaning": kind.meaning,
        "listeners": kind.listeners,
        "fields": list(_fields(found, message["payload"])),
        "example": json.dumps(message["examples"][0]["payload"], indent=2),
    }


def _fields(
    found: dict[str, Any], schema: dict[str, Any], prefix: str = ""
) -> Iterator[Field]:
    """Yield each field below `schema`, parents before what is in them."""
    schema = _resolved(found, schema)
    for name, each in schema.get("properties", {}).items():
        inner = _resolved(found, each)
        is_optional = name not in schema.get("required", ())
        path = prefix + name
        yield Field(path, _type(inner), _rule(inner), is_optional)
        if inner.get("type") == "array":
            yield from _fields(found, inner["items"], f"{path}[].")
        else:
            yield from _fields(found, inner, f"{path}.")


def _resolved(found: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    told: dict[str, Any] = found["components"]["schemas"][reference.rpartition("/")[2]]
    return told


def _rule(schema: dict[str, Any]) -> str:
    """Answer in words what a value must be beyond its type."""
    parts = []
    if "description" in schema and schema.get("type") != "object":
        parts.append(schema["description"])
    elif "pattern" in schema:
        parts.append(f"`{schema['pattern']}`")
    if values := _fixed(schema):
        parts.append(" or ".join(f"`{json.dumps(value)}`" for value in values))
    if "format" in schema:
        parts.append(schema["format"])
    if "maximum" in schema:
        parts.append(f"{schema['minimum']} to {schema['maximum']}")
    elif "minimum" in schema:
        parts.append(f"at least {schema['minimum']}")
    return "; ".join(parts)


def _type(schema: dict[str, Any]) -> str:
    """Answer the type; a value that is fixed speaks for itself, and is a string."""
    return str(schema.get("type", "string" if _fixed(schema) else "any"))


def _fixed(schema: dict[str, Any]) -> list[Any]:
    return [schema["const"]] if "const" in schema else schema.get("enum", [])


def _ticks(text: str) -> Markup:
    """Answer text with what stands between backticks as code."""
    pieces = text.split("`")
    made = [
        Markup("<code>{}</code>").format(piece) if place % 2 else escape(piece)
        for place, piece in enumerate(pieces)
    ]
    return Markup("").join(made)
