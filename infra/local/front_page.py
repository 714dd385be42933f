"""The page at `/` of a local run: what is here, with links, for people.

Lives here: one small HTML page. Not here: the API's documentation, which it points to.
Surprise: nothing on it comes from outside, so it works without a network.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from markupsafe import escape
from werkzeug.wrappers import Request, Response

from infra.local.sandbox.catalogue import DEMO_USER, MUG

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Order service, local run</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto;
  padding: 0 1rem; color: #222; }}
pre {{ background: #f3f3f0; padding: .8rem; overflow-x: auto; font-size: 13px; }}
th, td {{ text-align: left; padding: .1rem 1.2rem .1rem 0; vertical-align: top; }}
</style>
</head>
<body>
<h1>Order service, local run</h1>
<p>Whoever sends <code>X-User-ID: &lt;a UUID&gt;</code> is that user here; on the real
platform the gateway sets it.</p>
<h2>Check out</h2>
<pre>{request}</pre>
<h2>The service</h2>
<table>
<tr><td><a href="/api/schema/swagger-ui/">Swagger UI</a>,
<a href="/api/schema/redoc/">ReDoc</a>,
<a href="/openapi.json">openapi.json</a>,
<a href="/problems/">problems</a></td><td>how to call it</td></tr>
<tr><td><a href="/api/schema/events/">events</a></td>
<td>what it publishes, and to whom</td></tr>
<tr><td><a href="/ops/">/ops/</a></td>
<td>the operations console, for whoever is on duty</td></tr>
<tr><td><a href="/health/ready">/health/ready</a></td>
<td>whether it can work</td></tr>
<tr><td><code>/order/…</code></td>
<td>the same, behind the gateway's prefix</td></tr>
<tr><td><code>/functions/&lt;name&gt;/…</code></td>
<td>one function, past all routing</td></tr>
<tr><td><a href="/traces/">traces</a></td>
<td>what each request did, from the click to analytics</td></tr>
</table>
<h2>The sandbox around it</h2>
<table>
<tr><td><a href="/sandbox/product/api/products/variations/">catalogue</a></td>
<td>product: what there is to order, with stock</td></tr>
<tr><td><code>/sandbox/shopcart/api/mycart/</code></td>
<td>shopcart: the cart of <code>X-User-ID</code></td></tr>
<tr><td><a href="/sandbox/shop/api/shop-orders/">shop orders</a></td>
<td>shop: what it has to ship</td></tr>
<tr><td><a href="/sandbox/analytics/api/analitic-order-completed/">completed orders</a>
</td><td>analytics: what it was told</td></tr>
<tr><td><a href="/sandbox/events">events</a>,
<a href="/sandbox/queues">queues</a></td>
<td>what was published, and who has yet to hear of it</td></tr>
<tr><td><a href="/sandbox/calls">calls</a>,
<a href="/sandbox/faults">faults</a></td>
<td>what the siblings were asked, and how they are broken</td></tr>
</table>
<p>Break a sibling, and mend it again:</p>
<pre>curl -X PUT {url}/sandbox/faults/product \\
  -H 'Content-Type: application/json' -d '{{"status": 503, "delay_seconds": 1}}'
curl -X DELETE {url}/sandbox/faults/product</pre>
</body>
</html>
"""


def ready_made_request(url: str) -> str:
    """Answer shell lines that fill a cart and check out, to be pasted as they are."""
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
    """Answer the page."""
    url = Request(environ).host_url.rstrip("/")
    page = PAGE.format(request=escape(ready_made_request(url)), url=escape(url))
    return Response(page, mimetype="text/html")(environ, start_response)
