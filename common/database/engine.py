"""The engine on PostgreSQL, statements by name, and what becomes of their errors."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy
from sqlalchemy import CursorResult, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, DisconnectionError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as NoneFreeError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from common import failpoints
from common.config.endpoints import Database
from common.database import sessions, sqlstates
from common.database.prepared import PreparedConnection
from common.database.sqlstates import Meaning
from common.errors import BusyError, DatabaseUnavailableError, ServiceError
from common.telemetry import logs

POOL_TIMEOUT_SECONDS = 2
RECYCLE_SECONDS = 25 * 60

STATEMENTS: dict[str, str] = {}  # every one that was named so far
Engine = sqlalchemy.Engine
Connection = sqlalchemy.Connection
Statement = sqlalchemy.TextClause
StatementError = DBAPIError  # a defect of ours: the rest is raised as ServiceError

log = logs.get("db")


def named(name: str, sql: str) -> Statement:
    """Return a statement that says its name in its first line.

    The server's own statistics and logs (`pg_stat_statements`, `pg_stat_activity`) and
    ours then show which one they speak of, and tests of crashes know all of them
    (`STATEMENTS`).
    """
    STATEMENTS[name] = sql
    statement = sqlalchemy.text(f"-- {name}\n{sql.strip()}")
    return statement.execution_options(name=name)


def make_engine(database: Database, pool_size: int = 4) -> Engine:
    """Return an engine whose pool holds at most `pool_size` connections.

    Connects on first use. Belongs to one process.
    """
    contexts = sessions.tls_contexts(database)
    return engine_by(lambda: sessions.connect(database, contexts), pool_size)


def engine_by(creator: Callable[[], PreparedConnection], pool_size: int = 4) -> Engine:
    """Return an engine whose connections `creator` opens, raising pg8000's errors."""
    engine = sqlalchemy.create_engine(
        "postgresql+pg8000://",
        creator=creator,
        paramstyle="numeric_dollar",
        isolation_level="AUTOCOMMIT",
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        pool_recycle=RECYCLE_SECONDS,
        pool_use_lifo=True,
        hide_parameters=True,
    )
    event.listen(engine, "checkout", _check_link)
    event.listen(engine, "handle_error", _on_error)
    return engine


def connect(engine: Engine, timeout: float = POOL_TIMEOUT_SECONDS) -> Connection:
    """Return a connection, to be used by `with`: each statement commits by itself.

    Where the pool is in use, waits `timeout` seconds at least. Raise BusyError or
    DatabaseUnavailableError for what a retry can mend.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return engine.connect()
        except NoneFreeError as error:
            if time.monotonic() >= deadline:
                log.warning("no database connection was free in time")
                raise BusyError from error


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Yield a connection with a transaction: returning commits, raising rolls back.

    Raise BusyError or DatabaseUnavailableError for what a retry can mend.
    """
    with connect(engine) as connection, begin(connection):
        yield connection


@contextmanager
def begin(connection: Connection) -> Iterator[None]:
    """Make the rest of a connection's use a transaction: returning commits.

    Raising rolls back once the connection is released.
    """
    connection.execution_options(is_in_transaction=True)
    connection.exec_driver_sql("BEGIN")
    yield
    failpoints.reach("commit before")
    connection.exec_driver_sql("COMMIT")
    failpoints.reach("commit after")


def read(
    connection: Connection,
    statement: Statement,
    parameters: Mapping[str, Any] | None = None,
) -> CursorResult[*tuple[Any, ...]]:
    """Run a statement that may be run twice; if its connection was dead, on a new one.

    Within a transaction it is run once, as all else is.
    """
    try:
        return connection.execute(statement, parameters)
    except DatabaseUnavailableError:
        is_alone = not connection.get_execution_options().get("is_in_transaction")
        if not (is_alone and connection.invalidated):
            raise
        connection.rollback()  # of nothing: SQLAlchemy wants it before it connects anew
        return connection.execute(statement, parameters)


def session_of(connection: Connection) -> PreparedConnection:
    """Return what SQLAlchemy's connection speaks through."""
    session: Any = connection.connection.dbapi_connection  # also of one detached
    assert isinstance(session, PreparedConnection)
    return session


def _check_link(
    session: PreparedConnection, _: ConnectionPoolEntry, __: object
) -> None:
    """Have a connection replaced that no longer stands, before it is used."""
    if session.has_hung_up():
        raise DisconnectionError
    if session.is_silent():  # and so may all be that are as old
        raise InvalidatePoolError


def _on_error(failed: ExceptionContext) -> ServiceError | None:
    """Decide whether a connection is lost, and return what the caller is told.

    A lost connection takes with it all that the pool has opened before.
    """
    error = failed.original_exception
    if isinstance(error, NoneFreeError):
        return BusyError()
    is_running = failed.execution_context is not None
    found = sqlstates.meaning(error)
    if found is not Meaning.DEFECT:  # which is logged as such, with its traceback
        _report(found, failed)
    if found is Meaning.UNAVAILABLE:
        failed.is_disconnect = True
        return DatabaseUnavailableError()
    if found is Meaning.BUSY:
        return BusyError()
    if found is Meaning.NOT_SET_UP:
        return DatabaseUnavailableError("The database is not set up for this service.")
    if is_running and not sqlstates.is_servers(error):
        # Nobody knows what this connection says next; of the others it tells nothing.
        failed.is_disconnect = True
        failed.invalidate_pool_on_disconnect = False
    return None


def _report(found: Meaning, failed: ExceptionContext) -> None:
    """Log what the server or the network said; callers are not told."""
    error = failed.original_exception
    context = failed.execution_context
    fields: dict[str, str | None] = {
        "reason": sqlstates.reason(error),
        "sqlstate": sqlstates.sql_state(error) or None,
        "statement": context.execution_options.get("name") if context else None,
    }
    if found is Meaning.NOT_SET_UP:
        fields["run"] = sqlstates.remedy(error)
        log.error("the database is not set up", extra={"fields": fields})
        return
    state = "unavailable" if found is Meaning.UNAVAILABLE else "busy"
    told = (state, fields["reason"])
    log.warning("the database is %s: %s", *told, extra={"fields": fields})


_PING = named("db.ping", "SELECT 1")


def ping(engine: Engine) -> None:
    """Raise BusyError or DatabaseUnavailableError unless the database answers."""
    with connect(engine) as connection:
        read(connection, _PING)
