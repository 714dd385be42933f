"""/openapi.json, /api/schema/, /problems/: how to call it, for programs and people.

Lives here: caching, and pages that load nothing from outside. Not here: the document
(`common/openapi.py`); Swagger UI and ReDoc come as files with the package `offapi`.
Surprise: every link is relative to the path that was asked for, with or without its
slash, so that all works below any prefix, announced or not.
"""

import functools
import hashlib
import json
import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import functions_framework
from flask import Request, Response, abort, request
from msgspec import Struct, structs

from common import http, wiring
from common.app import create_app, respond
from common.errors import InvalidRequestError, NotAcceptableError, NotFoundError
from common.openapi import document
from common.openapi_open import DOCUMENT_TYPES, HTML
from common.problem_types import ProblemType, problem_types
from common.schemas import encode

PAGES = Path(__file__).parent / "pages"
ASSETS = {
    "swagger_bundle.js": "text/javascript",
    "swagger_style.css": "text/css",
    "swagger-ui-page.js": "text/javascript",
    "redoc.js": "text/javascript",
    "redoc-page.js": "text/javascript",
}
# ReDoc's only load from outside, its makers' logo; where it fails, none is shown.
OUTSIDE_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"

# The event document's forms, by the name that `?format=` has for each.
EVENT_FORMS = {
    "json": http.JSON,
    "yaml": "application/yaml",
    "html": "text/html",
}

