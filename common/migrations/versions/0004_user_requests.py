"""A count of each user's requests, for limits that hold over all instances."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "user_requests",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("window_ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("user_requests_pkey")),
        sa.CheckConstraint("requests > 0", name=op.f("user_requests_requests_check")),
        # Nothing is lost that would not be gone in a minute; no write waits for a disk.
        prefixes=["UNLOGGED"],
    )
    op.create_index(
        op.f("user_requests_window_ends_at_idx"), "user_requests", ["window_ends_at"]
    )
    # A row is written at each request: its versions stay in one page, which needs room.
    op.execute(
        "ALTER TABLE user_requests SET (fillfactor = 50,"
        " autovacuum_vacuum_scale_factor = 0.02,"
        " autovacuum_analyze_scale_factor = 0.02)"
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("user_requests")
