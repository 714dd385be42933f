"""The sandbox as one object: siblings, event sink, faults and records.

It configures nothing: set `sandbox.environ` before functions are loaded.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from flask import Response

from infra.local.http_server import HttpServer
from infra.local.sandbox import analytics, catalogue, product, shop, shopcart
from infra.local.sandbox.catalogue import Article
from infra.local.sandbox.control import SIBLINGS, control_routes, decode_fault
from infra.local.sandbox.event_sink import (
    Consumer,
    Event,
    EventSink,
    post_events_to,
    sink_routes,
)
from infra.local.sandbox.routes import make_app
from infra.local.sandbox.store import Store
from infra.local.sandbox.traffic import Call, Traffic, count_waits

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Sandbox:
    """The four siblings and the event sink, as one WSGI app (`self`), and its insides.

    `path` keeps their data in a file. `approval_url` is where
    `order.item.status.updated` is delivered; `order_service_url` is what the shop's
    action calls. `url` is where the app is served.
    """

    def __init__(
        self,
        *,
        path: Path | None = None,
        approval_url: str | None = None,
        order_service_url: str = "",
        is_fed_by_broker: bool = False,
    ) -> None:
        self.url = ""
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
        self.sink = EventSink(self.store, consumers, is_fed_by_broker=is_fed_by_broker)
        routes = {
            "shopcart": shopcart.shopcart_routes(self.store),
            "product": product.product_routes(self.store),
            "shop": shop.shop_routes(self.store, lambda: self.order_service_url),
            "analytics": analytics.analytics_routes(self.store),
            "sink": sink_routes(self.sink),
        }
        self._siblings = {
            name: self.traffic.watch(name, make_app(name, routes[name]))
            for name in SIBLINGS
        }
        self._control = make_app(
            "control", control_routes(self.store, self.traffic, self.sink)
        )

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer `/events` and what is below `/sandbox/`."""
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
        moved = environ | {
            "SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + prefix,
            "PATH_INFO": inner,
        }
        answer = app(moved, start_response)
        environ.update(
            {key: value for key, value in moved.items() if key.startswith("infra.")}
        )
        return answer

    def close(self) -> None:
        """Stop deliveries and let go of the data."""
        self.sink.stop()
        self.store.close()

    @property
    def environ(self) -> dict[str, str]:
        """The variables that point the functions at this sandbox."""
        return {
            "SHOPCART_SERVICE": f"{self.url}/sandbox/shopcart",
            "PRODUCT_SERVICE": f"{self.url}/sandbox/product",
            "SHOP_SERVICE": f"{self.url}/sandbox/shop",
            "ANALYTIC_SERVICE": f"{self.url}/sandbox/analytics",
            "EVENT_BUS": "http",
            "EVENT_SINK_URL": f"{self.url}/events",
        }

    # What was asked of the siblings.

    @property
    def calls(self) -> list[Call]:
        """Every call so far to any sibling or the sink, in the order of arrival."""
        return self.traffic.calls()

    def calls_to(self, *siblings: str, method: str | None = None) -> list[Call]:
        """Answer the calls that these siblings got, in the order of arrival."""
        return [
            call
            for call in self.calls
            if call.sibling in siblings and method in (None, call.method)
        ]

    def waits(self, *siblings: str) -> int:
        """Answer how many answers had to be waited for one after the other.

        Overlapping calls are one wait. Slow the siblings down first (`fault`), or
        calls sent side by side are answered one by one and do not overlap.
        """
        return count_waits(self.calls_to(*(siblings or SIBLINGS[:-1])))

    def most_at_once(self, sibling: str) -> int:
        """Answer the most calls the sibling has had at work at the same time."""
        return self.traffic.most_at_once(sibling)

    def forget_calls(self) -> None:
        """Start a new record of calls."""
        self.traffic.forget()

    # Faults.

    def fault(self, sibling: str, **fault: Any) -> None:  # noqa: ANN401
        """Break a sibling, or `sink`; the fields are those of `traffic.Fault`.

        Faults add up: the first that fits a call is met, until its `times` are used.
        """
        if sibling not in SIBLINGS:
            raise ValueError(f"{sibling!r} is none of {', '.join(SIBLINGS)}")
        self.traffic.add_fault(sibling, decode_fault(fault))

    def mend(self, sibling: str | None = None) -> None:
        """Remove the faults of one sibling, or of all."""
        self.traffic.clear_faults(sibling)

    # The siblings' data.

    def add_to_cart(self, user: str, variation: str, quantity: int = 1) -> int:
        """Add a line, with no check at all, and answer its id."""
        return shopcart.add_cart_line(self.store, user, variation, quantity)

    def cart(self, user: str) -> dict[str, Any] | None:
        """Answer the user's cart as the service shows it; None: never had one."""
        return shopcart.find_cart(self.store, user)

    def add_article(self, **article: Any) -> str:  # noqa: ANN401
        """Add a product with one variation (`catalogue.Article`); answer its id."""
        defaults: dict[str, Any] = {
            "id": str(uuid4()),
            "title": "Thing",
            "amount": 10,
            "price": "9.99",
            "base_price": "10.0",
        }
        added = Article(**(defaults | article))
        catalogue.put_article(self.store, added)
        return added.id

    def stock(self, variation: str) -> int:
        """Answer what the product service has of the variation."""
        found = product.find_variation(self.store, variation)
        if found is None:
            raise KeyError(variation)
        return int(found["amount"])

    def restock(self, variation: str, amount: int) -> None:
        """Set what the product service has of the variation."""
        if not product.set_stock(self.store, variation, amount):
            raise KeyError(variation)

    @property
    def shop_rows(self) -> list[dict[str, Any]]:
        """What the shop service has heard of, newest first."""
        return shop.list_rows(self.store)

    @property
    def completed_orders(self) -> list[dict[str, Any]]:
        """What analytics has heard, newest first, each with `times_heard`."""
        return analytics.list_orders(self.store)

    # Events.

    @property
    def events(self) -> list[Event]:
        """What was published to the sink, in the order of arrival."""
        return self.sink.events()

    def events_of(self, event_type: str) -> list[Event]:
        """Answer the events of one type, in the order of arrival."""
        return [event for event in self.events if event.type == event_type]

    def hear(self, body: dict[str, Any]) -> None:
        """Hand an event's body to the siblings that listen, past any publisher."""
        attributes = {"ce-id": str(uuid4()), "ce-type": str(body["event_type"])}
        self.sink.accept(Event(attributes=attributes, body=json.dumps(body).encode()))

    def deliver(self) -> int:
        """Deliver what is owed, once, now; for a sandbox that does not by itself."""
        return self.sink.deliver()

    def owed(self, queue: str | None = None) -> int:
        """Answer how many deliveries are outstanding, in one queue or in all."""
        queues = self.sink.queues()
        return sum(queues[name]["owed"] for name in ([queue] if queue else queues))

    def wait_until(
        self, question: Callable[[], object], timeout_seconds: float = 10
    ) -> None:
        """Wait until `question()` is true; raises TimeoutError when it stays false."""
        deadline = time.monotonic() + timeout_seconds
        while not question():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not so within {timeout_seconds} s")
            time.sleep(0.01)


@contextlib.contextmanager
def running_sandbox(
    *,
    path: Path | None = None,
    deliver: bool = True,
    approval_url: str | None = None,
    order_service_url: str = "",
) -> Iterator[Sandbox]:
    """Serve a sandbox on a free loopback port while the block runs.

    With `deliver=False` events wait in their queues until `sandbox.deliver()`, so that
    a cart is not emptied, nor stock lowered, between two steps of a test.
    """
    sandbox = Sandbox(
        path=path, approval_url=approval_url, order_service_url=order_service_url
    )
    server = HttpServer(sandbox)
    sandbox.url = server.url
    server.start()
    if deliver:
        sandbox.sink.start()
    try:
        yield sandbox
    finally:
        server.stop()
        sandbox.close()
