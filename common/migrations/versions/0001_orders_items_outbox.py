"""Orders, their items and history, the outbox, idempotency records, dead letters.

The first revision: nothing ran on an older schema.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=True),
        sa.Column("order_id", sa.BigInteger(), nullable=True),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("event_type", sa.Text(), nullable=True),
        sa.Column(
            "headers",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "source IN ('outbox', 'approval')", name=op.f("dead_letters_source_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("dead_letters_pkey")),
    )
    op.create_index(
        op.f("dead_letters_order_id_idx"),
        "dead_letters",
        ["order_id"],
        unique=False,
        postgresql_where=sa.text("order_id IS NOT NULL"),
    )
    op.create_table(
        "item_history",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("item_id", sa.BigInteger(), nullable=False),
        sa.Column("from_status", sa.SmallInteger(), nullable=True),
        sa.Column("to_status", sa.SmallInteger(), nullable=False),
        sa.Column("changed_by", sa.Uuid(), nullable=True),
        sa.Column(
            "changed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "from_status BETWEEN 1 AND 4", name=op.f("item_history_from_status_check")
        ),
        sa.CheckConstraint(
            "to_status BETWEEN 1 AND 4", name=op.f("item_history_to_status_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("item_history_pkey")),
    )
    op.create_index(
        op.f("item_history_order_id_id_idx"),
        "item_history",
        ["order_id", "id"],
        unique=False,
    )
    op.create_table(
        "orders",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "is_complete", sa.Boolean(), server_default=sa.text("false"), nullable=False
        ),
        sa.Column(
            "is_approved", sa.Boolean(), server_default=sa.text("false"), nullable=False
        ),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "metadata",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column(
            "version", sa.BigInteger(), server_default=sa.text("1"), nullable=False
        ),
        sa.CheckConstraint(
            "jsonb_typeof(metadata) = 'object'", name=op.f("orders_metadata_check")
        ),
        sa.CheckConstraint(
            "is_approved = (approved_at IS NOT NULL)",
            name=op.f("orders_approved_at_check"),
        ),
        sa.CheckConstraint(
            "is_complete OR NOT is_approved",
            name=op.f("orders_approved_is_complete_check"),
        ),
        sa.CheckConstraint("version > 0", name=op.f("orders_version_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("orders_pkey")),
    )
    op.create_index(
        "orders_unapproved_idx",
        "orders",
        ["id"],
        unique=False,
        postgresql_where=sa.text("is_complete AND NOT is_approved"),
    )
    op.create_index(
        op.f("orders_user_id_id_idx"), "orders", ["user_id", "id"], unique=False
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "available_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "attempts", sa.Integer(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("sending_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("outbox_pkey")),
    )
    op.create_index(
        op.f("outbox_destination_order_id_id_idx"),
        "outbox",
        ["destination", "order_id", "id"],
        unique=False,
    )
    op.create_table(
        "idempotency_records",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "scope <> 'cart' OR order_id IS NOT NULL",
            name=op.f("idempotency_records_cart_has_order_check"),
        ),
        sa.CheckConstraint(
            "scope IN ('key', 'cart')", name=op.f("idempotency_records_scope_check")
        ),
        sa.ForeignKeyConstraint(
            ["order_id"],
            ["orders.id"],
            name=op.f("idempotency_records_order_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "user_id", "scope", "key", name=op.f("idempotency_records_pkey")
        ),
    )
    op.create_index(
        op.f("idempotency_records_expires_at_idx"),
        "idempotency_records",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("expires_at IS NOT NULL"),
    )
    op.create_index(
        op.f("idempotency_records_order_id_idx"),
        "idempotency_records",
        ["order_id"],
        unique=False,
        postgresql_where=sa.text("order_id IS NOT NULL"),
    )
    op.create_table(
        "order_items",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column(
            "status", sa.SmallInteger(), server_default=sa.text("1"), nullable=False
        ),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("product_variation", sa.Uuid(), nullable=False),
        sa.Column("product_id", sa.Uuid(), nullable=True),
        sa.Column("shop_id", sa.Uuid(), nullable=True),
        sa.Column("price", sa.BigInteger(), nullable=False),
        sa.Column(
            "version", sa.BigInteger(), server_default=sa.text("1"), nullable=False
        ),
        sa.CheckConstraint("price >= 0", name=op.f("order_items_price_check")),
        sa.CheckConstraint(
            "quantity BETWEEN 1 AND 10000", name=op.f("order_items_quantity_check")
        ),
        sa.CheckConstraint(
            "status BETWEEN 1 AND 4", name=op.f("order_items_status_check")
        ),
        sa.CheckConstraint("version > 0", name=op.f("order_items_version_check")),
        sa.ForeignKeyConstraint(
            ["order_id"],
            ["orders.id"],
            name=op.f("order_items_order_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("order_items_pkey")),
    )
    op.create_index(
        op.f("order_items_order_id_id_idx"),
        "order_items",
        ["order_id", "id"],
        unique=False,
    )
    op.create_index(
        op.f("order_items_user_id_id_idx"),
        "order_items",
        ["user_id", "id"],
        unique=False,
    )
    # What happened stays as it was written; only retention may delete it.
    op.execute("""
        CREATE FUNCTION item_history_is_append_only() RETURNS trigger
        LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'item_history is append-only'; END $$
    """)
    op.execute("""
        CREATE TRIGGER item_history_is_append_only BEFORE UPDATE ON item_history
        FOR EACH ROW EXECUTE FUNCTION item_history_is_append_only()
    """)


def downgrade() -> None:
    """Undo."""
    for table in (
        "dead_letters",
        "idempotency_records",
        "outbox",
        "item_history",
        "order_items",
        "orders",
    ):
        op.drop_table(table)
    op.execute("DROP FUNCTION item_history_is_append_only()")
