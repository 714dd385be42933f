"""What breaks a caller, between two documents of the API.

Lives here: what is compared, and in which direction. Not here: the comparison of two
schemas (`shapes.py`). Surprise: a schema may only become wider in a request, and only
narrower in an answer; a field may vanish in neither.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from infra.api_gate.shapes import Shape, lost, misfits, resolve

Document = dict[str, Any]


def breaking_changes(old: Document, new: Document) -> list[str]:
    """Answer each change that breaks a caller who was written for `old`."""
    return list(_changes(old, new))


def _changes(old: Document, new: Document) -> Iterator[str]:
    for path, operations in old["paths"].items():
        for method, was in operations.items():
            place = f"{method.upper()} {path}"
            if path not in new["paths"]:
                yield f"{place}: the path is gone"
            elif method not in new["paths"][path]:
                yield f"{place}: the operation is gone"
            else:
                now = new["paths"][path][method]
                one, other = _Part(was, old), _Part(now, new)
                yield from _parameters(one, other, place)
                yield from _request_body(one, other, place)
                yield from _responses(one, other, place)
                yield from _security(one, other, place)


class _Part:
    """A part of a document: an operation, a parameter, an answer."""

    def __init__(self, found: Mapping[str, Any], document: Document) -> None:
        self.found = resolve(dict(found), document)
        self.document = document

    def part(self, found: Mapping[str, Any]) -> "_Part":
        return _Part(found, self.document)

    def parts(self, name: str) -> "dict[str, _Part]":
        return {k: self.part(v) for k, v in self.found.get(name, {}).items()}

    def shape(self) -> Shape:
        return Shape(self.found.get("schema", {}), self.document)

    def parameters(self) -> "dict[tuple[str, str], _Part]":
        every = [self.part(each) for each in self.found.get("parameters", [])]
        return {(each.found["in"], each.found["name"]): each for each in every}


def _parameters(old: _Part, new: _Part, place: str) -> Iterator[str]:
    olds, news = old.parameters(), new.parameters()
    for key, now in news.items():
        named = f"{place}, {key[0]} {key[1]}"
        was = olds.get(key)
        is_required = now.found.get("required", False)
        if is_required and not (was and was.found.get("required", False)):
            yield f"{named}: is required now"
        if was:
            for said in misfits(was.shape(), now.shape(), named):
                yield f"{said} (no longer taken)"
    for where, name in olds.keys() - news.keys():
        yield f"{place}, {where} {name}: is gone"


def _request_body(old: _Part, new: _Part, place: str) -> Iterator[str]:
    was, now = (each.part(each.found.get("requestBody", {})) for each in (old, new))
    if now.found.get("required", False) and not was.found.get("required", False):
        yield f"{place}, body: is required now"
    contents = now.parts("content")
    for media_type, content in was.parts("content").items():
        named = f"{place}, {media_type} body"
        if media_type not in contents:
            yield f"{named}: is gone"
            continue
        takes = contents[media_type].shape()
        for said in misfits(content.shape(), takes, named):
            yield f"{said} (no longer taken)"
        yield from lost(content.shape(), takes, named)


def _responses(old: _Part, new: _Part, place: str) -> Iterator[str]:
    answers = new.parts("responses")
    for status, was in old.parts("responses").items():
        named = f"{place}, {status}"
        if status not in answers:
            yield f"{named}: the status is gone"
            continue
        now = answers[status]
        for name in was.parts("headers").keys() - now.parts("headers").keys():
            yield f"{named}, header {name}: is gone"
        contents = now.parts("content")
        for media_type, content in was.parts("content").items():
            if media_type not in contents:
                yield f"{named}, {media_type}: is gone"
                continue
            gives = contents[media_type].shape()
            for said in misfits(gives, content.shape(), f"{named}, body"):
                yield f"{said} (not answered before)"
            yield from lost(content.shape(), gives, f"{named}, body")


def _security(old: _Part, new: _Part, place: str) -> Iterator[str]:
    was, now = (_callers(each) for each in (old, new))
    accepted = [set(each) for each in now] or [set()]
    for each in was or [{}]:
        if not any(wanted <= set(each) for wanted in accepted):
            yield f"{place}: {sorted(each) or 'nobody'} may no longer call it"


def _callers(of: _Part) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = of.document.get("security", [])
    if "security" in of.found:
        found = of.found["security"]
    return found
