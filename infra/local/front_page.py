"""The page at `/` of a local run: what is here, and buttons to try it, for people.

Nothing on it (`pages/front.html`) comes from outside, so it works without a network.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

from infra.local.pages import render
from infra.local.sandbox.catalogue import DEMO_USER, MUG

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def ready_made_request(url: str) -> str:
    """Return shell lines that fill a cart and check out, to be pasted as they are."""
    return (
        f"curl -sS {url}/sandbox/shopcart/api/mycart/items/ \\\n"
        f"  -H 'X-User-ID: {DEMO_USER}' -H 'Content-Type: application/json' \\\n"
        f'  -d \'{{"product_variation_id": "{MUG}", "quantity": 2}}\' &&\n'
        f"curl -sS -X POST {url}/api/orders-from-shopcart/ \\\n"
        f"  -H 'X-User-ID: {DEMO_USER}'"
    )


def front_page(
    environ: "WSGIEnvironment", start_response: "StartResponse"
) -> Iterable[bytes]:
    """Return the page."""
    url = Request(environ).host_url.rstrip("/")
    page = render(
        "front", request=ready_made_request(url), url=url, user=DEMO_USER, mug=MUG
    )
    return Response(page, mimetype="text/html")(environ, start_response)
