"""Alembic's entry: runs the revisions on the connection it is given.

There is no alembic.ini and no offline mode; each revision is a transaction.
"""

from alembic import context

from common.database import tables

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=tables.orders.metadata,
    transaction_per_migration=True,
)
context.run_migrations()
