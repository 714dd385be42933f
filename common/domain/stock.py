"""What a change takes from stock, which the product service owns and lowers."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from msgspec import Struct, field

from common.domain import events
from common.domain.cart import Variation
from common.domain.model import Change, Event, Hold, Item


class Stock(Struct, frozen=True):
    """Variations as the product service had them at `read_at` or later.

    That is a time by the database's clock; None: when the change is written.
    """

    variations: Mapping[UUID, Variation | None] = field(default_factory=dict)
    read_at: str | None = None

    def amount(self, variation_id: UUID) -> int | None:
        """Return how many there were, None if it was not read."""
        variation = self.variations.get(variation_id)
        return variation.amount if variation else None


NOT_READ = Stock()


def take(
    change: Change, taken: Sequence[tuple[Item, int]], stock: Stock
) -> tuple[Event, ...]:
    """Have a change take so many of each item; return the event that lowers stock."""
    if not taken:
        return ()
    change.holds = [
        Hold(
            item.id,
            item.product_variation,
            quantity,
            stock.amount(item.product_variation),
        )
        for item, quantity in taken
    ]
    change.stock_read_at = stock.read_at
    lines = [
        events.OrderedLine(item.product_variation, quantity) for item, quantity in taken
    ]
    return (events.order_created(change.order, change.cart_id, lines),)
