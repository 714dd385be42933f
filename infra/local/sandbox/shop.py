"""The sandbox's shop service: rows from `order.item.created`, and owners' actions.

An unreadable body is redelivered for ever, and from the status endpoint only 200 is
success.
"""

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import requests
from flask import Response, request

from infra.local.sandbox.routes import Route, body_field, complain, reply
from infra.local.sandbox.store import Store

OWNER = "0a0a0a0a-0000-4000-8000-000000000001"  # when the action's caller says nothing
TIMEOUT_SECONDS = 10

AskUrl = Callable[[], str]


def shop_routes(store: Store, order_service_url: AskUrl) -> list[Route]:
    """Return the routes, relative to the service's base URL.

    `order_service_url` is called at each action, as the URL may be unknown at start.
    """
    change_status = partial(_change_status, store, order_service_url)
    return [
        ("GET", "/api/shop-orders/", partial(_list_shop_orders, store)),
        ("POST", "/api/shop-orders/<int:order_item_id>/status/", change_status),
    ]


def hear_event(store: Store, event: dict[str, Any]) -> None:
    """Keep a row for the item; a repeat changes nothing.

    Raise KeyError, TypeError or ValueError for a body that the real service cannot
    read either, which leaves the message in its queue, for ever.
    """
    if event.get("event_type") != "order.item.created":
        return
    row = (
        _int_from_text(event["order_item_id"]),
        _int_from_text(event["order_id"]),
        str(UUID(event["shop_id"])),
        str(UUID(event["product_id"])),
        str(UUID(event["product_variation"])),
        int(event["quantity"]),
        int(event["price"]),
        int(event["status"]),
        str(UUID(event["user_id"])),
    )
    with store.transaction() as connection:
        connection.execute(
            "INSERT OR IGNORE INTO shop_row VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row
        )


def list_rows(store: Store) -> list[dict[str, Any]]:
    """Return every row the shops have, newest first."""
    with store.transaction() as connection:
        rows = connection.execute("SELECT * FROM shop_row ORDER BY order_item_id DESC")
        return [dict(row) for row in rows]


def _list_shop_orders(store: Store) -> Response:
    return reply(list_rows(store))


def _change_status(
    store: Store, order_service_url: AskUrl, order_item_id: int
) -> Response:
    if not _has_row(store, order_item_id):
        return complain(404, "Shop order item not found")
    try:
        response = _call_order_service(
            f"{order_service_url()}/api/order-items/{order_item_id}/status/",
            request.headers.get("X-User-ID", OWNER),
            body_field("status"),
        )
    except requests.RequestException as error:
        return complain(503, f"order service: {type(error).__name__}")
    if response.status_code != requests.codes.ok:
        return complain(502, f"order service: {response.status_code} {response.text}")
    item = response.json()
    with store.transaction() as connection:
        connection.execute(
            "UPDATE shop_row SET status = ? WHERE order_item_id = ?",
            (int(item["status"]), order_item_id),
        )
    return reply(item)


def _call_order_service(url: str, owner: str, status: object) -> requests.Response:
    """Call the status endpoint as the real shop service does: no token, no retry."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy and no .netrc between two local servers
        return session.patch(
            url,
            json={"status": status},
            headers={"X-User-ID": owner},
            timeout=TIMEOUT_SECONDS,
            allow_redirects=False,
        )


def _has_row(store: Store, order_item_id: int) -> bool:
    with store.transaction() as connection:
        found = connection.execute(
            "SELECT 1 FROM shop_row WHERE order_item_id = ?", (order_item_id,)
        ).fetchone()
    return found is not None


def _int_from_text(value: object) -> int:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a numeric string")
    return int(value)
