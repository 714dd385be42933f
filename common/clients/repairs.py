"""Repair a cart, also where the shopcart refuses a quantity that is in stock.

It checks stock itself, through a read cache of the product service that may hold
another row. Refreshing that row helps.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from msgspec import Struct, structs

from common.clients import product, shopcart
from common.clients.batch import Upstream
from common.clients.shopcart import Outcome
from common.domain import checkout
from common.domain.cart import Cart, Variation
from common.domain.checkout import Fix


class Siblings(Struct, frozen=True):
    """The services that a repair calls, for which caller, and until when."""

    shopcart: Upstream
    product: Upstream
    user_id: UUID
    deadline: float


class Repair(Struct, frozen=True):
    """What was tried last for a line; `has_changed` unless it certainly has not."""

    fix: Fix
    is_fixed: bool
    has_changed: bool
    is_quantity_refused: bool


def repair(
    siblings: Siblings,
    cart: Cart,
    variations: Mapping[UUID, Variation | None],
    fixes: Sequence[Fix],
) -> list[Repair]:
    """Make all fixes concurrently; return what came of each, in the same order.

    If the shopcart refuses a quantity, the variation is refreshed and the line changed
    again; if that fails, too, the line is removed.
    """
    repairs = _make(siblings, fixes)
    refused = [each.fix for each in repairs.values() if each.is_quantity_refused]
    if refused:
        ids = {fix.line.variation for fix in refused}
        known = {id_: variations[id_] for id_ in variations if id_ in ids}
        fresh = product.refresh(
            siblings.product, siblings.user_id, known, siblings.deadline
        )
        refitted = checkout.refit(cart.items, {**variations, **fresh}, refused)
        _update(repairs, _make(siblings, refitted))
        too_much = [
            checkout.removal(fix)
            for fix in refitted
            if fix.new_quantity is not None and not repairs[fix.line.id].is_fixed
        ]
        _update(repairs, _make(siblings, too_much))
    return list(repairs.values())


def _make(siblings: Siblings, fixes: Sequence[Fix]) -> dict[int, Repair]:
    """Make these fixes concurrently; return what came of each, by its line's id."""
    changes = [(fix.line.id, fix.new_quantity) for fix in fixes]
    outcomes = shopcart.change_lines(
        siblings.shopcart, siblings.user_id, changes, siblings.deadline
    )
    return {
        fix.line.id: Repair(
            fix,
            is_fixed=outcome is Outcome.DONE,
            has_changed=outcome in (Outcome.DONE, Outcome.UNKNOWN),
            is_quantity_refused=outcome is Outcome.QUANTITY_REFUSED,
        )
        for fix, outcome in zip(fixes, outcomes, strict=True)
    }


def _update(repairs: dict[int, Repair], later: Mapping[int, Repair]) -> None:
    """Replace repairs with later ones, which keep what may have changed before."""
    for line_id, each in later.items():
        has_changed = each.has_changed or repairs[line_id].has_changed
        repairs[line_id] = structs.replace(each, has_changed=has_changed)
