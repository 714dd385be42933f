"""History of the whole order with who was told, sent events, held doubts.

`item_history` becomes `order_history`. Renaming is not what a revision may do while old
code runs; this once it does, because no release has run on 0001.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# What happened stays as it was written; only retention may delete it.
_APPEND_ONLY = """
    CREATE FUNCTION {table}_is_append_only() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '{table} is append-only'; END $$;
    CREATE TRIGGER {table}_is_append_only BEFORE UPDATE ON {table}
    FOR EACH ROW EXECUTE FUNCTION {table}_is_append_only();
"""
_UPDATABLE = """
    DROP TRIGGER {table}_is_append_only ON {table};
    DROP FUNCTION {table}_is_append_only();
"""
_RENAMED = """
    ALTER TABLE {old} RENAME TO {new};
    ALTER INDEX {old}_pkey RENAME TO {new}_pkey;
    ALTER INDEX {old}_order_id_id_idx RENAME TO {new}_order_id_id_idx;
    ALTER SEQUENCE {old}_id_seq RENAME TO {new}_id_seq;
    ALTER TABLE {new}
      RENAME CONSTRAINT {old}_from_status_check TO {new}_from_status_check;
    ALTER TABLE {new}
      RENAME CONSTRAINT {old}_to_status_check TO {new}_to_status_check;
"""


def upgrade() -> None:
    """Apply."""
    op.execute("ALTER TABLE orders ADD COLUMN cart_id bigint")
    op.execute(_UPDATABLE.format(table="item_history"))
    op.execute(_RENAMED.format(old="item_history", new="order_history"))
    op.execute("""
        ALTER TABLE order_history
          ADD COLUMN kind text,
          ADD COLUMN event_id uuid,
          ADD COLUMN destinations text[] NOT NULL DEFAULT '{}',
          ALTER COLUMN item_id DROP NOT NULL,
          ALTER COLUMN to_status DROP NOT NULL;
        UPDATE order_history SET kind =
          CASE WHEN from_status IS NULL THEN 'item.created' ELSE 'item.moved' END;
        ALTER TABLE order_history
          ALTER COLUMN kind SET NOT NULL,
          ADD CONSTRAINT order_history_kind_check CHECK (
            kind IN ('order.created', 'order.approved', 'order.deleted',
              'item.created', 'item.moved', 'item.removed')),
          ADD CONSTRAINT order_history_item_id_check
            CHECK ((kind LIKE 'item.%') = (item_id IS NOT NULL)),
          ADD CONSTRAINT order_history_destinations_check
            CHECK ((event_id IS NULL) = (destinations = '{}'));
        INSERT INTO order_history (order_id, kind, changed_by, changed_at)
        SELECT id, 'order.created', user_id, created_at FROM orders
        UNION ALL
        SELECT id, 'order.approved', NULL, approved_at FROM orders WHERE is_approved;
    """)
    op.execute(_APPEND_ONLY.format(table="order_history"))
    op.execute("""
        ALTER TABLE outbox
          ADD COLUMN doubts integer NOT NULL DEFAULT 0,
          ADD COLUMN is_resend boolean NOT NULL DEFAULT false,
          ADD COLUMN held_since timestamptz;
        CREATE INDEX outbox_destination_available_at_id_idx
          ON outbox (destination, available_at, id);
        CREATE INDEX outbox_held_idx ON outbox (id) WHERE held_since IS NOT NULL;
        -- A busy table of short-lived rows: cleaned by number, not by share.
        ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0,
          autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

        CREATE TABLE sent_events (
          id bigint PRIMARY KEY,
          destination text NOT NULL,
          order_id bigint NOT NULL,
          event_id uuid NOT NULL,
          event_type text NOT NULL,
          body text NOT NULL,
          traceparent text,
          created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          attempts integer NOT NULL DEFAULT 0,
          doubts integer NOT NULL DEFAULT 0,
          is_resend boolean NOT NULL DEFAULT false,
          sent_at timestamptz NOT NULL DEFAULT clock_timestamp()
        );
        CREATE INDEX sent_events_order_id_id_idx ON sent_events (order_id, id);

        CREATE TABLE retention (
          table_name text PRIMARY KEY,
          kept_from timestamptz NOT NULL
        );
        -- Until this revision what was sent was deleted.
        INSERT INTO retention VALUES ('sent_events', now());

        ALTER TABLE dead_letters
          ADD COLUMN settled_as text,
          ADD COLUMN settled_at timestamptz,
          ADD CONSTRAINT dead_letters_settled_as_check
            CHECK (settled_as IN ('replayed', 'discarded')),
          ADD CONSTRAINT dead_letters_settled_at_check
            CHECK ((settled_as IS NULL) = (settled_at IS NULL));
        CREATE INDEX dead_letters_open_idx ON dead_letters (id)
          WHERE settled_as IS NULL;
        CREATE INDEX dead_letters_settled_at_idx ON dead_letters (settled_at)
          WHERE settled_at IS NOT NULL;
    """)


def downgrade() -> None:
    """Undo. What 0001 has no place for is lost: of orders' histories, and of doubts."""
    op.execute("""
        DROP INDEX dead_letters_settled_at_idx, dead_letters_open_idx,
          outbox_held_idx, outbox_destination_available_at_id_idx;
        ALTER TABLE dead_letters DROP COLUMN settled_as, DROP COLUMN settled_at;
        DROP TABLE retention, sent_events;
        ALTER TABLE outbox
          RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold,
            autovacuum_vacuum_cost_delay),
          DROP COLUMN held_since, DROP COLUMN is_resend, DROP COLUMN doubts;
    """)
    op.execute(_UPDATABLE.format(table="order_history"))
    op.execute("""
        DELETE FROM order_history WHERE item_id IS NULL OR to_status IS NULL;
        ALTER TABLE order_history
          DROP COLUMN kind, DROP COLUMN event_id, DROP COLUMN destinations,
          ALTER COLUMN item_id SET NOT NULL,
          ALTER COLUMN to_status SET NOT NULL;
    """)
    op.execute(_RENAMED.format(old="order_history", new="item_history"))
    op.execute(_APPEND_ONLY.format(table="item_history"))
    op.execute("ALTER TABLE orders DROP COLUMN cart_id")
