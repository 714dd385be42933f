"""The sandbox as one object: the siblings' apps behind one address, and the event sink.

It configures nothing: the functions' settings have to name its address.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Response

from infra.local.sandbox import analytics, catalogue, product, shop, shopcart
from infra.local.sandbox.control import SIBLINGS, control_routes
from infra.local.sandbox.event_sink import (
    Consumer,
    EventSink,
    post_events_to,
    sink_routes,
)
from infra.local.sandbox.routes import make_app
from infra.local.sandbox.store import Store
from infra.local.sandbox.switches import Switches
from infra.local.sandbox.traffic import Traffic

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Seconds: a person hardly sees it, and a second request is often faster.
LIFELIKE_DELAYS = {"product": (0.0, 0.5), "shopcart": (0.0, 0.5)}


class Sandbox:
    """The four siblings and the event sink, as one WSGI app (`self`), and its insides.

    `path` keeps their data in a file. `approval_url` is where
    `order.item.status.updated` is delivered; `order_service_url` is what the shop's
    action calls. With `is_lifelike` consumers are late, and the shopcart checks stock,
    as in the real services.
    """

    def __init__(
        self,
        *,
        path: Path | None = None,
        approval_url: str | None = None,
        order_service_url: str = "",
        is_fed_by_broker: bool = False,
        is_lifelike: bool = False,
    ) -> None:
        self.order_service_url = order_service_url
        self.store = Store(path)
        self.traffic = Traffic()
        catalogue.fill_catalogue(self.store)
        consumers: dict[str, Consumer] = {
            "product": lambda event: product.hear_event(self.store, event.json),
            "shopcart": lambda event: shopcart.hear_event(self.store, event.json),
            "shop": lambda event: shop.hear_event(self.store, event.json),
        }
        if approval_url:
            consumers["approval_handler"] = post_events_to(approval_url)
        self.sink = EventSink(
            self.store,
            consumers,
            is_fed_by_broker=is_fed_by_broker,
            delays=LIFELIKE_DELAYS if is_lifelike else {},
        )
        self.switches = Switches(stock_check=is_lifelike)
        self.variations = product.ReadCache(self.switches)
        products = product.ReadCache(self.switches)
        routes = {
            "shopcart": shopcart.shopcart_routes(
                self.store, self.switches, self.variations
            ),
            "product": product.product_routes(self.store, self.variations, products),
            "shop": shop.shop_routes(self.store, lambda: self.order_service_url),
            "analytics": analytics.analytics_routes(self.store),
            "sink": sink_routes(self.sink),
        }
        self._siblings = {
            name: self.traffic.watch(name, make_app(name, routes[name]))
            for name in SIBLINGS
        }
        control = control_routes(
            self.store,
            self.traffic,
            self.sink,
            self.switches,
            (self.variations, products),
        )
        self._control = make_app("control", control)

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Return `/events` and what is below `/sandbox/`."""
        path = environ["PATH_INFO"]
        if path.rstrip("/") == "/events":
            return self._siblings["sink"](environ, start_response)
        root, _, rest = path.lstrip("/").partition("/")
        name, slash, tail = rest.partition("/")
        if root != "sandbox":
            return Response(status=404)(environ, start_response)
        app: WSGIApplication = self._control
        prefix, inner = "/sandbox", f"/{rest}"
        if name in self._siblings and name != "sink":
            app = self._siblings[name]
            prefix, inner = f"/sandbox/{name}", slash + tail
        inner_environ = environ | {
            "SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + prefix,
            "PATH_INFO": inner,
        }
        response = app(inner_environ, start_response)
        environ.update(
            {k: value for k, value in inner_environ.items() if k.startswith("infra.")}
        )
        return response

    def close(self) -> None:
        """Stop deliveries and close the data file."""
        self.sink.stop()
        self.store.close()
