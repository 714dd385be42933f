"""Migrations: the schema's history, applied by alembic under an advisory lock.

Never imported by a function: schema changes are made by an operator or a job, and old
code must run on the new schema.
"""

import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from common.database import tables as models
from common.database.engine import Engine, StatementError
from common.database.sqlstates import sql_state
from common.errors import BusyError, ServiceError

# Whoever waits for a table's lock has all others wait behind: for as long as this.
LOCK_WAIT_MILLISECONDS = 500
PAUSE_SECONDS = (1.0, 2.0)  # and then they have their turn
GIVE_UP_SECONDS = 300

_LOCK_NOT_AVAILABLE, _NOT_ALLOWED = "55P03", "42501"
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


def upgrade(engine: Engine, revision: str = "head") -> tuple[str, str]:
    """Bring the schema to `revision`; return the revisions before and after.

    Safe to run twice and by several at once: the second waits, then finds it done. A
    later release's schema stays what it is: this one's code runs on it. Raises
    BusyError where a table's lock is not to be had for `GIVE_UP_SECONDS`.
    """
    with _locked(engine) as connection:
        before = _current(connection)
        connection.rollback()
        if is_later(before):
            return before, before
        _upgrade(connection, revision)
        return before, _current(connection)


def _upgrade(connection: sqlalchemy.Connection, revision: str) -> None:
    """Apply what is left, each revision whole or not at all; no wait is long."""
    wait = f"SET lock_timeout = '{LOCK_WAIT_MILLISECONDS}ms'"
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while True:
        connection.exec_driver_sql(wait)
        connection.commit()
        try:
            return command.upgrade(_config(connection), revision)
        except (ServiceError, StatementError) as error:
            connection.rollback()
            if sql_state(error) != _LOCK_NOT_AVAILABLE:
                raise
            if time.monotonic() > deadline:
                raise BusyError from error
        time.sleep(random.uniform(*PAUSE_SECONDS))  # noqa: S311 no secret


def grant(engine: Engine, roles: Sequence[str]) -> None:
    """Let each role read and write every row, as functions do, and change no table.

    All of them, or none. Raise RoleError.
    """
    known = [table.name for table in models.metadata.sorted_tables]
    tables = ", ".join(map(_quoted, known))
    names = ", ".join(map(_quoted, roles))
    with _locked(engine) as connection:
        schema = connection.execute(sqlalchemy.text("SELECT current_schema()")).scalar()
        within = _quoted(str(schema))
        try:
            connection.exec_driver_sql(
                f"GRANT USAGE ON SCHEMA {within} TO {names};"
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {names};"
                f"GRANT SELECT ON alembic_version TO {names};"
                f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {within} TO {names}"
            )
        except (ServiceError, StatementError) as error:
            if sql_state(error) != _NOT_ALLOWED:
                raise
            raise RoleError(_NOT_OWNED) from error
        # Who has rights and may not pass them on is warned, and nothing is granted.
        asked = {"roles": list(roles), "tables": known}
        if connection.execute(sqlalchemy.text(_WITHOUT_RIGHTS), asked).scalar():
            raise RoleError(_NOT_OWNED)
        connection.commit()


def check_roles(engine: Engine, roles: Sequence[str]) -> None:
    """Raise RoleError for the first role that does not exist."""
    query = sqlalchemy.text("SELECT rolname FROM pg_roles")
    with engine.connect() as connection:
        known = set(connection.execute(query).scalars())
    for role in roles:
        if role not in known:
            raise RoleError(f"there is no role {role!r} in the database: create it")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@contextlib.contextmanager
def _locked(engine: Engine) -> Iterator[sqlalchemy.Connection]:
    """Yield a connection with transactions, while nobody else migrates.

    It has no time-outs. What holds the lock is closed for good afterwards, which lets
    go of it whatever happened before.
    """
    with (
        _patient(engine, "AUTOCOMMIT") as guard,
        _patient(engine, "READ COMMITTED") as connection,
    ):
        guard.exec_driver_sql(f"SELECT pg_advisory_lock({LOCK})")
        yield connection


@contextlib.contextmanager
def _patient(engine: Engine, isolation_level: str) -> Iterator[sqlalchemy.Connection]:
    with engine.connect() as connection:
        if link := getattr(connection.connection.driver_connection, "link", None):
            link.settimeout(None)
        connection.execution_options(isolation_level=isolation_level)
        for name in ("lock", "statement", "idle_in_transaction_session"):
            connection.exec_driver_sql(f"SET {name}_timeout = 0")
        connection.exec_driver_sql("SET idle_session_timeout = 0")
        connection.commit()
        try:
            yield connection
        finally:
            connection.invalidate()


def revision_of(engine: Engine) -> str:
    """Return the revision a database is at, 'empty' for none."""
    with engine.connect() as connection:
        return _current(connection)


def _current(connection: sqlalchemy.Connection) -> str:
    return MigrationContext.configure(connection).get_current_revision() or "empty"


def is_later(revision: str) -> bool:
    """Return whether a later release has brought the schema to this revision."""
    ours = ScriptDirectory.from_config(_config()).walk_revisions()
    return revision not in {"empty", *(each.revision for each in ours)}


def head() -> str:
    """Return the newest revision that this release knows."""
    return ScriptDirectory.from_config(_config()).get_current_head() or "empty"
