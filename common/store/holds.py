"""Holds: what orders took of a stock that the product service has yet to lower.

The product service owns the stock and lowers it when it hears `order.created`; an
amount that is read before that is old. So each write holds what it takes, and counts
what others hold, in its one statement: the database's function `hold_stock` locks the
variations first, so that no two writes count at the same time. DECISIONS.md has the
rule, `0013_hold_totals.py` the function.
"""

import math
from typing import Any

from common.database.engine import StatementError
from common.database.sqlstates import detail, violated_constraint
from common.domain import events
from common.domain.model import Change, ItemStatus
from common.errors import BusyError, StockSettlingError
from common.messaging.pending import Bus, destinations

# However late the product service may be: by then a hold whose sign was not seen in the
# amount counts no more, or else what was restocked could not be bought.
CAP_SECONDS = 15 * 60
# No write comes later than this after it has asked for the stock; one that does fails.
# Holds that were seen in the amount are kept as long, for writes that asked before.
LONGEST_SECONDS = 60
MAX_AMOUNT = 10**12  # far more than all orders together may take

_SETTLING = "stock_is_settling"

# Part of `save.py`: of a document `d` and an order `w.id`, whether it holds what it
# takes. Comes after the order is locked, and before all else.
HOLD = """CASE WHEN d.holds IS NULL THEN true ELSE hold_stock(w.id, d.holds) END"""
# Rows are locked in one order, here and where events are confirmed.
RELEASED = """
released AS (  -- what was cancelled or deleted, if its lowering was not seen yet
  UPDATE stock_holds SET released_at = now()
  WHERE id = ANY(ARRAY(
    SELECT h.id FROM target t, change d, stock_holds h
    WHERE h.order_id = t.id AND {condition}
      AND h.released_at IS NULL AND h.seen_at IS NULL
    ORDER BY h.id FOR UPDATE OF h))
)"""


def asked(change: Change, bus: Bus) -> dict[str, Any] | None:
    """Return what `hold_stock` is asked to hold, None if the change takes nothing."""
    if not change.holds:
        return None
    [event] = [e for e in change.events if e.type == events.ORDER_CREATED]
    return {
        "event_id": event.id,
        "destinations": len(destinations(event, bus)),
        "read_at": change.stock_read_at or change.at,
        "settle": f"{bus.settle_seconds}s",
        "cap": f"{CAP_SECONDS}s",
        "longest": f"{LONGEST_SECONDS}s",
        "lines": [
            {
                "item_id": hold.item_id,
                "variation": hold.product_variation,
                "quantity": hold.quantity,
                "amount": None if hold.amount is None else _bounded(hold.amount),
            }
            for hold in change.holds
        ],
    }


def released(change: Change) -> list[int] | None:
    """Return the items that hold nothing any more, None if all still do."""
    cancelled = [i.id for i in change.changed if i.status == ItemStatus.CANCELLED]
    return [*cancelled, *change.removed] or None


def check(error: StatementError | BusyError, settle_seconds: float) -> None:
    """Raise StockSettlingError if a write failed because too little is left."""
    if violated_constraint(error) == _SETTLING:
        seconds = math.ceil(settle_seconds)
        raise StockSettlingError.of(detail(error).split(), seconds) from error


def _bounded(amount: int) -> int:
    return max(-MAX_AMOUNT, min(amount, MAX_AMOUNT))
