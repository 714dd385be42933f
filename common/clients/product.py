"""The product service: variations with their stock, price and product.

Lives here: paths and shapes of two calls, and the checks that an answer is about what
was asked. Not here: what makes a variation sellable (`checkout.py`). Surprise: its read
cache mixes rows up, so an answer with another id is refused. Stock is `amount`; `count`
and `amount_limit` are something else.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import TypeVar
from uuid import UUID

from msgspec import Struct, structs

from common.clients import Call, Upstream, parse, require

_UNKNOWN = (404, 422)  # 422: the id is no UUID to them


class Product(Struct, frozen=True):
    """What a variation is a variation of. A missing `is_active` counts as active."""

    id: UUID
    shop_id: UUID | None = None
    title: str | None = None
    is_active: bool | None = None
    base_price: Decimal | None = None


class Variation(Struct, frozen=True):
    """One thing that can be bought. `amount` is its stock and may be negative."""

    id: UUID
    amount: int
    product_id: UUID | None = None
    price: Decimal | None = None
    product: Product | None = None


T = TypeVar("T", Product, Variation)


def read_variations(
    upstream: Upstream, user_id: UUID, ids: Iterable[UUID], deadline: float
) -> dict[UUID, Variation | None]:
    """Answer each variation with its product, None for one that does not exist.

    All side by side, one call each. Only where the nested product is missing is it read
    by itself; it stays None where the product service does not know it.
    """
    path = "/api/products/variations/"
    read = _read(upstream, user_id, path, ids, deadline, Variation)
    nested = [(v.product_id, v.product.id) for v in read.values() if v and v.product]
    if any(named not in (None, actual) for named, actual in nested):
        raise upstream.broken()
    bare = [
        v.product_id for v in read.values() if v and v.product_id and v.product is None
    ]
    if not bare:
        return read
    products = _read(upstream, user_id, "/api/products/", bare, deadline, Product)
    return {
        id_: structs.replace(v, product=products[v.product_id])
        if v and v.product is None and v.product_id
        else v
        for id_, v in read.items()
    }


def _read(  # noqa: PLR0913, PLR0917 one call's worth of facts
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
        answer = require(result)
        if answer.status in _UNKNOWN:
            found[id_] = None
            continue
        row = parse(upstream, answer, shape)
        if row.id != id_:
            raise upstream.broken()
        found[id_] = row
    return found
