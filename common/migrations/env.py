"""Alembic's entry: runs the revisions on the connection it is given.

Lives here: only that. There is no alembic.ini and no offline mode; `orderctl migrate`
is the way in. Surprise: each revision is a transaction of its own.
"""

from alembic import context

from common import models

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=models.metadata,
    transaction_per_migration=True,
)
context.run_migrations()
