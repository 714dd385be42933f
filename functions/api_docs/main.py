"""The documents of the API and its events, and pages made from them: JSON, YAML, HTML.

Links are relative to the path of the request, with or without its trailing slash, so
that everything works below any prefix that a gateway adds.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus

import functions_framework
from flask import Request, Response, abort, request

from common import startup
from common.api_docs import pages
from common.api_docs.pages import Content
from common.errors import (
    InvalidRequestError,
    NotAcceptableError,
    NotFoundError,
    PreconditionFailedError,
)
from common.web import replies
from common.web.app import create_app, respond
from common.web.loopback import is_local

HTML = "text/html"
YAML = "application/yaml"
# The format of each media type; the first is the default.
API_TYPES = {
    replies.JSON: "json",
    YAML: "yaml",
    "application/vnd.oai.openapi+json": "json",
    "application/vnd.oai.openapi": "yaml",
}
EVENT_TYPES = {replies.JSON: "json", YAML: "yaml", HTML: "html"}
CACHED = "public, max-age=300"
IMMUTABLE = "public, max-age=31536000, immutable"
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

startup.start()
app = create_app("api_docs", headers=HEADERS)


@app.get("/openapi.json")
def get_document() -> Response:
    """Return the API document as JSON, whatever the request accepts."""
    return _reply(pages.document("openapi", "json"), replies.JSON)


@app.get("/api/schema")
def get_schema() -> Response:
    """Return the API document as JSON or YAML."""
    media_type = _requested(API_TYPES)
    return _negotiated(pages.document("openapi", API_TYPES[media_type]), media_type)


@app.get("/api/schema/events")
def get_events() -> Response:
    """Return the event document as JSON or YAML, or a page for people."""
    media_type = _requested(EVENT_TYPES)
    if media_type == HTML:
        return _negotiated(_page("events.html", _up()), HTML)
    return _negotiated(pages.document("asyncapi", EVENT_TYPES[media_type]), media_type)


@app.get("/api/schema/swagger-ui", defaults={"name": "swagger-ui"})
@app.get("/api/schema/redoc", defaults={"name": "redoc"})
def get_page(name: str) -> Response:
    """Return a page for people."""
    return _reply(_page(f"{name}.html", _up()), HTML)


@app.get("/api/schema/assets/<name>")
def get_asset(name: str) -> Response:
    """Return a file that a page loads; it may be cached if the URL has its version."""
    if name not in pages.ASSETS:
        abort(404)
    content = pages.asset(name)
    is_current = request.args.get("v") == content.tag
    cache_control = IMMUTABLE if is_current else "no-cache"
    return _reply(content, pages.ASSETS[name], cache_control)


@app.get("/problems", defaults={"name": None})
@app.get("/problems/<name>")
def get_problem_types(name: str | None) -> Response:
    """Return the description of a problem type, or of all, as a page or as JSON."""
    if name is not None and name not in pages.problems():
        raise NotFoundError("There is no such type of problem.")
    if _acceptable((HTML, replies.JSON)) == replies.JSON:
        return _negotiated(pages.problem_json(name), replies.JSON)
    root = _up() if name else ("./" if request.path.endswith("/") else "problems/")
    return _negotiated(_page("problems.html", root, name), HTML)


def _page(template: str, root: str, problem: str | None = None) -> Content:
    """Return a page, with a link to the front page where there is one."""
    is_run = is_local(request) and "X-Local-Run" in request.headers
    return pages.page(template, root, problem, is_local=is_run)


def _up() -> str:
    """Return the relative path from the request's path to its parent."""
    return "../" if request.path.endswith("/") else "./"


def _requested(types: Mapping[str, str]) -> str:
    """Return the media type that `?format=` names, or else `Accept`."""
    requested = request.args.get("format")
    if requested is None:
        return _acceptable(types)
    for media_type, format_ in types.items():
        if format_ == requested:
            return media_type
    formats = ", ".join(dict.fromkeys(types.values()))
    raise InvalidRequestError.of("format", f"must be one of {formats}")


def _acceptable(types: Iterable[str]) -> str:
    """Return the one of `types` that the caller prefers, by default the first."""
    offered = list(types)
    accepted = request.accept_mimetypes
    best = accepted.best_match(offered) if accepted else offered[0]
    if best is None:
        raise NotAcceptableError(f"Available: {', '.join(offered)}.")
    return best


def _reply(content: Content, media_type: str, cache_control: str = CACHED) -> Response:
    response = Response(content.body, mimetype=media_type)
    response.headers["Cache-Control"] = cache_control
    response.set_etag(content.tag)
    response.make_conditional(request)
    if response.status_code == HTTPStatus.PRECONDITION_FAILED:
        raise PreconditionFailedError
    return response


def _negotiated(content: Content, media_type: str) -> Response:
    response = _reply(content, media_type)
    response.headers["Vary"] = "Accept"
    return response


@functions_framework.http
def api_docs(request: Request) -> Response:
    """Return the response to one request; the framework's target."""
    return respond(app, request)
