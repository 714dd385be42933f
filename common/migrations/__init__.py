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
from common.db import Engine

AnyEngine = Engine | sqlalchemy.Engine  # the service's, or SQLAlchemy's

# Any number that nobody else locks: "orders" on a telephone.
LOCK = 673377


def _config(connection: sqlalchemy.Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(engine: AnyEngine, revision: str = "head") -> tuple[str, str]:
    """Bring the schema to `revision`; answer the revisions before and after.

    Safe to run twice and by several at once: the second waits, then finds it done.
    """
    building = _building(engine)
    with _patient(building) as guard, _patient(building) as connection:
        guard.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({LOCK})"))
        # Here commits are alembic's: a revision goes in whole or not at all.
        link: Any = connection.connection.dbapi_connection
        link.autocommit = False
        before = _current(connection)
        connection.rollback()
        command.upgrade(_config(connection), revision)
        return before, _current(connection)


def _building(engine: AnyEngine) -> sqlalchemy.Engine:
    """Answer SQLAlchemy's engine on the same database, which builds statements.

    The service's own only lends connections (`db.py`). This one keeps none.
    """
    if isinstance(engine, sqlalchemy.Engine):
        return engine
    return sqlalchemy.create_engine(
        "postgresql+pg8000://", creator=engine.open, poolclass=sqlalchemy.NullPool
    )


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


def revision_of(engine: AnyEngine) -> str:
    """Answer the revision a database is at, 'empty' for none."""
    with _building(engine).connect() as connection:
        return _current(connection)


def _current(connection: sqlalchemy.Connection) -> str:
    return MigrationContext.configure(connection).get_current_revision() or "empty"


def head() -> str:
    """Answer the newest revision that this release knows."""
    return ScriptDirectory.from_config(_config()).get_current_head() or "empty"


def differences(engine: AnyEngine) -> list[object]:
    """Answer how the database differs from `models.py`; empty when it does not."""
    with _building(engine).connect() as connection:
        context = MigrationContext.configure(connection)
        return list(compare_metadata(context, models.metadata))
