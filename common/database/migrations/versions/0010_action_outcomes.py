"""How an operator's action ended is recorded once, and nothing else of it changes.

Functions record it and then leave it, old code as well.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    # The error is that of a missing right, as it is for all that only grows.
    op.execute("""
        CREATE OR REPLACE FUNCTION operator_action_has_ended() RETURNS trigger
        LANGUAGE plpgsql AS $$ BEGIN
          RAISE EXCEPTION 'an action''s recorded outcome cannot be changed'
            USING ERRCODE = '42501';
        END $$;
        DROP TRIGGER IF EXISTS operator_action_has_ended ON operator_actions;
        CREATE TRIGGER operator_action_has_ended BEFORE UPDATE ON operator_actions
          FOR EACH ROW WHEN (OLD.outcome <> 'begun')
          EXECUTE FUNCTION operator_action_has_ended();
    """)


def downgrade() -> None:
    """Undo."""
    op.execute("""
        DROP TRIGGER operator_action_has_ended ON operator_actions;
        DROP FUNCTION operator_action_has_ended();
    """)
