"""The product service: variations with their stock, price and product.

Its read cache mixes rows up, so a response with another id is invalid. Stock is
`amount`; `count` and `amount_limit` are something else.
"""

from collections.abc import Iterable
from typing import TypeVar
from uuid import UUID

from msgspec import structs

from common.clients.batch import Call, Upstream, parse, require
from common.domain.cart import Product, Variation

_UNKNOWN = (404, 422)  # 422: the id is no UUID to them


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
