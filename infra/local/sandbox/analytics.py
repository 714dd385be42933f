"""The sandbox's analytics service, which receives completed orders.

Its path is misspelled, ids are numeric strings, a UUID gets a 500, and a repeated order
a 200 that changes nothing.
"""

import json
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any
from uuid import UUID

from flask import Response, request

from infra.local.sandbox.routes import Route, complain, reply
from infra.local.sandbox.store import Store

PATH = "/api/analitic-order-completed/"


def analytics_routes(store: Store) -> list[Route]:
    """Return the routes, relative to the service's base URL."""
    return [
        ("POST", PATH, partial(_hear_completed_order, store)),
        ("GET", PATH, partial(_list_completed_orders, store)),
    ]


def list_orders(store: Store) -> list[dict[str, Any]]:
    """Return what was heard first of each order, newest order first.

    `times_heard` is added to each body.
    """
    with store.transaction() as connection:
        rows = connection.execute("SELECT * FROM completed_order ORDER BY id DESC")
        return [
            {**json.loads(row["body"]), "times_heard": row["times_heard"]}
            for row in rows
        ]


def _hear_completed_order(store: Store) -> Response:
    body = request.get_json(silent=True)
    try:
        order_id = _check(body)
    except (KeyError, TypeError, ValueError, InvalidOperation, AttributeError):
        return complain(500, "Internal Server Error")
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO completed_order VALUES (?, 1, ?) ON CONFLICT (id)"
            " DO UPDATE SET times_heard = times_heard + 1",
            (order_id, json.dumps(body)),
        )
        times = connection.execute(
            "SELECT times_heard FROM completed_order WHERE id = ?", (order_id,)
        ).fetchone()[0]
    return reply({"id": str(order_id)}, 201 if times == 1 else 200)


def _list_completed_orders(store: Store) -> Response:
    return reply(list_orders(store))


def _check(body: Any) -> int:  # noqa: ANN401
    """Return the order's id; raise where the real service falls over."""
    order_id = int(_text(body["id"]))
    UUID(body["user_id"])
    _text(body["created_at"])
    for item in body["items"]:
        int(_text(item["id"]))
        int(item["quantity"])
        UUID(item["product_variation"])
        Decimal(str(item["price"]))
    return order_id


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value
