"""Migrations: the schema's history, applied by alembic under an advisory lock.

Never imported by a function: schema changes are made by an operator or a job, and old
code must run on the new schema.
"""

import contextlib
import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from common.database import readiness
from common.database.engine import Engine, StatementError
from common.database.sqlstates import sql_state
from common.errors import BusyError, ServiceError

# Whoever waits for a table's lock has all others wait behind: for as long as this.
LOCK_WAIT_MILLISECONDS = 500
PAUSE_SECONDS = (1.0, 2.0)  # and then they have their turn
GIVE_UP_SECONDS = 300
POLL_SECONDS = 0.25  # for another one that migrates

_LOCK_NOT_AVAILABLE, _NOT_ALLOWED = "55P03", "42501"
_NOT_OWNED = "only the tables' owner can grant: run it as who migrates"
_WITHOUT_RIGHTS = """
SELECT count(*)
FROM unnest(CAST(:roles AS text[]), CAST(:tables AS text[]), CAST(:rights AS text[]))
  AS q(role, known, needed)
WHERE NOT CASE needed
  WHEN 'DELETE' THEN has_table_privilege(CAST(role AS name), known, needed)
  ELSE has_any_column_privilege(CAST(role AS name), known, needed) END
"""
_OWNERS = (
    "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = current_schema()"
)
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


def grant(engine: Engine, grants: Iterable[str]) -> None:
    """Give roles the rights of their functions (`readiness.RIGHTS`), and no others.

    A grant is 'FUNCTION=ROLE', or 'ROLE' for the rights of all functions together. All
    of them, or none. What a role had beyond that is revoked, except from the tables'
    owner, who needs no grant. Raise RoleError.
    """
    roles = _functions_by_role(grants)
    with _locked(engine) as connection:
        ask = connection.exec_driver_sql
        within = _quoted(str(ask("SELECT current_schema()").scalar()))
        owners = set(ask(_OWNERS).scalars())
        given = {r: tuple(names) for r, names in roles.items() if r not in owners}
        try:
            for role, functions in given.items():
                to = _quoted(role)
                ask(
                    f"REVOKE ALL ON ALL TABLES IN SCHEMA {within} FROM {to};"
                    f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA {within} FROM {to};"
                    f"GRANT USAGE ON SCHEMA {within} TO {to};"
                    + ";".join(readiness.grants(functions, to))
                )
        except (ServiceError, StatementError) as error:
            if sql_state(error) != _NOT_ALLOWED:
                raise
            raise RoleError(_NOT_OWNED) from error
        # Who has rights and may not pass them on is warned, and nothing is granted.
        needed = [
            (role, table, readiness.NAMES[letter])
            for role, functions in given.items()
            for table, letters in readiness.on_tables(functions).items()
            for letter in letters
        ]
        columns = ("roles", "tables", "rights")
        asked = dict(zip(columns, map(list, zip(*needed, strict=True)), strict=True))
        if (
            needed
            and connection.execute(sqlalchemy.text(_WITHOUT_RIGHTS), asked).scalar()
        ):
            raise RoleError(_NOT_OWNED)
        connection.commit()


def _functions_by_role(grants: Iterable[str]) -> dict[str, list[str]]:
    """Return the functions that each role is for; raise RoleError."""
    roles: dict[str, list[str]] = {}
    for each in grants:
        function, equals, role = each.partition("=")
        if not equals:
            roles.setdefault(each, []).extend(readiness.FUNCTIONS)
        elif function in readiness.RIGHTS:
            roles.setdefault(role, []).append(function)
        else:
            known = ", ".join(readiness.RIGHTS)
            raise RoleError(f"{function!r} is no function: one of {known}")
    return roles


def check_roles(engine: Engine, grants: Iterable[str]) -> None:
    """Raise RoleError for the first grant whose role or function does not exist."""
    roles = _functions_by_role(grants)
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
        # No statement waits for it: an index that is built CONCURRENTLY waits for all.
        while not guard.exec_driver_sql(
            f"SELECT pg_try_advisory_lock({LOCK})"
        ).scalar():
            time.sleep(POLL_SECONDS)
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
