"""The product service: variations with their stock, price and product.

Its read cache may return another row, so the id of each response is checked. Stock is
`amount`, not `count` or `amount_limit`.
"""

from collections.abc import Iterable
from typing import TypeVar
from uuid import UUID

from msgspec import structs

from common.clients.batch import Call, Upstream, parse, require
from common.domain.cart import Product, Variation

_UNKNOWN = (404, 422)  # 422: the product service does not accept the id

T = TypeVar("T", Product, Variation)


def get_variations(
    upstream: Upstream, user_id: UUID, ids: Iterable[UUID], deadline: float
) -> dict[UUID, Variation | None]:
    """Return each variation with its product, None for one that does not exist.

    Reads all of them concurrently, one call each. A product that is not nested in its
    variation is read by itself, and is None if the product service does not know it.
    """
    path = "/api/products/variations/"
    found = _get(upstream, user_id, path, ids, deadline, Variation)
    missing = [
        variation.product_id
        for variation in found.values()
        if variation and variation.product is None and variation.product_id
    ]
    if not missing:
        return found
    products = _get(upstream, user_id, "/api/products/", missing, deadline, Product)
    return {
        id_: structs.replace(variation, product=products[variation.product_id])
        if variation and variation.product is None and variation.product_id
        else variation
        for id_, variation in found.items()
    }


def _get(  # noqa: PLR0913, PLR0917 one call's worth of facts
    upstream: Upstream,
    user_id: UUID,
    path: str,
    ids: Iterable[UUID],
    deadline: float,
    shape: type[T],
) -> dict[UUID, T | None]:
    unique_ids = list(dict.fromkeys(ids))
    calls = [Call("GET", f"{path}{id_}") for id_ in unique_ids]
    found: dict[UUID, T | None] = {}
    results = upstream.send(calls, user_id, deadline)
    for id_, result in zip(unique_ids, results, strict=True):
        response = require(result)
        row = None
        if not response.is_refusal(*_UNKNOWN):
            row = parse(upstream, response, shape)
            if row.id != id_:
                raise upstream.invalid(response, "it has another id")
        found[id_] = row
    return found
