"""The shopcart service: the caller's cart, and repairs to it.

Lives here: paths and shapes of three calls. Not here: which repairs are due
(`checkout.py`). Surprise: the cart's path ends in a slash, an item's does not.
"""

from collections.abc import Sequence
from uuid import UUID

from msgspec import Struct

from common.clients import Call, Upstream, parse, require
from common.errors import CartNotFoundError
from common.schemas import encode, parse_uuid
from common.wire import Answer

_NOT_FOUND = 404


class CartLine(Struct, frozen=True):
    """One line of a cart; `variation` is None where the id is no UUID."""

    id: int
    product_variation_id: str | None
    quantity: int | None

    @property
    def variation(self) -> UUID | None:
        """Answer the variation's id."""
        return parse_uuid(self.product_variation_id)


class Cart(Struct, frozen=True):
    """A cart as the shopcart service tells it."""

    id: int
    items: list[CartLine]


def read_cart(upstream: Upstream, user_id: UUID, deadline: float) -> Cart:
    """Answer the caller's cart; raises CartNotFoundError where there is none."""
    [result] = upstream.send([Call("GET", "/api/mycart/")], user_id, deadline)
    answer = require(result)
    if answer.status == _NOT_FOUND:
        raise CartNotFoundError
    return parse(upstream, answer, Cart)


def repair(
    upstream: Upstream,
    user_id: UUID,
    repairs: Sequence[tuple[int, int | None]],
    deadline: float,
) -> list[bool]:
    """Set the quantity of each (line id, quantity), or remove it where None.

    All side by side. Tells for each whether it is done; an absent line is removed.
    """
    calls = [
        Call("DELETE", f"/api/items/{line_id}")
        if quantity is None
        else Call(
            "PUT", f"/api/items/{line_id}", encode({"quantity": quantity}).encode()
        )
        for line_id, quantity in repairs
    ]
    results = upstream.send(calls, user_id, deadline)
    return [
        isinstance(result, Answer)
        and result.status in ((200, 204, 404) if quantity is None else (200,))
        for (_, quantity), result in zip(repairs, results, strict=True)
    ]
