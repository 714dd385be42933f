"""Migrations: the schema's history, applied by alembic under an advisory lock.

Lives here: `upgrade()` and what a release needs to know about the schema. Not here: the
tables as the code sees them (`models.py`). Never imported by a function: schema changes
are made by an operator or a job, and old code must run on the new schema.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from common import models
from common.db import Engine, StatementError
from common.prepared import sql_state

AnyEngine = Engine | sqlalchemy.Engine  # the service's, or SQLAlchemy's

_NOT_ALLOWED = "42501"
_NOT_OWNED = "only the tables' owner can grant: run it as who migrates"
_WITHOUT_RIGHTS = """
SELECT count(*)
FROM unnest(CAST(:roles AS text[])) role, unnest(CAST(:tables AS text[])) known,
    unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) what
WHERE NOT has_table_privilege(CAST(role AS name), quote_ident(known), what)
"""
# Any number that nobody else locks: "orders" on a telephone.
LOCK = 673377


class RoleError(Exception):
    """Rights cannot be given; the message is one line."""


def _config(connection: sqlalchemy.Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(engine: AnyEngine, revision: str = "head") -> tuple[str, str]:
    """Bring the schema to `revision`; answer the revisions before and after.

    Safe to run twice and by several at once: the second waits, then finds it done. A
    later release's schema stays what it is: this one's code runs on it.
    """
    building = _building(engine)
    with _patient(building) as guard, _patient(building) as connection:
        guard.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({LOCK})"))
        # Here commits are alembic's: a revision goes in whole or not at all.
        link: Any = connection.connection.dbapi_connection
        link.autocommit = False
        before = _current(connection)
        connection.rollback()
        if is_later(before):
            return before, before
        command.upgrade(_config(connection), revision)
        return before, _current(connection)


def grant(engine: AnyEngine, roles: Sequence[str]) -> None:
    """Let each role read and write every row, as functions do, and change no table.

    All of them, or none. Raises RoleError.
    """
    known = [table.name for table in models.metadata.sorted_tables]
    tables = ", ".join(map(_quoted, known))
    names = ", ".join(map(_quoted, roles))
    with _patient(_building(engine)) as connection:
        connection.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({LOCK})"))
        schema = connection.execute(sqlalchemy.text("SELECT current_schema()")).scalar()
        within = _quoted(str(schema))
        link: Any = connection.connection.dbapi_connection
        try:
            # As it is: a name may hold what is a parameter to SQLAlchemy or the driver.
            link.execute_simple(
                f"GRANT USAGE ON SCHEMA {within} TO {names};"
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {names};"
                f"GRANT SELECT ON alembic_version TO {names};"
                f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {within} TO {names}"
            )
        except StatementError as error:
            if sql_state(error) != _NOT_ALLOWED:
                raise
            raise RoleError(_NOT_OWNED) from error
        # Who has rights and may not pass them on is warned, and nothing is granted.
        asked = {"roles": list(roles), "tables": known}
        if connection.execute(sqlalchemy.text(_WITHOUT_RIGHTS), asked).scalar():
            raise RoleError(_NOT_OWNED)
        connection.commit()


def check_roles(engine: AnyEngine, roles: Sequence[str]) -> None:
    """Raise RoleError for the first role that does not exist."""
    query = sqlalchemy.text("SELECT rolname FROM pg_roles")
    with _building(engine).connect() as connection:
        known = set(connection.execute(query).scalars())
    for role in roles:
        if role not in known:
            raise RoleError(f"there is no role {role!r} in the database: create it")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


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


def is_later(revision: str) -> bool:
    """Tell whether a later release has brought the schema to this revision."""
    ours = ScriptDirectory.from_config(_config()).walk_revisions()
    return revision not in {"empty", *(each.revision for each in ours)}


def head() -> str:
    """Answer the newest revision that this release knows."""
    return ScriptDirectory.from_config(_config()).get_current_head() or "empty"


def differences(engine: AnyEngine) -> list[object]:
    """Answer how the database differs from `models.py`; empty when it does not."""
    with _building(engine).connect() as connection:
        context = MigrationContext.configure(connection)
        return list(compare_metadata(context, models.metadata))
