"""The sandbox's shopcart service: carts by `X-User-ID`, emptied by `order.created`.

Adding what is in the cart already makes a second line, and an `order.created` without
nested `data`, or without a cart, is silently ignored. A new quantity may be checked,
through the product service's read cache.
"""

import sqlite3
from functools import partial
from typing import Any
from uuid import UUID

from flask import Response, request

from infra.local.sandbox.product import ReadCache, find_variation
from infra.local.sandbox.routes import (
    Route,
    body_field,
    complain,
    is_int,
    normal_uuid,
    reply,
)
from infra.local.sandbox.store import Store
from infra.local.sandbox.switches import Switches


def shopcart_routes(store: Store, switches: Switches, cache: ReadCache) -> list[Route]:
    """Return the routes, relative to the service's base URL.

    `cache` is the product service's, of variations.
    """
    change_line = partial(_change_line, store, switches, cache)
    return [
        ("GET", "/api/mycart/", partial(_read_cart, store)),
        ("POST", "/api/mycart/items/", partial(_add_line, store)),
        ("PUT", "/api/items/<int:line_id>", change_line),
        ("DELETE", "/api/items/<int:line_id>", partial(_remove_line, store)),
    ]


def hear_event(store: Store, event: dict[str, Any]) -> None:
    """Empty the cart of the user who has ordered; the cart itself and its id stay."""
    data = event.get("data")
    if event.get("event_type") != "order.created" or not isinstance(data, dict):
        return
    if data["cart_id"] is None:  # ordered by hand
        return
    with store.transaction() as connection:
        connection.execute(
            "DELETE FROM cart_line WHERE cart_id ="
            " (SELECT id FROM cart WHERE user_uuid = ?)",
            (str(UUID(data["user_uuid"])),),
        )


def find_cart(store: Store, user: str) -> dict[str, Any] | None:
    """Return the user's cart as the service shows it, None if there never was one."""
    with store.transaction() as connection:
        cart = connection.execute(
            "SELECT id, user_uuid FROM cart WHERE user_uuid = ?", (user,)
        ).fetchone()
        if cart is None:
            return None
        lines = connection.execute(
            "SELECT id, product_variation_id, quantity FROM cart_line"
            " WHERE cart_id = ? ORDER BY id",
            (cart["id"],),
        ).fetchall()
    return {**dict(cart), "items": [dict(line) for line in lines]}


def add_cart_line(store: Store, user: str, variation: str, quantity: int) -> int:
    """Add a line, unchecked, and return its id; make the cart if there is none."""
    with store.transaction() as connection:
        connection.execute("INSERT OR IGNORE INTO cart (user_uuid) VALUES (?)", (user,))
        cursor = connection.execute(
            "INSERT INTO cart_line (cart_id, product_variation_id, quantity)"
            " SELECT id, ?, ? FROM cart WHERE user_uuid = ?",
            (variation, quantity, user),
        )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _read_cart(store: Store) -> Response:
    user = _user()
    if user is None:
        return complain(401, "User ID not provided")
    cart = find_cart(store, user)
    return reply(cart) if cart else complain(404, "Cart not found")


def _add_line(store: Store) -> Response:
    user = _user()
    if user is None:
        return complain(401, "User ID not provided")
    variation = normal_uuid(body_field("product_variation_id"))
    if variation is None:
        return complain(422, "product_variation_id must be a UUID")
    quantity = body_field("quantity", 1)
    if not is_int(quantity, at_least=1):
        return complain(422, "quantity must be at least 1")
    line_id = add_cart_line(store, user, variation, quantity)
    line = {"id": line_id, "product_variation_id": variation, "quantity": quantity}
    return reply(line, 201)


def _change_line(
    store: Store, switches: Switches, cache: ReadCache, line_id: int
) -> Response:
    quantity = body_field("quantity")
    if not is_int(quantity, at_least=1):
        return complain(422, "quantity must be at least 1")
    with store.transaction() as connection:
        variation = _variation_of(connection, line_id)
    if variation is None:
        return complain(404, "Cart item not found")
    if switches.stock_check and (reason := _refusal(store, cache, variation, quantity)):
        return complain(400, reason)
    with store.transaction() as connection:
        connection.execute(
            "UPDATE cart_line SET quantity = ? WHERE id = ?", (quantity, line_id)
        )
    return reply({"id": line_id, "quantity": quantity})


def _refusal(
    store: Store, cache: ReadCache, variation: str, quantity: int
) -> str | None:
    """Return why there is not enough in stock, by whatever row the cache holds."""
    row = find_variation(store, variation)
    if row is None:
        return "Variation not found"
    amount = cache.read(row)["amount"]
    return f"Not enough stock. Available: {amount}" if quantity > amount else None


def _remove_line(store: Store, line_id: int) -> Response:
    with store.transaction() as connection:
        if _variation_of(connection, line_id) is None:
            return complain(404, "Cart item not found")
        connection.execute("DELETE FROM cart_line WHERE id = ?", (line_id,))
    return reply({"message": "Item removed"})


def _user() -> str | None:
    return normal_uuid(request.headers.get("X-User-ID"))


def _variation_of(connection: sqlite3.Connection, line_id: int) -> str | None:
    """Return the line's variation, None if it does not exist or is not the caller's."""
    found = connection.execute(
        "SELECT product_variation_id FROM cart_line JOIN cart ON cart.id = cart_id"
        " WHERE cart_line.id = ? AND user_uuid = ?",
        (line_id, _user()),
    ).fetchone()
    return found["product_variation_id"] if found else None
