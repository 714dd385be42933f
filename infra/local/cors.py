"""Let pages of other ports of this machine call the API, as a gateway does for a site.

Whether a page may is decided before (`guard.py`); this tells the browser so.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# What a client needs beside the body: versions, pages, where it is, when to try again.
EXPOSED = (
    *("ETag", "Link", "Location", "Retry-After", "X-Request-ID"),
    "Idempotency-Replayed",
)
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
KEPT_SECONDS = 600  # by the browser, until it asks again


def shared(
    app: "WSGIApplication", is_private: Callable[[Request], bool]
) -> "WSGIApplication":
    """Return `app` with CORS headers for the origin that asks, where it is not private.

    A browser's question before a request is answered here.
    """

    def share(
        environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        request = Request(environ)
        if is_private(request):
            return app(environ, start_response)
        headers = _headers(request)
        if _is_preflight(request):
            return Response(status=204, headers=headers)(environ, start_response)

        def start(status: str, given: list[tuple[str, str]], *error: Any) -> Any:  # noqa: ANN401 the server's
            return start_response(status, [*given, *headers], *error)

        return app(environ, start)

    return share


def _is_preflight(request: Request) -> bool:
    names = ("Origin", "Access-Control-Request-Method")
    return request.method == "OPTIONS" and all(n in request.headers for n in names)


def _headers(request: Request) -> list[tuple[str, str]]:
    # Always, so that a cache does not give one origin the response for another.
    headers = [("Vary", "Origin")]
    origin = request.headers.get("Origin")
    if origin is None:
        return headers
    headers.append(("Access-Control-Allow-Origin", origin))
    if not _is_preflight(request):
        return [*headers, ("Access-Control-Expose-Headers", ", ".join(EXPOSED))]
    wanted = request.headers.get("Access-Control-Request-Headers", "")
    return [
        *headers,
        ("Access-Control-Allow-Methods", METHODS),
        ("Access-Control-Allow-Headers", wanted),
        ("Access-Control-Max-Age", str(KEPT_SECONDS)),
    ]
