"""The shopcart service: the caller's cart, and changes to its lines.

The cart's path ends with a slash, an item's does not.
"""

import enum
from collections.abc import Sequence
from uuid import UUID

from common.clients.batch import Upstream, parse, require
from common.clients.calls import Call, UpstreamResponse
from common.domain.cart import Cart
from common.errors import CartNotFoundError, ServiceError
from common.json import encode

_BAD_REQUEST, _NOT_FOUND = 400, 404
_REFUSALS = (_BAD_REQUEST, 401, 403, _NOT_FOUND, 405, 409, 410, 422)


class Outcome(enum.Enum):
    """How a change of a cart line ended."""

    DONE = "done"
    QUANTITY_REFUSED = "quantity refused"  # the service finds it too much
    REFUSED = "refused"  # in the service's own words, so nothing has changed
    UNKNOWN = "unknown"  # it may have happened


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


def change_lines(
    upstream: Upstream,
    user_id: UUID,
    changes: Sequence[tuple[int, int | None]],
    deadline: float,
) -> list[Outcome]:
    """Set the quantity of each (line id, quantity), or remove the line if it is None.

    Makes all calls concurrently, and logs a warning for each that fails. A line that is
    already gone counts as removed.
    """
    calls = [
        delete_cart_item(line_id)
        if quantity is None
        else update_cart_item(line_id, quantity)
        for line_id, quantity in changes
    ]
    results = upstream.send(calls, user_id, deadline)
    return [
        _outcome(upstream, call, result)
        for call, result in zip(calls, results, strict=True)
    ]


def _outcome(
    upstream: Upstream, call: Call, result: UpstreamResponse | ServiceError
) -> Outcome:
    if isinstance(result, ServiceError):
        upstream.log_failure(call, result)
        return Outcome.UNKNOWN
    if _is_done(result):
        return Outcome.DONE
    if call.method == "PUT" and result.is_refusal(_BAD_REQUEST):
        return Outcome.QUANTITY_REFUSED
    if result.is_refusal(*_REFUSALS):
        return Outcome.REFUSED
    upstream.invalid(result, "it does not say whether the cart line has changed")
    return Outcome.UNKNOWN


def _is_done(response: UpstreamResponse) -> bool:
    if response.call.method == "PUT":
        return response.is_success(200)
    return response.is_success(200, 204) or response.is_refusal(_NOT_FOUND)
