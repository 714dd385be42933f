"""What operators do at the console: who, what, why, and how it ended."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "operator_actions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("form_id", sa.Uuid(), nullable=False),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "given", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column(
            "outcome", sa.Text(), server_default=sa.text("'begun'"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("operator_actions_pkey")),
        sa.UniqueConstraint("form_id", name=op.f("operator_actions_form_id_key")),
        sa.CheckConstraint(
            "jsonb_typeof(given) = 'object'", name=op.f("operator_actions_given_check")
        ),
        sa.CheckConstraint("reason <> ''", name=op.f("operator_actions_reason_check")),
    )
    op.create_index(
        op.f("operator_actions_order_id_id_idx"),
        "operator_actions",
        ["order_id", "id"],
        postgresql_where=sa.text("order_id IS NOT NULL"),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("operator_actions")
