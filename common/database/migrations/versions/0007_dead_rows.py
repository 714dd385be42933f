"""The outbox where dead rows stay: an index for each condition, and where to begin.

Old code finds an order's rows by the new index, too; its doctor is slower for a while.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_NEW = {
    "outbox_order_idx": "(order_id, (id + 0))",
    "outbox_due_idx": "(destination, available_at, id) WHERE held_since IS NULL",
}
_OLD = {
    "outbox_destination_order_id_id_idx": "(destination, order_id, id)",
    "outbox_destination_available_at_id_idx": "(destination, available_at, id)",
}


def _replace(old: dict[str, str], new: dict[str, str]) -> None:
    # Writes wait while they are built: a second for a million pending rows, and there
    # are few. CONCURRENTLY would wait for the very snapshot that this is about.
    for name, columns in new.items():
        op.execute(f"CREATE INDEX IF NOT EXISTS {name} ON outbox {columns}")
    for name in old:
        op.execute(f"DROP INDEX IF EXISTS {name}")


def upgrade() -> None:
    """Apply."""
    op.execute("""
        CREATE TABLE IF NOT EXISTS outbox_marks (
          destination text PRIMARY KEY,
          due_from timestamptz NOT NULL
        );
    """)
    _replace(_OLD, _NEW)


def downgrade() -> None:
    """Undo."""
    op.execute("DROP TABLE outbox_marks")
    _replace(_NEW, _OLD)
