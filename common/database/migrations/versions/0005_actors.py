"""Who did it, and how many there were: history tells what kind of caller acted.

Old code writes none of it and reads none of it. What is there already is looked through
in a second step, which keeps nobody from writing; broken off, all of it runs again.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_KINDS = (
    "'order.created', 'order.approved', 'order.deleted',"
    " 'item.created', 'item.moved', 'item.removed'"
)
_COLUMNS = {"actor_kind": "text", "from_quantity": "integer", "to_quantity": "integer"}
_CHECKS = {
    "actor_kind": "actor_kind IN ('user', 'shop', 'internal', 'system', 'operator')",
    "from_quantity": "from_quantity BETWEEN 1 AND 10000",
    "to_quantity": "to_quantity BETWEEN 1 AND 10000",
    "kind": f"kind IN ({_KINDS}, 'item.changed')",
}


def _replace(name: str, condition: str) -> None:
    op.execute(
        "ALTER TABLE order_history"
        f" DROP CONSTRAINT IF EXISTS order_history_{name}_check,"
        f" ADD CONSTRAINT order_history_{name}_check CHECK ({condition}) NOT VALID"
    )


def _look_through(name: str) -> None:
    op.execute(
        f"ALTER TABLE order_history VALIDATE CONSTRAINT order_history_{name}_check"
    )


def upgrade() -> None:
    """Apply."""
    for name, kind in _COLUMNS.items():
        op.execute(f"ALTER TABLE order_history ADD COLUMN IF NOT EXISTS {name} {kind}")
    for name, condition in _CHECKS.items():
        _replace(name, condition)
    with op.get_context().autocommit_block():
        for name in _CHECKS:
            _look_through(name)


def downgrade() -> None:
    """Undo. Changes of quantity are lost from orders' histories."""
    op.execute("DELETE FROM order_history WHERE kind = 'item.changed'")
    _replace("kind", f"kind IN ({_KINDS})")
    _look_through("kind")
    for name in _COLUMNS:
        op.drop_column("order_history", name)
