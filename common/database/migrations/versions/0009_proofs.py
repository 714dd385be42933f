"""Proofs of the ledger: a digest of each event's body, and seals of the orders known.

Old code writes none and reads none. All that runs by now records who acted.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("ALTER TABLE order_history ADD COLUMN IF NOT EXISTS event_digest bytea")
    op.execute("""
        CREATE TABLE IF NOT EXISTS ledger_seals (
          block bigint PRIMARY KEY,
          orders bit(1024) NOT NULL
        );
        INSERT INTO retention VALUES ('order_history', now())
        ON CONFLICT (table_name) DO NOTHING;
    """)


def downgrade() -> None:
    """Undo. The proofs are lost."""
    op.execute("""
        DELETE FROM retention WHERE table_name = 'order_history';
        DROP TABLE ledger_seals;
        ALTER TABLE order_history DROP COLUMN event_digest;
    """)
