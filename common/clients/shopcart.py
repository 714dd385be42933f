"""The shopcart service: the caller's cart, and repairs to it.

The cart's path ends with a slash, an item's does not.
"""

from collections.abc import Sequence
from uuid import UUID

from common.clients.batch import Call, Upstream, UpstreamResponse, parse, require
from common.domain.cart import Cart
from common.errors import CartNotFoundError
from common.json import encode

_NOT_FOUND = 404


def get_shopcart_data(upstream: Upstream, user_id: UUID, deadline: float) -> Cart:
    """Return the caller's cart; raise CartNotFoundError if there is none."""
    [result] = upstream.send([Call("GET", "/api/mycart/")], user_id, deadline)
    response = require(result)
    if response.is_refusal(_NOT_FOUND):
        raise CartNotFoundError
    return parse(upstream, response, Cart)


def update_cart_item(line_id: int, quantity: int) -> Call:
    """Return the call that sets a line's quantity."""
    body = encode({"quantity": quantity}).encode()
    return Call("PUT", f"/api/items/{line_id}", body)


def delete_cart_item(line_id: int) -> Call:
    """Return the call that removes a line."""
    return Call("DELETE", f"/api/items/{line_id}")


def repair(
    upstream: Upstream,
    user_id: UUID,
    repairs: Sequence[tuple[int, int | None]],
    deadline: float,
) -> list[bool]:
    """Set the quantity of each (line id, quantity), or remove the line if it is None.

    Makes all calls concurrently. Return for each whether it succeeded; a line that is
    already gone counts as removed.
    """
    calls = [
        delete_cart_item(line_id)
        if quantity is None
        else update_cart_item(line_id, quantity)
        for line_id, quantity in repairs
    ]
    results = upstream.send(calls, user_id, deadline)
    return [
        isinstance(result, UpstreamResponse) and _is_done(result) for result in results
    ]


def _is_done(response: UpstreamResponse) -> bool:
    if response.call.method == "PUT":
        return response.is_success(200)
    return response.is_success(200, 204) or response.is_refusal(_NOT_FOUND)
