"""Deleted items are remembered, so that the rows of their shops can be closed.

What was deleted before, or by old code, is not.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("""
        CREATE TABLE IF NOT EXISTS deleted_items (
          id bigint PRIMARY KEY,
          order_id bigint NOT NULL,
          quantity integer NOT NULL,
          product_variation uuid NOT NULL,
          product_id uuid,
          shop_id uuid,
          price bigint NOT NULL
        );
    """)


def downgrade() -> None:
    """Undo."""
    op.execute("DROP TABLE deleted_items")
