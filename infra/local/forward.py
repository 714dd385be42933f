"""A WSGI app that forwards each request to another address.

Nothing is retried, because a gateway cannot know whether the first attempt arrived.
"""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError
from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CONNECTIONS = 64  # to each address; more are opened and not kept
CONNECT_SECONDS = 2.0
READ_SECONDS = 60.0
# Headers of one connection, which are not forwarded (RFC 9110, 7.6.1).
HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


def forward_to(url: str, *, keeps_host: bool = True) -> "WSGIApplication":
    """Return an app that passes each request on to `url`, and the response back.

    Unless `keeps_host`, the host is that of `url`. If nothing answers there, it is a
    502 that names the address to whoever runs this.
    """
    dropped = HOP_BY_HOP if keeps_host else HOP_BY_HOP | {"host"}
    pool = PoolManager(maxsize=CONNECTIONS)
    timeout = Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)

    def app(
        environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        request = Request(environ)
        path = quote(environ["PATH_INFO"].encode("latin-1"), safe="/:@!$&'()*+,;=~")
        query = environ.get("QUERY_STRING", "")
        try:
            reply = pool.request(
                request.method,
                f"{url}{path}{'?' if query else ''}{query}",
                body=request.get_data() or None,
                headers={
                    name: value
                    for name, value in request.headers
                    if value and name.lower() not in dropped
                },
                timeout=timeout,
                retries=False,
                redirect=False,
                decode_content=False,
            )
        except HTTPError:
            return _unreachable(url)(environ, start_response)
        headers = [
            (name, value)
            for name, value in reply.headers.items()
            if name.lower() not in HOP_BY_HOP
        ]
        start_response(f"{reply.status} {reply.reason or ''}", headers)
        return [reply.data]

    return app


def _unreachable(url: str) -> Response:
    title = "Bad gateway"
    problem = {
        "type": "about:blank",
        "title": title,
        "status": 502,
        "detail": f"nobody answers at {url}",
        "error": title,
    }
    return Response(json.dumps(problem), 502, mimetype="application/problem+json")
