"""What operators look for: who sends to a destination, titles of items, and indexes.

Old code writes neither titles nor when an attempt failed, and reads none of it. No
write waits for an index: each is built CONCURRENTLY, which takes minutes for many
millions of rows, and waits for transactions that are older.
"""

from alembic import op

from common.database.migrations import LOCK_WAIT_MILLISECONDS

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_INDEXES = {
    "order_items_shop_id_order_id_idx": "order_items (shop_id, order_id)",
    "order_items_product_variation_order_id_idx": (
        "order_items (product_variation, order_id)"
    ),
    "order_history_event_id_idx": "order_history USING hash (event_id)",
    "order_history_request_id_idx": "order_history USING hash (request_id)",
    "orders_metadata_idx": "orders USING gin (metadata) WHERE metadata <> '{}'",
    "outbox_failed_idx": "outbox (id) WHERE last_error IS NOT NULL",
    "dead_letters_event_id_idx": "dead_letters USING hash (event_id)",
}


# Sessions of the service do without bitmaps, in which alone a GIN index is read.
_FIND = """
CREATE OR REPLACE FUNCTION orders_with_metadata(
  path jsonpath, low bigint, high bigint, most int)
RETURNS SETOF bigint LANGUAGE sql STABLE
SET enable_bitmapscan = on SET enable_seqscan = off SET enable_indexscan = off AS $$
  SELECT id FROM orders
  WHERE metadata <> '{}' AND metadata @? path AND id BETWEEN low AND high LIMIT most
$$;
"""


# History stays as it was written, but for who a user was, while they are erased.
_APPEND_ONLY = """
CREATE OR REPLACE FUNCTION order_history_is_append_only() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  IF {condition} THEN RETURN NEW; END IF;
  RAISE EXCEPTION 'order_history is append-only';
END $$;
"""
_ERASING = """current_setting('orders.erasing', true) = CAST(OLD.order_id AS text)
    AND to_jsonb(NEW) - 'changed_by' - 'event_digest'
      = to_jsonb(OLD) - 'changed_by' - 'event_digest'"""


def upgrade() -> None:
    """Apply."""
    op.execute("""
        CREATE TABLE IF NOT EXISTS destination_reports (
          destination text PRIMARY KEY,
          served_by text NOT NULL,
          served_at timestamptz NOT NULL,
          last_error text,
          failed_at timestamptz,
          next_try_at timestamptz
        );
        ALTER TABLE outbox ADD COLUMN IF NOT EXISTS failed_at timestamptz;
        ALTER TABLE order_items ADD COLUMN IF NOT EXISTS title text;
    """)
    op.execute(_FIND)
    op.execute(_APPEND_ONLY.format(condition=_ERASING))
    with op.get_context().autocommit_block():
        op.execute("COMMIT")  # alembic's question for the level began a transaction
        op.execute("SET lock_timeout = 0")  # nobody waits behind it
        for name, what in _INDEXES.items():
            if not _is_built(name):
                # One that was interrupted is left behind, and is no index.
                op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
                op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {what}")
        op.execute(f"SET lock_timeout = '{LOCK_WAIT_MILLISECONDS}ms'")


def _is_built(name: str) -> bool:
    valid = "SELECT 1 FROM pg_index WHERE indisvalid AND indexrelid = "
    found = op.get_bind().exec_driver_sql(f"{valid}to_regclass('{name}')")
    return found.first() is not None


def downgrade() -> None:
    """Undo. Items' titles are lost."""
    for name in _INDEXES:
        op.execute(f"DROP INDEX IF EXISTS {name}")
    op.execute(_APPEND_ONLY.format(condition="false"))
    op.execute("""
        DROP FUNCTION orders_with_metadata(jsonpath, bigint, bigint, int);
        DROP TABLE destination_reports;
        ALTER TABLE outbox DROP COLUMN failed_at;
        ALTER TABLE order_items DROP COLUMN title;
    """)
