"""Carts and variations, as the shopcart and product services return them."""

from decimal import Decimal
from uuid import UUID

from msgspec import Struct

from common.domain.model import parse_uuid
from common.json import BigInt, Text


class CartLine(Struct, frozen=True):
    """One line of a cart."""

    id: BigInt
    product_variation_id: Text | None
    quantity: BigInt | None

    @property
    def variation(self) -> UUID | None:
        """Return the variation's id, None if it is not a UUID."""
        return parse_uuid(self.product_variation_id)


class Cart(Struct, frozen=True):
    """A cart as the shopcart service returns it."""

    id: BigInt
    items: list[CartLine]

    def __post_init__(self) -> None:
        """Raise ValueError if two lines have the same id."""
        if len({line.id for line in self.items}) < len(self.items):
            raise ValueError("two lines have the same id")


class Product(Struct, frozen=True):
    """The product of a variation. A missing `is_active` counts as active."""

    id: UUID
    shop_id: UUID | None = None
    title: Text | None = None
    is_active: bool | None = None
    base_price: Decimal | None = None

    def __post_init__(self) -> None:
        """Raise ValueError if the price is not a number."""
        _check_price(self.base_price)


class Variation(Struct, frozen=True):
    """A variation of a product. `amount` is its stock and may be negative."""

    id: UUID
    amount: BigInt
    product_id: UUID | None = None
    price: Decimal | None = None
    product: Product | None = None

    def __post_init__(self) -> None:
        """Raise ValueError if the price is not a number, or the product another one."""
        _check_price(self.price)
        if self.product and self.product_id not in (None, self.product.id):
            raise ValueError("the product has another id")


def _check_price(price: Decimal | None) -> None:
    if price is not None and not price.is_finite():
        raise ValueError("a price must be a number")
