"""A cart line is ordered once.

Lines of orders that were made before, or by old code, are not known: of these only the
very same cart is found.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("""
        CREATE TABLE IF NOT EXISTS ordered_lines (
          user_id uuid NOT NULL,
          line_id bigint NOT NULL,
          order_id bigint NOT NULL
            CONSTRAINT ordered_lines_order_id_fkey
            REFERENCES orders (id) ON DELETE CASCADE,
          PRIMARY KEY (user_id, line_id)
        ) WITH (  -- as of 0003's large tables
          autovacuum_vacuum_scale_factor = 0.02,
          autovacuum_vacuum_insert_scale_factor = 0.02,
          autovacuum_analyze_scale_factor = 0.02
        );
        CREATE INDEX IF NOT EXISTS ordered_lines_order_id_idx
          ON ordered_lines (order_id);
    """)


def downgrade() -> None:
    """Undo."""
    op.execute("DROP TABLE ordered_lines")
