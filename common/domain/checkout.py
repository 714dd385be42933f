"""Check what is wanted against stock: a cart, an order by hand, more of an item.

`check_line` decides for all of them. What an order has taken already is its own, so
only the increase must be in stock. Stock may be negative, and a cart or an order may
have several lines of a variation; stock must cover their sum.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Protocol
from uuid import UUID

from msgspec import Struct, structs

from common.domain.cart import CartLine, Variation
from common.domain.commands import ValidatedItem, ValidationReply
from common.domain.model import MAX_QUANTITY, Item, Line
from common.errors import (
    BusyError,
    CartRepairedError,
    InvalidRequestError,
    ItemUnavailableError,
)


class Problem(Struct, frozen=True):
    """Why a line cannot be ordered as it is; `available` is how many could be."""

    reason: str
    title: str | None = None
    available: int = 0


class Fix(Struct, frozen=True):
    """What to do to a cart line; `new_quantity` None removes it."""

    line: CartLine
    problem: Problem
    new_quantity: int | None = None


class Review(Struct, frozen=True):
    """The outcome: fixes to make or, if there are none, the lines to order."""

    fixes: list[Fix]
    lines: list[Line]


def review(
    cart: Iterable[CartLine], variations: Mapping[UUID, Variation | None]
) -> Review:
    """Check every cart line; `variations` has what the product service returned.

    Lines of the same variation become one, in the order of their first appearance.
    """
    fixes: list[Fix] = []
    lines: dict[UUID, Line] = {}
    taken: dict[UUID, int] = {}
    for cart_line in cart:
        variation_id = cart_line.variation
        quantity = cart_line.quantity or 0
        if variation_id is None:
            has_id = cart_line.product_variation_id is not None
            reason = "not_found" if has_id and quantity > 0 else "invalid_data"
            fixes.append(Fix(cart_line, Problem(reason)))
            continue
        taken_before = taken.get(variation_id, 0)
        checked = check_line(variations.get(variation_id), quantity, taken_before)
        if isinstance(checked, Problem):
            fixes.append(Fix(cart_line, checked, checked.available or None))
            taken[variation_id] = taken_before + checked.available
        else:
            taken[variation_id] = taken_before + quantity
            merged = structs.replace(checked, quantity=taken[variation_id])
            lines[variation_id] = merged
    return Review(fixes, list(lines.values()))


def refit(
    cart: Iterable[CartLine],
    variations: Mapping[UUID, Variation | None],
    refused: Iterable[Fix],
) -> list[Fix]:
    """Return what to do instead of fixes that the shopcart service refused.

    `variations` are fresh. A line that fits now is set to the quantity that it has.
    """
    found = {fix.line.id: fix for fix in review(cart, variations).fixes}
    return [
        found.get(fix.line.id, structs.replace(fix, new_quantity=fix.line.quantity))
        for fix in refused
    ]


def removal(fix: Fix) -> Fix:
    """Return the fix that removes the line, for the same problem."""
    return structs.replace(fix, new_quantity=None)


def check_line(  # noqa: PLR0911 a return for each check, in the contract's order
    variation: Variation | None, quantity: int, taken: int = 0
) -> Problem | Line:
    """Return the line to order, or the first problem found.

    `variation` is None if the product service does not know it. `quantity` is how many
    are wanted in addition to what an order has. `taken` is how many other lines of the
    same request take from the stock.
    """
    if quantity < 1:
        return Problem("invalid_data", _title(variation))
    if variation is None:
        return Problem("not_found")
    if variation.product_id is None:
        return Problem("invalid_data", _title(variation))
    product = variation.product
    if product is None:
        return Problem("product_not_found")
    title = product.title
    if product.is_active is False:
        return Problem("inactive", title)
    if product.shop_id is None:
        return Problem("invalid_shop", title)
    price = selling_price_minor(variation.price, product.base_price)
    if price is None:
        return Problem("invalid_data", title)
    if variation.amount <= 0:
        return Problem("out_of_stock", title)
    available = max(0, min(variation.amount, MAX_QUANTITY) - taken)
    if available < quantity:
        return Problem("insufficient_stock", title, available)
    return Line(
        variation.id, quantity, variation.product_id, product.shop_id, price, title
    )


def preview(
    cart: Iterable[CartLine],
    variations: Mapping[UUID, Variation | None],
    lines: Sequence[Line],
) -> ValidationReply:
    """Return what an order of these lines of a cart would be."""
    line_ids: dict[UUID | None, list[int]] = {}
    for cart_line in cart:
        line_ids.setdefault(cart_line.variation, []).append(cart_line.id)
    return ValidationReply(
        valid=True,
        items_count=len(lines),
        total_quantity=sum(line.quantity for line in lines),
        total=sum(line.quantity * line.price for line in lines),
        items=[
            ValidatedItem(
                product_variation=line.product_variation,
                product_id=line.product_id,
                shop_id=line.shop_id,
                product_title=_title(variations[line.product_variation]),
                quantity=line.quantity,
                price=line.price,
                cart_item_ids=line_ids[line.product_variation],
            )
            for line in lines
        ],
    )


def describe(fix: Fix, *, is_fixed: bool) -> dict[str, Any]:
    """Return a fix as it is listed in the reply to the caller."""
    details: dict[str, Any] = {
        "cart_item_id": fix.line.id,
        "product_variation_id": fix.line.product_variation_id,
        "product_title": fix.problem.title,
        "action": "removed" if fix.new_quantity is None else "quantity_updated",
    }
    if fix.new_quantity is not None:
        details["old_quantity"] = fix.line.quantity
        details["new_quantity"] = fix.new_quantity
    return details | {"reason": fix.problem.reason, "fixed": is_fixed}


def repair_message(failed: Sequence[Fix]) -> str:
    """Return what to tell the buyer of a repaired cart; some fixes may have failed."""
    if not failed:
        return CartRepairedError().detail
    return _NOT_REPAIRED + "; ".join(_name(fix) for fix in failed)


NOTHING_CHANGED = (
    "Your cart cannot be ordered as it is. Nothing was changed: a checkout would update"
    " your cart as listed."
)
_NOT_REPAIRED = (
    "Not all of your cart could be updated. Please remove these items, and try again: "
)
_MAX_TITLE = 80  # a title may be far longer than what fits a message


def _name(fix: Fix) -> str:
    name = fix.problem.title or fix.line.product_variation_id
    item = f"item {fix.line.id}"
    return f"{name[:_MAX_TITLE]} ({item})" if name else item


class RequestedLine(Protocol):
    """A line that is ordered without a cart."""

    product_variation: UUID
    quantity: int


LINE_PATH = "items[{}].product_variation"


def price(
    requested: Sequence[RequestedLine],
    variations: Mapping[UUID, Variation | None],
    path: str = LINE_PATH,
) -> list[Line]:
    """Return the lines of an order without a cart, checked and priced.

    Lines of the same variation become one. Raise InvalidRequestError naming every
    variation that does not exist by its path in the body, with the line's index in it;
    ItemUnavailableError if one cannot be sold in this quantity.
    """
    errors = {
        path.format(index): [f"{line.product_variation} does not exist"]
        for index, line in enumerate(requested)
        if variations.get(line.product_variation) is None
    }
    if errors:
        raise InvalidRequestError.of_all(errors)
    totals: dict[UUID, int] = {}
    for line in requested:
        id_ = line.product_variation
        totals[id_] = totals.get(id_, 0) + line.quantity
    return [
        _sellable(variations[id_], quantity, id_) for id_, quantity in totals.items()
    ]


def check_increase(
    item: Item, quantity: int, variations: Mapping[UUID, Variation | None]
) -> None:
    """Raise ItemUnavailableError unless the item can be raised to `quantity`.

    Less than the item has needs no stock, and `variations` need not have it then.
    """
    wanted = quantity - item.quantity
    if wanted <= 0:
        return
    if item.product_variation not in variations:
        raise BusyError  # the item had more of it when it was decided what to read
    checked = check_line(variations[item.product_variation], wanted)
    if isinstance(checked, Problem):
        raise _unavailable(checked, item.product_variation)


MAX_PRICE_MINOR = 2**53 - 1  # the largest integer that every JSON parser keeps exact


def selling_price_minor(
    price: Decimal | None, base_price: Decimal | None
) -> int | None:
    """Return the price in minor units, rounded half up; None if there is none.

    The variation's own price comes first, even if it is 0. A negative price, or one
    over `MAX_PRICE_MINOR`, counts as none.
    """
    major = price if price is not None else base_price
    if major is None or not 0 <= major <= MAX_PRICE_MINOR:
        return None
    minor = int(major.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP) * 100)
    return minor if minor <= MAX_PRICE_MINOR else None


def _sellable(variation: Variation | None, quantity: int, id_: UUID) -> Line:
    checked = check_line(variation, quantity)
    if isinstance(checked, Problem):
        raise _unavailable(checked, id_)
    return checked


def _unavailable(problem: Problem, id_: UUID) -> ItemUnavailableError:
    return ItemUnavailableError(
        f"{id_}: {problem.reason.replace('_', ' ')}",
        extra={"reason": problem.reason, "product_variation": str(id_)},
    )


def _title(variation: Variation | None) -> str | None:
    product = variation.product if variation else None
    return product.title if product else None