FRESH = "public, max-age=300"
FOR_EVER = "public, max-age=31536000, immutable"
HEADERS = {
    # Both pages style themselves inline; ReDoc's search is a worker made from a blob.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
        " img-src 'self' data:; font-src data:; connect-src 'self'; worker-src blob:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

wiring.start()
app = create_app("api_docs", headers=HEADERS)


class Content(Struct, frozen=True):
    """Something static: its bytes and what they are known by."""

    body: bytes
    tag: str


def _content(body: bytes) -> Content:
    return Content(body, hashlib.sha256(body).hexdigest()[:16])


@functools.cache
def _document(server_url: str) -> Content:
    return _content(encode(document(server_url)).encode())


@functools.cache
def _yaml(server_url: str) -> Content:
    import yaml  # noqa: PLC0415 few ask for it

    class Dumper(yaml.CSafeDumper):  # the parser of libyaml: ten times as quick
        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
            return True

    text = yaml.dump(
        document(server_url), Dumper=Dumper, sort_keys=False, allow_unicode=True
    )
    return _content(text.encode())


@functools.cache
def _problems_as_json() -> Content:
    return _content(encode([_told(each) for each in _types().values()]).encode())


@functools.cache
def _problem_as_json(name: str) -> Content:
    return _content(encode(_told(_types()[name])).encode())


def _told(found: ProblemType) -> dict[str, object]:
    told: dict[str, object] = structs.asdict(found)
    return told | {"type": found.type}


_types = functools.cache(problem_types)


@functools.cache
def _problem_page(name: str | None, root: str) -> Content:
    """Answer the page of one type, or of all; `root` is where `/problems/` is."""
    from jinja2 import Environment, FileSystemLoader  # noqa: PLC0415 few ask for it

    templates = Environment(loader=FileSystemLoader(PAGES), autoescape=True)
    one = _types()[name] if name else None
    example = json.dumps(one.example, indent=2, ensure_ascii=False) if one else ""
    text = templates.get_template("problems.html").render(
        all=_types().values(), one=one, example=example, root=root
    )
    return _content(text.encode())


@functools.cache
def _asset(name: str) -> Content:
    own = PAGES / name
    if own.exists():
        return _content(own.read_bytes())
    # Found, not imported: an import would read every page of theirs into memory.
    package = find_spec("offapi")
    assert package is not None
    assert package.submodule_search_locations
    body = Path(package.submodule_search_locations[0], name).read_bytes()
    return _content(body.replace(OUTSIDE_LOGO, b"data:,"))


@functools.cache
def _page(name: str, root: str) -> Content:
    """Answer a page whose links start at `root`, where the document is."""

    def link(found: re.Match[str]) -> str:
        return f'"{root}assets/{found[1]}?v={_asset(found[1]).tag}"'

    html = (PAGES / f"{name}.html").read_text(encoding="utf-8")
    html = html.replace('"./"', f'"{root}"').replace('"./events/"', f'"{root}events/"')
    return _content(re.sub(r'"assets/([\w.-]+)"', link, html).encode())


@functools.cache
def _events(form: str, root: str) -> Content:
    """Answer the event document, or the page that is made of it."""
    from common import asyncapi  # noqa: PLC0415 few ask, and it is no part of a start

    if form == "html":
        from common.asyncapi_page import render  # noqa: PLC0415 see above

        page, style = (
            (PAGES / name).read_text(encoding="utf-8")
            for name in ("events.html", "events.css")
        )
        return _content(render(page, root, style).encode())
    if form == "yaml":
        import yaml  # noqa: PLC0415 see above

        told = yaml.safe_dump(
            asyncapi.document(), sort_keys=False, allow_unicode=True, width=88
        )
        return _content(told.encode())
    return _content(encode(asyncapi.document()).encode())


def _event_form() -> str:
    """Answer what is asked for: by `format`, else by `Accept`, else JSON."""
    form = request.args.get("format")
    if form is None:
        media_type = _acceptable(EVENT_FORMS.values())
        [form] = (name for name, known in EVENT_FORMS.items() if known == media_type)
    if form not in EVENT_FORMS:
        raise InvalidRequestError.of(
            "format", f"must be one of {', '.join(EVENT_FORMS)}"
        )
    return form


def _reply(content: Content, media_type: str, kept: str = FRESH) -> Response:
    response = Response(content.body, mimetype=media_type)
    response.headers["Cache-Control"] = kept
    response.set_etag(content.tag)
    response.make_conditional(request)
    return response


def _acceptable(types: Iterable[str]) -> str:
    """Answer which of `types` the caller likes best, the first where all are alike."""
    offered = list(types)
    accepted = request.accept_mimetypes
    if not accepted:
        return offered[0]
    best = accepted.best_match(offered)
    if best is None:
        raise NotAcceptableError(f"There is {', '.join(offered)}.")
    return best


def _server_url() -> str:
    """Answer the way up from here to where the document's paths start."""
    levels = request.path.count("/") - 1
    return "/".join([".."] * levels) or "."


@app.get("/openapi.json")
def get_document() -> Response:
    """Answer the document, as JSON whatever is asked for."""
    return _reply(_document(_server_url()), http.JSON)


@app.get("/api/schema/")
def get_schema() -> Response:
    """Answer the document as JSON or YAML, by `?format=` or else by `Accept`."""
    wanted = request.args.get("format")
    if wanted is None:
        media_type = _acceptable(DOCUMENT_TYPES)
    elif wanted in ("json", "yaml"):
        media_type = f"application/{wanted}"
    else:
        raise InvalidRequestError.of("format", "must be json or yaml")
    render = _document if DOCUMENT_TYPES[media_type] == "json" else _yaml
    return _negotiated(render(_server_url()), media_type)


@app.get("/problems/", defaults={"name": None})
@app.get("/problems/<name>/")
def get_problem_types(name: str | None) -> Response:
    """Answer what a type of problem means, or all of them, as a page or as JSON."""
    if name is not None and name not in _types():
        raise NotFoundError("There is no such type of problem.")
    if _acceptable((HTML, http.JSON)) == http.JSON:
        found = _problem_as_json(name) if name else _problems_as_json()
        return _negotiated(found, http.JSON)
    root = "../" if name else "./"
    if not request.path.endswith("/"):
        root = "./" if name else "problems/"
    return _negotiated(_problem_page(name, root), HTML)


def _negotiated(content: Content, media_type: str) -> Response:
    response = _reply(content, media_type)
    response.headers["Vary"] = "Accept"
    return response


@app.get("/api/schema/swagger-ui/", defaults={"name": "swagger-ui"})
@app.get("/api/schema/redoc/", defaults={"name": "redoc"})
def get_page(name: str) -> Response:
    """Answer a page for people."""
    root = "../" if request.path.endswith("/") else "./"
    return _reply(_page(name, root), HTML)


@app.get("/api/schema/events/")
def get_events() -> Response:
    """Answer the event document: JSON, YAML, or a page for people."""
    form = _event_form()
    root = "../" if request.path.endswith("/") else "./"
    response = _reply(_events(form, root), EVENT_FORMS[form])
    response.vary.add("Accept")
    return response


@app.get("/api/schema/assets/<name>")
def get_asset(name: str) -> Response:
    """Answer a file that a page loads, for ever where the page names its version."""
    if name not in ASSETS:
        abort(404)
    content = _asset(name)
    is_this_one = request.args.get("v") == content.tag
    return _reply(content, ASSETS[name], FOR_EVER if is_this_one else "no-cache")


@functions_framework.http
def api_docs(request: Request) -> Response:
    """Return the response to one request; the framework's target."""
    return respond(app, request)
