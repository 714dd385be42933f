"""Which path a local run gives to which function, and what it does to prefixes."""

from typing import Any

import pytest
from werkzeug.test import Client
from werkzeug.wrappers import Response

from infra.local.gateway import FUNCTIONS, Gateway


def echo(name: str) -> Any:
    """Answer an app that tells its name, the path it saw, and the prefix."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        prefix = environ.get("HTTP_X_FORWARDED_PREFIX", "")
        text = f"{name} {environ['PATH_INFO']} {prefix}".rstrip()
        return Response(text)(environ, start_response)

    return app


@pytest.fixture
def gateway() -> Client:
    made = Gateway()
    made.sandbox = echo("sandbox")
    made.functions = {name: echo(name) for name in FUNCTIONS}
    return Client(made)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/api/orders-from-shopcart/", "create_order_from_cart"),
        ("/api/orders-from-shopcart", "create_order_from_cart"),
        ("/api/orders/", "orders_crud"),
        ("/api/orders/7", "orders_crud"),
        ("/api/order-items/9/", "orders_crud"),
        ("/api/order-items/9/status/", "item_status"),
        ("/api/order-items/9/status", "item_status"),
        ("/openapi.json", "api_docs"),
        ("/ops", "ops_console"),
        ("/ops/orders/7/", "ops_console"),
        ("/api/schema", "api_docs"),
        ("/api/schema/swagger-ui/", "api_docs"),
        ("/problems/", "api_docs"),
        ("/problems/busy", "api_docs"),
        ("/problems-and-more", "orders_crud"),
        ("/health/ready", "orders_crud"),
        ("/no/such/thing", "orders_crud"),
        ("/orders", "orders_crud"),
        ("/functions/no_such_function/", "orders_crud"),
        ("/events", "sandbox"),
        ("/sandbox/queues", "sandbox"),
    ],
)
def test_a_path_reaches_whom_it_belongs_to_and_stays_whole(
    gateway: Client, path: str, answer: str
) -> None:
    assert gateway.get(path).text == f"{answer} {path}"


def test_gateways_prefix_is_taken_off_and_named_in_header(
    gateway: Client,
) -> None:
    prefixed = gateway.get("/order/api/orders/7/")
    assert prefixed.text == "orders_crud /api/orders/7/ /order"
    # What is not public on the real platform is not to be reached through it.
    assert gateway.get("/order/sandbox/queues").text.startswith("orders_crud")


def test_a_function_can_be_called_past_all_routing(gateway: Client) -> None:
    assert gateway.post("/functions/outbox_relay").text == "outbox_relay /"
    path = "/functions/item_status/health/live"
    assert gateway.get(path).text == "item_status /health/live"
