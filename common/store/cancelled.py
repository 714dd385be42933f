"""Read items that are cancelled for good, though not by the shop that sells them."""

from msgspec import Struct

from common.database.engine import Connection, named, read
from common.domain.model import OPERATOR, USER, ItemStatus
from common.store.reads import ITEM_JSON

# Who cancelled is null in history older than that column.
_READ = named(
    "cancelled.item",
    f"""
SELECT {ITEM_JSON}, i.version FROM order_items i
WHERE i.id = CAST(:id AS bigint) AND (
  SELECT coalesce(h.actor_kind, '{USER}') FROM order_history h
  WHERE h.order_id = i.order_id AND h.item_id = i.id
    AND h.to_status = {ItemStatus.CANCELLED:d}
  ORDER BY h.id DESC LIMIT 1) IN ('{USER}', '{OPERATOR}')
UNION ALL
SELECT {ITEM_JSON}, NULL FROM (
  SELECT d.*, {ItemStatus.CANCELLED:d} AS status
  FROM deleted_items d WHERE d.id = CAST(:id AS bigint)) i""",  # noqa: S608 fragments of our own
)


class CancelledItem(Struct, frozen=True):
    """The item as JSON text, Cancelled; `version` is None if it is deleted."""

    body: str
    version: int | None


def read_item(connection: Connection, item_id: int) -> CancelledItem | None:
    """Return the item if its owner or an operator has cancelled or deleted it."""
    row = read(connection, _READ, {"id": item_id}).one_or_none()
    return None if row is None else CancelledItem(*row)
