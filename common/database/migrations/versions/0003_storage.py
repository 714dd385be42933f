"""How large tables are kept clean; an index for lists of (un)approved orders.

PostgreSQL's defaults clean a table when a fifth of
it is dead or new; of a table with a thousand million rows that is a job of hours, late.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Cleaned and counted each time a few hundredths of it have changed.
_CHANGING = {
    "autovacuum_vacuum_scale_factor": 0.02,
    "autovacuum_vacuum_insert_scale_factor": 0.02,
    "autovacuum_analyze_scale_factor": 0.02,
}
_ALL = {
    "orders": _CHANGING,
    "order_items": _CHANGING,
    # Only written to: what is cleaned early is frozen on the way, in small steps.
    "order_history": {
        "autovacuum_vacuum_insert_scale_factor": 0.02,
        "autovacuum_analyze_scale_factor": 0.02,
    },
    # Written at one end, deleted at the other.
    "sent_events": _CHANGING,
    "idempotency_records": _CHANGING,
}


def upgrade() -> None:
    """Apply."""
    for table, settings in _ALL.items():
        told = ", ".join(f"{name} = {value}" for name, value in settings.items())
        op.execute(f"ALTER TABLE {table} SET ({told})")
    # Writes wait while it is built, some seconds for a million orders. No release has
    # run on 0002; a later revision would have to build it CONCURRENTLY.
    op.create_index(
        op.f("orders_user_id_is_approved_id_idx"),
        "orders",
        ["user_id", "is_approved", "id"],
    )


def downgrade() -> None:
    """Undo."""
    op.drop_index("orders_user_id_is_approved_id_idx", "orders")
    for table, settings in _ALL.items():
        op.execute(f"ALTER TABLE {table} RESET ({', '.join(settings)})")
