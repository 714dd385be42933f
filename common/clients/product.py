"""The product service: variations with their stock, price and product.

Its read cache mixes rows up, so a response with another id is invalid. Stock is
`amount`; `count` and `amount_limit` are something else.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import TypeVar
from uuid import UUID

from msgspec import Struct, structs

from common.clients.batch import BigInt, Call, Text, Upstream, parse, require

_UNKNOWN = (404, 422)  # 422: the id is no UUID to them


class Product(Struct, frozen=True):
    """What a variation is a variation of. A missing `is_active` counts as active."""

    id: UUID
    shop_id: UUID | None = None
    title: Text | None = None
    is_active: bool | None = None
    base_price: Decimal | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a price that is no number."""
        _check_price(self.base_price)


class Variation(Struct, frozen=True):
    """One thing that can be bought. `amount` is its stock and may be negative."""

    id: UUID
    amount: BigInt
    product_id: UUID | None = None
    price: Decimal | None = None
    product: Product | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a price that is no number, or another's product."""
        _check_price(self.price)
        if self.product and self.product_id not in (None, self.product.id):
            raise ValueError("the product is another one")


T = TypeVar("T", Product, Variation)


def get_variations(
    upstream: Upstream, user_id: UUID, ids: Iterable[UUID], deadline: float
) -> dict[UUID, Variation | None]:
    """Return each variation with its product, None for one that does not exist.

    All side by side, one call each. Only where the nested product is missing is it read
    by itself; it stays None where the product service does not know it.
    """
    path = "/api/products/variations/"
    found = _get(upstream, user_id, path, ids, deadline, Variation)
    bare = [v.product_id for v in found.values() if v and v.product is None]
    named = [product_id for product_id in bare if product_id is not None]
    if not named:
        return found
    products = _get(upstream, user_id, "/api/products/", named, deadline, Product)
    return {
        id_: structs.replace(v, product=products[v.product_id])
        if v and v.product is None and v.product_id
        else v
        for id_, v in found.items()
    }


def _get(  # noqa: PLR0913, PLR0917 one call's worth of facts
    upstream: Upstream,
    user_id: UUID,
    path: str,
    ids: Iterable[UUID],
    deadline: float,
    shape: type[T],
) -> dict[UUID, T | None]:
    wanted = list(dict.fromkeys(ids))
    calls = [Call("GET", f"{path}{id_}") for id_ in wanted]
    found: dict[UUID, T | None] = {}
    results = upstream.send(calls, user_id, deadline)
    for id_, result in zip(wanted, results, strict=True):
        response = require(result)
        row = None
        if not response.is_refusal(*_UNKNOWN):
            row = parse(upstream, response, shape)
            if row.id != id_:
                raise upstream.invalid(response, "it is about another id")
        found[id_] = row
    return found


def _check_price(price: Decimal | None) -> None:
    if price is not None and not price.is_finite():
        raise ValueError("a price must be a number")
