"""Render pages from the documents, the files that they load, and problem types.

Links are relative, so that pages work below any prefix that a gateway adds. Jinja is
imported when a page is first rendered, because few requests need it.
"""

import functools
import hashlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from common.api_docs import documents
from common.json import encode

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = documents.FOLDER / "templates"
ASSETS = {
    "viewer.js": "text/javascript",
    "swagger_bundle.js": "text/javascript",
    "swagger_style.css": "text/css",
    "swagger-ui-page.js": "text/javascript",
    "redoc.js": "text/javascript",
    "redoc-page.js": "text/javascript",
}
# Of a local run: its front page, and the user that its documents and buttons name.
LOCAL_HOME = "/"
LOCAL_USER = "d0d0d0d0-0000-4000-8000-000000000001"
# The only file that ReDoc loads from another host, its makers' logo.
OUTSIDE_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"


class Content(Struct, frozen=True):
    """Static content, and a tag of it."""

    body: bytes
    tag: str


@functools.cache
def document(name: str, form: str) -> Content:
    """Return `openapi` or `asyncapi` as `json`, or as the `yaml` that was written."""
    if form == "yaml":
        return _content(documents.source(name))
    return _content(encode(documents.parsed(name)).encode())


@functools.cache
def problems() -> dict[str, dict[str, Any]]:
    """Return each problem type, from the examples of the document."""
    return {
        name: {
            "name": name,
            "type": each["value"]["type"],
            "status": each["value"]["status"],
            "title": each["value"]["title"],
            "meaning": each["value"]["detail"],
            "occurs": each["description"].strip(),
            "remedy": each["x-remedy"].strip(),
            "example": each["value"],
        }
        for name, each in documents.parsed("openapi")["components"]["examples"].items()
    }


@functools.cache
def problem_json(name: str | None) -> Content:
    """Return one problem type as JSON, or all of them."""
    value = problems()[name] if name else list(problems().values())
    return _content(encode(value).encode())


@functools.cache
def page(
    template: str, root: str, problem: str | None = None, *, is_local: bool = False
) -> Content:
    """Return a page whose links start at `root`; in a local run also one to there."""
    text = (
        _templates()
        .get_template(template)
        .render(
            root=root,
            home=LOCAL_HOME if is_local else None,
            user=LOCAL_USER if is_local else None,
            events=documents.parsed("asyncapi"),
            problems=problems(),
            problem=problems()[problem] if problem else None,
        )
    )
    return _content(text.encode())


@functools.cache
def asset(name: str) -> Content:
    """Return one of `ASSETS`."""
    own = TEMPLATES / name
    if own.exists():
        return _content(own.read_bytes())
    # Not imported: the package would read all of its pages into memory.
    package = find_spec("offapi")
    assert package is not None
    assert package.submodule_search_locations
    folder = documents.FOLDER / package.submodule_search_locations[0]
    return _content((folder / name).read_bytes().replace(OUTSIDE_LOGO, b"data:,"))


def _content(body: bytes) -> Content:
    return Content(body, hashlib.sha256(body).hexdigest()[:16])


@functools.cache
def _templates() -> "Environment":
    from jinja2 import (  # noqa: PLC0415 few requests need it
        Environment,
        FileSystemLoader,
        StrictUndefined,
    )

    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    templates.filters["prose"] = _prose
    templates.filters["resolved"] = functools.partial(
        documents.resolve, documents.parsed("asyncapi")
    )
    templates.globals["versioned"] = lambda name: f"{name}?v={asset(name).tag}"
    return templates


def _prose(text: str) -> "Markup":
    """Return text of a document as HTML; its only Markdown is backticks."""
    from markupsafe import Markup, escape  # noqa: PLC0415 comes with jinja2

    pieces = [
        Markup("<code>{}</code>").format(piece) if index % 2 else escape(piece)
        for index, piece in enumerate(text.strip().split("`"))
    ]
    return Markup("").join(pieces)
