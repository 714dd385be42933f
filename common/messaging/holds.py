"""What becomes of an event decides what becomes of its holds (`common/store/holds.py`).

Confirmed by all of its destinations, it will soon be in the product service's amounts.
"""

from common.domain import events

# Part of the statements that record events as sent, whose rows are in `{source}`. Each
# destination counts, so that of two that are recorded at once one is the last. Rows are
# locked in one order, here and where they are released.
_CONFIRMED = """
told AS (
  SELECT order_id, event_id, CAST(count(*) AS int) AS times FROM {source}
  WHERE event_type = '{type}' GROUP BY order_id, event_id
),
holding AS (
  SELECT id FROM stock_holds
  WHERE id = ANY(ARRAY(
    SELECT h.id FROM told t CROSS JOIN LATERAL (
      SELECT id, event_id FROM stock_holds WHERE order_id = t.order_id OFFSET 0) h
    WHERE h.event_id = t.event_id))
  ORDER BY id FOR UPDATE
),
confirmed AS (
  UPDATE stock_holds h SET unsent = h.unsent - t.times,
    confirmed_at = CASE WHEN h.unsent <= t.times
      THEN coalesce(h.confirmed_at, now()) END
  FROM told t
  WHERE h.id = ANY(ARRAY(SELECT id FROM holding)) AND t.event_id = h.event_id
)"""


def confirmed(source: str) -> str:
    """Return the parts of a statement that confirm the holds of events in `source`."""
    return _CONFIRMED.format(source=source, type=events.ORDER_CREATED)
