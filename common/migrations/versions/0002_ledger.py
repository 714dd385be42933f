"""History of the whole order with who was told, sent events, held doubts.

`item_history` becomes `order_history`. Renaming is not what a revision may do while old
code runs; this once it does, because no release has run on 0001.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ENTRIES_OF_BEFORE = """
    INSERT INTO order_history (order_id, kind, changed_by, changed_at)
    SELECT id, 'order.created', user_id, created_at FROM orders
    UNION ALL
    SELECT id, 'order.approved', NULL, approved_at FROM orders WHERE is_approved
"""
# Busy tables of short-lived rows: cleaned by number, not by share.
_BUSY = (
    "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,"
    " autovacuum_vacuum_cost_delay = 0"
)


def _moment(name: str, *, nullable: bool = False) -> "sa.Column[object]":
    default = None if nullable else sa.text("clock_timestamp()")
    return sa.Column(
        name, sa.DateTime(timezone=True), nullable=nullable, server_default=default
    )


def _count(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False)


def _is_resend() -> "sa.Column[bool]":
    return sa.Column(
        "is_resend", sa.Boolean(), server_default=sa.text("false"), nullable=False
    )


def upgrade() -> None:
    """Apply."""
    op.add_column("orders", sa.Column("cart_id", sa.BigInteger(), nullable=True))
    _make_order_history()
    op.add_column("outbox", _count("doubts"))
    op.add_column("outbox", _is_resend())
    op.add_column("outbox", _moment("held_since", nullable=True))
    op.create_index(
        op.f("outbox_destination_available_at_id_idx"),
        "outbox",
        ["destination", "available_at", "id"],
    )
    op.create_index(
        "outbox_held_idx",
        "outbox",
        ["id"],
        postgresql_where=sa.text("held_since IS NOT NULL"),
    )
    op.execute(f"ALTER TABLE outbox SET ({_BUSY})")
    op.create_table(
        "sent_events",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("traceparent", sa.Text(), nullable=True),
        _moment("created_at"),
        _count("attempts"),
        _count("doubts"),
        _is_resend(),
        _moment("sent_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("sent_events_pkey")),
    )
    op.create_index(
        op.f("sent_events_order_id_id_idx"), "sent_events", ["order_id", "id"]
    )
    retention = op.create_table(
        "retention",
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("kept_from", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("table_name", name=op.f("retention_pkey")),
    )
    # Until this revision what was sent was deleted.
    op.execute(
        retention.insert().values(table_name="sent_events", kept_from=sa.func.now())
    )
    _add_settling()


def _make_order_history() -> None:
    op.execute("DROP TRIGGER item_history_is_append_only ON item_history")
    op.execute("DROP FUNCTION item_history_is_append_only()")
    op.rename_table("item_history", "order_history")
    for old, new in (
        ("item_history_pkey", "order_history_pkey"),
        ("item_history_order_id_id_idx", "order_history_order_id_id_idx"),
    ):
        op.execute(f"ALTER INDEX {old} RENAME TO {new}")
    for name in ("from_status", "to_status"):
        op.execute(
            "ALTER TABLE order_history RENAME CONSTRAINT"
            f" item_history_{name}_check TO order_history_{name}_check"
        )
    op.execute("ALTER SEQUENCE item_history_id_seq RENAME TO order_history_id_seq")
    op.add_column("order_history", sa.Column("kind", sa.Text(), nullable=True))
    op.execute("""
        UPDATE order_history SET kind =
          CASE WHEN from_status IS NULL THEN 'item.created' ELSE 'item.moved' END
    """)
    op.alter_column("order_history", "kind", nullable=False)
    for name in ("item_id", "to_status"):
        op.alter_column("order_history", name, nullable=True)
    op.add_column("order_history", sa.Column("event_id", sa.Uuid(), nullable=True))
    op.add_column(
        "order_history",
        sa.Column(
            "destinations",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )
    for name, condition in (
        (
            "kind",
            (
                "kind IN ('order.created', 'order.approved', 'order.deleted',"
                " 'item.created', 'item.moved', 'item.removed')"
            ),
        ),
        ("item_id", "(kind LIKE 'item.%') = (item_id IS NOT NULL)"),
        ("destinations", "(event_id IS NULL) = (destinations = '{}')"),
    ):
        op.create_check_constraint(
            op.f(f"order_history_{name}_check"), "order_history", condition
        )
    op.execute(_ENTRIES_OF_BEFORE)
    # What happened stays as it was written; only retention may delete it.
    op.execute("""
        CREATE FUNCTION order_history_is_append_only() RETURNS trigger
        LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'order_history is append-only'; END $$
    """)
    op.execute("""
        CREATE TRIGGER order_history_is_append_only BEFORE UPDATE ON order_history
        FOR EACH ROW EXECUTE FUNCTION order_history_is_append_only()
    """)


def _add_settling() -> None:
    op.add_column("dead_letters", sa.Column("settled_as", sa.Text(), nullable=True))
    op.add_column("dead_letters", _moment("settled_at", nullable=True))
    op.create_check_constraint(
        op.f("dead_letters_settled_as_check"),
        "dead_letters",
        "settled_as IN ('replayed', 'discarded')",
    )
    op.create_check_constraint(
        op.f("dead_letters_settled_at_check"),
        "dead_letters",
        "(settled_as IS NULL) = (settled_at IS NULL)",
    )
    op.create_index(
        "dead_letters_open_idx",
        "dead_letters",
        ["id"],
        postgresql_where=sa.text("settled_as IS NULL"),
    )
    op.create_index(
        op.f("dead_letters_settled_at_idx"),
        "dead_letters",
        ["settled_at"],
        postgresql_where=sa.text("settled_at IS NOT NULL"),
    )


def downgrade() -> None:
    """Undo. What 0001 has no place for is lost: of orders' histories, and of doubts."""
    op.drop_index("dead_letters_settled_at_idx", "dead_letters")
    op.drop_index("dead_letters_open_idx", "dead_letters")
    op.drop_column("dead_letters", "settled_as")
    op.drop_column("dead_letters", "settled_at")
    op.drop_table("retention")
    op.drop_table("sent_events")
    names = ", ".join(part.split(" = ")[0] for part in _BUSY.split(", "))
    op.execute(f"ALTER TABLE outbox RESET ({names})")
    op.drop_index("outbox_held_idx", "outbox")
    op.drop_index("outbox_destination_available_at_id_idx", "outbox")
    for name in ("held_since", "is_resend", "doubts"):
        op.drop_column("outbox", name)
    op.execute("DROP TRIGGER order_history_is_append_only ON order_history")
    op.execute("DROP FUNCTION order_history_is_append_only()")
    op.execute("DELETE FROM order_history WHERE item_id IS NULL OR to_status IS NULL")
    for name in ("kind", "event_id", "destinations"):
        op.drop_column("order_history", name)
    for name in ("item_id", "to_status"):
        op.alter_column("order_history", name, nullable=False)
    for name in ("from_status", "to_status"):
        op.execute(
            "ALTER TABLE order_history RENAME CONSTRAINT"
            f" order_history_{name}_check TO item_history_{name}_check"
        )
    op.execute("ALTER SEQUENCE order_history_id_seq RENAME TO item_history_id_seq")
    for old, new in (
        ("order_history_pkey", "item_history_pkey"),
        ("order_history_order_id_id_idx", "item_history_order_id_id_idx"),
    ):
        op.execute(f"ALTER INDEX {old} RENAME TO {new}")
    op.rename_table("order_history", "item_history")
    op.execute("""
        CREATE FUNCTION item_history_is_append_only() RETURNS trigger
        LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'item_history is append-only'; END $$
    """)
    op.execute("""
        CREATE TRIGGER item_history_is_append_only BEFORE UPDATE ON item_history
        FOR EACH ROW EXECUTE FUNCTION item_history_is_append_only()
    """)
    op.drop_column("orders", "cart_id")
