"""The product service: variations with their stock, price and product.

Its read cache may return another row, so the id of each response is checked. Stock is
`amount`, not `count` or `amount_limit`.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Literal, TypeVar
from uuid import UUID

from msgspec import Meta, Struct, structs

from common.clients.batch import Upstream, parse, require
from common.clients.calls import Call, UpstreamResponse
from common.domain.cart import Product, Variation
from common.errors import ServiceError

_VARIATIONS = "/api/products/variations/"
_UNKNOWN = (404, 422)  # 422: the product service does not accept the id

T = TypeVar("T", Product, Variation)

# A price as text. Decimal accepts more: "1_000", "1e3", " 1", digits of any script.
_PriceText = Annotated[str, Meta(pattern=r"^-?[0-9]+(\.[0-9]+)?\Z")]


class _ProductPrice(Struct):
    base_price: _PriceText | float | None = None


class _VariationPrices(Struct):
    price: _PriceText | float | None = None
    product: _ProductPrice | None = None


_PRICES: dict[type, type[Struct]] = {
    Product: _ProductPrice,
    Variation: _VariationPrices,
}


def get_variations(
    upstream: Upstream, user_id: UUID, ids: Iterable[UUID], deadline: float
) -> dict[UUID, Variation | None]:
    """Return each variation with its product, None for one that does not exist.

    Reads all of them concurrently, one call each. A product that is not nested in its
    variation is read by itself, and is None if the product service does not know it.
    """
    found = _get(upstream, user_id, _calls(_VARIATIONS, ids), deadline, Variation)
    missing = [
        variation.product_id
        for variation in found.values()
        if variation and variation.product is None and variation.product_id
    ]
    if not missing:
        return found
    calls = _calls("/api/products/", missing)
    products = _get(upstream, user_id, calls, deadline, Product)
    return {
        id_: structs.replace(variation, product=products[variation.product_id])
        if variation and variation.product is None and variation.product_id
        else variation
        for id_, variation in found.items()
    }


def refresh(
    upstream: Upstream,
    user_id: UUID,
    known: Mapping[UUID, Variation | None],
    deadline: float,
) -> dict[UUID, Variation | None]:
    """Have the product service's read cache refresh these variations; return them.

    One that cannot be read now is returned as it is known, and so is its product if the
    reply does not have it nested.
    """
    refreshed = dict(known)
    calls = _calls(_VARIATIONS, known, cache_control="no-cache")
    results = upstream.send(list(calls.values()), user_id, deadline)
    for id_, result in zip(calls, results, strict=True):
        with suppress(ServiceError):  # it is logged
            refreshed[id_] = _row(upstream, id_, result, Variation)
    return {id_: _with_product(row, known[id_]) for id_, row in refreshed.items()}


def _with_product(row: Variation | None, known: Variation | None) -> Variation | None:
    if row is None or known is None or row.product is not None:
        return row
    is_same = row.product_id == known.product_id
    return structs.replace(row, product=known.product) if is_same else row


def _calls(
    path: str,
    ids: Iterable[UUID],
    cache_control: Literal["no-store", "no-cache"] = "no-store",
) -> dict[UUID, Call]:
    return {
        id_: Call("GET", f"{path}{id_}", cache_control=cache_control) for id_ in ids
    }


def _get(
    upstream: Upstream,
    user_id: UUID,
    calls: Mapping[UUID, Call],
    deadline: float,
    shape: type[T],
) -> dict[UUID, T | None]:
    results = upstream.send(list(calls.values()), user_id, deadline)
    return {
        id_: _row(upstream, id_, result, shape)
        for id_, result in zip(calls, results, strict=True)
    }


def _row(
    upstream: Upstream,
    id_: UUID,
    result: UpstreamResponse | ServiceError,
    shape: type[T],
) -> T | None:
    response = require(result)
    if response.is_refusal(*_UNKNOWN):
        return None
    parse(upstream, response, _PRICES[shape])
    row = parse(upstream, response, shape)
    if row.id != id_:
        raise upstream.invalid(response, "it has another id")
    return row
