"""A count of each user's requests, for limits that hold over all instances."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("""
        -- Nothing is lost that would not be gone in a minute; no write waits for a
        -- disk. A row is written at each request: its versions stay in one page, which
        -- needs room.
        CREATE UNLOGGED TABLE user_requests (
          user_id uuid PRIMARY KEY,
          requests integer NOT NULL,
          window_ends_at timestamptz NOT NULL,
          CONSTRAINT user_requests_requests_check CHECK (requests > 0)
        ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02,
          autovacuum_analyze_scale_factor = 0.02);
        CREATE INDEX user_requests_window_ends_at_idx
          ON user_requests (window_ends_at);
    """)


def downgrade() -> None:
    """Undo."""
    op.execute("DROP TABLE user_requests")
