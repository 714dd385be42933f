"""Compare the schemas of a document with the structs that the code reads and writes."""

import json
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import msgspec
from msgspec import Struct

Schema = dict[str, Any]
# What a document says and a struct does not; formats but for UUIDs are such, too.
WORDS = {
    "default",
    "description",
    "examples",
    "format",
    "maxProperties",
    "not",
    "title",
}


def structs_of(module: ModuleType) -> list[type[Struct]]:
    """Return the structs that a module defines."""
    return [
        found
        for found in vars(module).values()
        if isinstance(found, type)
        and issubclass(found, Struct)
        and found.__module__ == module.__name__
    ]


def differences(
    schemas: dict[str, Schema], structs: list[type[Struct]]
) -> Iterator[str]:
    """Yield each place at which a document's schema is not its struct's."""
    _, wanted = msgspec.json.schema_components(structs, ref_template="#/{name}")
    for name, struct in wanted.items():
        if name not in schemas:
            yield f"{name} is not documented"
            continue
        ours, theirs = _plain(struct, wanted), _plain(schemas[name], schemas)
        for part in ("type", "required"):
            if ours.get(part) != theirs.get(part):
                yield f"{name}: {part}"
        fields, told = ours["properties"], theirs["properties"]
        for field in fields.keys() | told.keys():
            if fields.get(field) != told.get(field):
                yield f"{name}.{field}: {told.get(field)}, not {fields.get(field)}"


def _plain(schema: Schema, schemas: dict[str, Schema]) -> Schema:
    """Return a schema with all references resolved, in one spelling of several."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        schema = schemas[name] | {k: v for k, v in schema.items() if k != "$ref"}
    found = {k: v for k, v in schema.items() if k not in WORDS}
    if schema.get("format") == "uuid":
        found["format"] = "uuid"
    if "oneOf" in found:  # named values
        values = [each["const"] for each in found.pop("oneOf")]
        assert values == list(range(min(values), max(values) + 1))
        found |= {"minimum": min(values), "maximum": max(values)}
    if "const" in found:
        found = {"enum": [found["const"]]}
    if "properties" in found:
        fields = found["properties"].items()
        # A field of any type is known only so that a change of it can be refused.
        found["properties"] = {k: _plain(v, schemas) for k, v in fields if v}
        found["required"] = sorted(found.get("required", []))
    for part in ("items", "additionalProperties", "propertyNames"):
        if isinstance(found.get(part), dict):
            found[part] = _plain(found[part], schemas)
    if "anyOf" in found:
        options = [_plain(each, schemas) for each in found["anyOf"]]
        found["anyOf"] = sorted(options, key=json.dumps)
    return _with_null_apart(found)


def _with_null_apart(found: Schema) -> Schema:
    """Spell `type: [X, "null"]` and `enum: [X, null]` as `anyOf`."""
    if isinstance(found.get("type"), list):
        [other] = [each for each in found["type"] if each != "null"]
        found = found | {"type": other}
    elif None in found.get("enum", []):
        found = found | {"enum": [each for each in found["enum"] if each is not None]}
    else:
        if "enum" in found:
            found["enum"] = sorted(found["enum"])
        return found
    if "enum" in found:
        found["enum"] = sorted(found["enum"])
    return {"anyOf": sorted([found, {"type": "null"}], key=json.dumps)}
