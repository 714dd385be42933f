"""Migrations: the schema's history, applied by alembic under an advisory lock.

Lives here: `upgrade()` and what a release needs to know about the schema. Not here: the
tables as the code sees them (`models.py`). Never imported by a function: schema changes
are made by an operator or a job, and old code must run on the new schema.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from common import models

# Any number that nobody else locks: "orders" on a telephone.
LOCK = 673377


def _config(connection: sqlalchemy.Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(engine: sqlalchemy.Engine, revision: str = "head") -> tuple[str, str]:
    """Bring the schema to `revision`; answer the revisions before and after.

    Safe to run twice and by several at once: the second waits, then finds it done.
    """
    with _patient(engine) as guard, _patient(engine) as connection:
        guard.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({LOCK})"))
        # Here commits are alembic's: a revision goes in whole or not at all.
        link: Any = connection.connection.dbapi_connection
        link.autocommit = False
        before = current(connection)
        connection.rollback()
        command.upgrade(_config(connection), revision)
        return before, current(connection)


@contextlib.contextmanager
def _patient(engine: sqlalchemy.Engine) -> Iterator[sqlalchemy.Connection]:
    """Lend a connection without time-outs, closed for good afterwards.

    Closing it also lets go of the advisory lock, whatever happened before.
    """
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SET lock_timeout = 0"))
        connection.execute(sqlalchemy.text("SET statement_timeout = 0"))
        try:
            yield connection
        finally:
            connection.invalidate()


def current(connection: sqlalchemy.Connection) -> str:
    """Answer the revision a database is at, 'empty' for none."""
    return MigrationContext.configure(connection).get_current_revision() or "empty"


def head() -> str:
    """Answer the newest revision that this release knows."""
    return ScriptDirectory.from_config(_config()).get_current_head() or "empty"


def differences(engine: sqlalchemy.Engine) -> list[object]:
    """Answer how the database differs from `models.py`; empty when it does not."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        return list(compare_metadata(context, models.metadata))
