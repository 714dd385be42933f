"""Whether whatever fits one schema fits another, and where it does not.

Lives here: the comparison of two JSON schemas, each in the document it is from. Not
here: which schemas are compared, and which way round (`changes.py`). Surprise: it knows
the keywords that our document uses; where it cannot tell, a difference is a complaint.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_TYPES = {"array", "boolean", "integer", "null", "number", "object", "string"}
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
# What narrows by being there, in a way that is not looked into.
_OPAQUE = ("pattern", "format", "not", "oneOf", "uniqueItems", "multipleOf")


@dataclass(frozen=True)
class Shape:
    """A schema, and the document that its references are looked up in."""

    schema: dict[str, Any]
    document: dict[str, Any]

    def part(self, schema: object) -> "Shape":
        """Answer a part of it; what may be anything is an empty schema."""
        return Shape(schema if isinstance(schema, dict) else {}, self.document).plain()

    def plain(self) -> "Shape":
        """Answer the same without a reference, and with `allOf` put together."""
        found = resolve(self.schema, self.document)
        for each in found.get("allOf", []):
            more = Shape(each, self.document).plain().schema
            found = (
                found
                | more
                | {
                    "properties": found.get("properties", {})
                    | more.get("properties", {}),
                    "required": [*found.get("required", []), *more.get("required", [])],
                }
            )
        return Shape({k: v for k, v in found.items() if k != "allOf"}, self.document)


def resolve(part: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Answer a part of a document, or what it refers to."""
    while "$ref" in part:
        found: Any = document
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        part = found
    return part


def misfits(given: Shape, taker: Shape, place: str) -> Iterator[str]:
    """Yield where something that fits `given` may not fit `taker`."""
    given, taker = given.plain(), taker.plain()
    pairs = _pairs(given, taker)
    if pairs:
        for one, other in pairs:
            yield from misfits(one, other, place)
        return
    if "anyOf" in given.schema:
        for each in given.schema["anyOf"]:
            yield from misfits(given.part(each), taker, place)
        return
    if "anyOf" in taker.schema:
        tried = [
            list(misfits(given, taker.part(each), place))
            for each in taker.schema["anyOf"]
        ]
        yield from min(tried, key=len)
        return
    yield from _values(given.schema, taker.schema, place)
    yield from _limits(given.schema, taker.schema, place)
    yield from _members(given, taker, place)


def _pairs(given: Shape, taker: Shape) -> list[tuple[Shape, Shape]]:
    """Answer alternatives side by side, where there are as many.

    One that would fit another's place is held against its own: an alternative that is
    wide open would otherwise hide what becomes of the rest.
    """
    ours, theirs = given.schema.get("anyOf", []), taker.schema.get("anyOf", [])
    if len(ours) != len(theirs):
        return []
    return [
        (given.part(one), taker.part(other))
        for one, other in zip(ours, theirs, strict=True)
    ]


def _values(given: dict[str, Any], taker: dict[str, Any], place: str) -> Iterator[str]:
    refused = _types(given) - _types(taker)
    if "number" in _types(taker):
        refused -= {"integer"}
    if refused:
        yield f"{place}: type {', '.join(sorted(refused))}"
    listed, known = _listed(given), _listed(taker)
    if known is not None:
        if listed is None:
            yield f"{place}: values other than {known}"
        elif more := [value for value in listed if value not in known]:
            yield f"{place}: values {more}"


def _types(schema: dict[str, Any]) -> set[str]:
    if (values := _listed(schema)) and "type" not in schema:
        return {_TYPE_OF[type(value)] for value in values}
    found = schema.get("type", sorted(_TYPES))
    return {found} if isinstance(found, str) else set(found)


_TYPE_OF = {
    str: "string",
    int: "integer",
    bool: "boolean",
    float: "number",
    type(None): "null",
    list: "array",
    dict: "object",
}


def _listed(schema: dict[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return schema.get("enum")


def _limits(given: dict[str, Any], taker: dict[str, Any], place: str) -> Iterator[str]:
    values = _listed(given)
    for names, sign in ((_LOWER, 1), (_UPPER, -1)):
        for name in names:
            if name not in taker:
                continue
            limit = taker[name]
            if values is not None and name in ("minimum", "maximum"):
                is_kept = all((value - limit) * sign >= 0 for value in values)
            else:
                is_kept = name in given and (given[name] - limit) * sign >= 0
            if not is_kept:
                yield f"{place}: {name} {given.get(name, 'none')} against {limit}"
    for name in _OPAQUE:
        if name in taker and taker[name] != given.get(name):
            yield f"{place}: {name} {given.get(name, 'none')} against {taker[name]}"


def _members(given: Shape, taker: Shape, place: str) -> Iterator[str]:
    one, other = given.schema, taker.schema
    for name in other.get("required", []):
        if name not in one.get("required", []):
            yield f"{place}.{name}: may be absent"
    properties = one.get("properties", {})
    for name, schema in other.get("properties", {}).items():
        if name in properties:
            part = given.part(properties[name])
            yield from misfits(part, taker.part(schema), f"{place}.{name}")
    if other.get("additionalProperties", True) is not True:
        if other["additionalProperties"] is False:
            if one.get("additionalProperties", True) is not False:
                yield f"{place}: other fields"
        elif one.get("additionalProperties", True) is not False:
            part = given.part(one.get("additionalProperties"))
            more = taker.part(other["additionalProperties"])
            yield from misfits(part, more, f"{place}.*")
    if "items" in other:
        part = given.part(one.get("items"))
        yield from misfits(part, taker.part(other["items"]), f"{place}[]")


def lost(old: Shape, new: Shape, place: str) -> Iterator[str]:
    """Yield the fields that `old` knows, at any depth, and `new` does not."""
    old, new = old.plain(), new.plain()
    if pairs := _pairs(old, new):
        for was, now in pairs:
            yield from lost(was, now, place)
        return
    olds = [old.part(each) for each in old.schema.get("anyOf", [])] or [old]
    news = [new.part(each) for each in new.schema.get("anyOf", [])] or [new]
    for one in olds:
        tried = [list(_lost(one, other, place)) for other in news]
        yield from min(tried, key=len)


def _lost(old: Shape, new: Shape, place: str) -> Iterator[str]:
    properties = new.schema.get("properties", {})
    for name, schema in old.schema.get("properties", {}).items():
        if name not in properties:
            yield f"{place}.{name}: is gone"
        else:
            yield from lost(
                old.part(schema), new.part(properties[name]), f"{place}.{name}"
            )
    if "items" in old.schema and "items" in new.schema:
        items = new.part(new.schema["items"])
        yield from lost(old.part(old.schema["items"]), items, f"{place}[]")
