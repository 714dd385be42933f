"""Keep other sites' pages out of a port that believes whoever reaches it.

A browser on this machine carries requests of any page that it shows. A page whose own
name leads to 127.0.0.1 is known by the host that it asks for, any other page by its
origin.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

from common.web.loopback import HOST_NAME
from infra.local.cors import shared

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_LOCAL_ORIGIN = re.compile(rf"https?://{HOST_NAME}(?::[0-9]{{1,5}})?")
# Not for other origins, not even for a front end that somebody develops on this
# machine: what acts as an operator, and what only schedulers and exporters call.
_OWN_PAGES = re.compile(r"(/order)?/(ops|functions|traces|events)(?![^/])")


def guarded(
    app: "WSGIApplication", *, names: Collection[str] = (), is_shared: bool = False
) -> "WSGIApplication":
    """Return `app` for this machine's own names and pages only.

    The host must be a loopback name, or one of `names`, with the port that is served;
    else it is a 421. A browser's request must come from a page of the same origin or,
    but for the console and what is internal, of any port of this machine; else it is a
    403. Clients that are no browsers send no origin. Where it `is_shared`, pages of
    other ports may read responses, too.
    """
    behind = shared(app, _is_own_page) if is_shared else app

    def guard(
        environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        refused = _refusal(Request(environ), names)
        return (refused or behind)(environ, start_response)

    return guard


def _refusal(request: Request, names: Collection[str]) -> Response | None:
    host = request.headers.get("Host", "").lower()
    port = request.environ["SERVER_PORT"]
    own = "|".join([HOST_NAME, *map(re.escape, names)])
    if not re.fullmatch(rf"(?:{own}):{port}", host) and not (
        port == "80" and re.fullmatch(own, host)
    ):
        return _problem(
            421,
            "Misdirected request",
            f"This is a local platform, which is served at localhost:{port} and"
            f" 127.0.0.1:{port} only, not under the name that was asked for.",
        )
    if not _is_known(request, host):
        return _problem(
            403,
            "Forbidden",
            "The request was sent by a page of another site, for which this local"
            " platform does nothing.",
        )
    return None


def _is_known(request: Request, host: str) -> bool:
    """Return whether a request is of no browser, or of a page that may send it."""
    headers = request.headers
    origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site")
    is_own_page = _is_own_page(request)
    if origin is not None:
        if is_own_page:
            return origin == f"http://{host}" and site in (None, "same-origin")
        return _LOCAL_ORIGIN.fullmatch(origin) is not None
    if site in (None, "same-origin", "none"):  # "none": the user typed the address
        return True
    # Somebody follows a link from elsewhere: reading changes nothing.
    if request.method in ("GET", "HEAD") and _is_navigation(headers.get):
        return True
    return site == "same-site" and not is_own_page


def _is_own_page(request: Request) -> bool:
    return _OWN_PAGES.match(request.path) is not None


def _is_navigation(header: Callable[[str], str | None]) -> bool:
    return (
        header("Sec-Fetch-Mode") == "navigate"
        and header("Sec-Fetch-Dest") == "document"
    )


def _problem(status: int, title: str, detail: str) -> Response:
    problem = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "error": title,
    }
    return Response(json.dumps(problem), status, mimetype="application/problem+json")
