"""A hold knows what all the variation's unseen holds take, so that few are counted.

While the product service is slow to lower its stock, holds of a popular variation are
many, and each write counted them all.
"""

from importlib import import_module

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_VERSIONS = "common.database.migrations.versions"

_COLUMNS = """
ALTER TABLE stock_holds ADD COLUMN IF NOT EXISTS unseen bigint,
  ADD COLUMN IF NOT EXISTS highest bigint,
  ADD COLUMN IF NOT EXISTS counted_at timestamptz;
CREATE INDEX IF NOT EXISTS stock_holds_product_variation_seen_at_id_idx
  ON stock_holds (product_variation, seen_at, id);
DROP INDEX IF EXISTS stock_holds_product_variation_seen_at_idx;
"""

# As 0011's, but for what the newest hold tells: if there is enough though all unseen
# holds count, and the amount can show none of them, nothing is counted. What ended
# since they were counted is then still in the sum, for as long as stock takes to
# settle; too little is sold by that at most.
_HOLD = """
CREATE OR REPLACE FUNCTION hold_stock(holder bigint, asked jsonb)
RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
  event uuid := CAST(asked ->> 'event_id' AS uuid);
  events int := CAST(asked ->> 'destinations' AS int);
  read_at timestamptz := CAST(asked ->> 'read_at' AS timestamptz);
  settle interval := CAST(asked ->> 'settle' AS interval);
  cap interval := CAST(asked ->> 'cap' AS interval);
  longest interval := CAST(asked ->> 'longest' AS interval);
  line record;
  seen bigint;
  newest bigint;
  late bigint;
  fresh bigint;
  low bigint;  -- what the stock should be once all that is held is lowered
  last record;  -- the variation's newest hold, with what was unseen when it was made
  unseen bigint;
  highest bigint;
  counted_at timestamptz;
  missing text;
BEGIN
  IF read_at < clock_timestamp() - longest THEN
    RAISE EXCEPTION 'the stock was read too long ago' USING ERRCODE = '55P03';
  END IF;
  PERFORM pg_advisory_xact_lock(k.key) FROM (
    SELECT DISTINCT hashtextextended(l ->> 'variation', 0) AS key
    FROM jsonb_array_elements(asked -> 'lines') l
    ORDER BY key OFFSET 0) k;
  FOR line IN SELECT * FROM jsonb_to_recordset(asked -> 'lines')
    AS l(item_id bigint, variation uuid, quantity int, amount bigint)
  LOOP
    late := 0;
    fresh := 0;
    low := line.amount;
    unseen := 0;
    highest := NULL;
    counted_at := clock_timestamp();
    SELECT h.* INTO last FROM stock_holds h WHERE h.product_variation = line.variation
    ORDER BY h.seen_at DESC, h.id DESC LIMIT 1;
    IF last.seen_at IS NULL AND last.highest < line.amount
      AND line.quantity <= line.amount - last.unseen
      AND last.counted_at > clock_timestamp() - settle
      AND NOT EXISTS (SELECT FROM stock_holds h
        WHERE h.product_variation = line.variation
          AND h.seen_at > least(read_at, last.counted_at))
    THEN
      unseen := last.unseen;
      highest := last.highest;
      counted_at := last.counted_at;
      fresh := unseen;
      low := last.expected;
    ELSIF last.id IS NOT NULL THEN
      PERFORM settle_stock(line.variation, line.amount, read_at, settle, cap, longest);
      SELECT coalesce(max(id), 0) INTO seen FROM stock_holds  -- in this very amount
      WHERE product_variation = line.variation AND seen_at > read_at
        AND confirmed_at <= read_at - settle AND expected >= line.amount;
      SELECT coalesce(sum(h.quantity) FILTER (WHERE h.counts AND h.is_late), 0),
        coalesce(sum(h.quantity) FILTER (WHERE h.counts AND NOT h.is_late), 0),
        max(h.id) FILTER (WHERE h.counts),
        coalesce(sum(h.quantity) FILTER (WHERE h.is_unseen), 0),
        max(h.expected) FILTER (WHERE h.is_unseen)
      INTO late, fresh, newest, unseen, highest
      FROM (
        SELECT c.*, NOT c.is_late OR c.id > seen AS counts
        FROM (
          SELECT id, quantity, expected, true AS is_unseen,
            coalesce(confirmed_at <= read_at - settle, false) AS is_late
          FROM stock_holds
          WHERE product_variation = line.variation AND seen_at IS NULL
        UNION ALL
          SELECT id, quantity, expected, false,
            coalesce(confirmed_at <= read_at - settle, false)
          FROM stock_holds
          WHERE product_variation = line.variation AND seen_at > read_at) c) h;
      IF newest IS NOT NULL THEN
        SELECT expected INTO low FROM stock_holds WHERE id = newest;
      END IF;
      counted_at := clock_timestamp();
    END IF;
    IF line.amount IS NULL THEN
      low := -1000000000000;
    ELSIF line.quantity
      > line.amount - fresh - least(late, greatest(0, line.amount - low)) THEN
      missing := concat_ws(' ', missing, line.variation);
      CONTINUE;
    ELSE
      low := least(line.amount, greatest(low, line.amount - fresh - late))
        - line.quantity;
    END IF;
    INSERT INTO stock_holds (order_id, item_id, event_id, product_variation, quantity,
      expected, unsent, confirmed_at, unseen, highest, counted_at)
    VALUES (holder, line.item_id, event, line.variation, line.quantity, low, events,
      CASE WHEN events = 0 THEN clock_timestamp() END,
      unseen + line.quantity, greatest(highest, low), counted_at);
  END LOOP;
  IF missing IS NOT NULL THEN
    RAISE EXCEPTION 'what is left is held for other orders'
      USING ERRCODE = '23514', CONSTRAINT = 'stock_is_settling', DETAIL = missing;
  END IF;
  RETURN true;
END $$;
"""


def upgrade() -> None:
    """Apply."""
    op.execute(_COLUMNS)
    op.execute(_HOLD)


def downgrade() -> None:
    """Undo."""
    op.execute(import_module(f"{_VERSIONS}.0011_stock_holds").HOLD)
    op.execute("""
        CREATE INDEX stock_holds_product_variation_seen_at_idx
          ON stock_holds (product_variation, seen_at);
        DROP INDEX stock_holds_product_variation_seen_at_id_idx;
        ALTER TABLE stock_holds DROP COLUMN unseen, DROP COLUMN highest,
          DROP COLUMN counted_at;
    """)
