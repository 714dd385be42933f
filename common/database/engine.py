"""The engine for PostgreSQL, named statements, and how errors are translated."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
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

STATEMENTS: dict[str, str] = {}  # all that `named` has made, by name
Engine = sqlalchemy.Engine
Connection = sqlalchemy.Connection
Statement = sqlalchemy.TextClause
StatementError = DBAPIError  # a defect; all other errors are raised as ServiceError

log = logs.get("db")


def named(name: str, sql: str) -> Statement:
    """Return a statement with its name in a comment on its first line.

    The name then appears in `pg_stat_statements`, `pg_stat_activity`, the server's logs
    and ours. Crash tests stop at each of `STATEMENTS`.
    """
    STATEMENTS[name] = sql
    statement = sqlalchemy.text(f"-- {name}\n{sql.strip()}")
    return statement.execution_options(name=name)


def make_engine(database: Database, pool_size: int = 4) -> Engine:
    """Return an engine whose pool holds at most `pool_size` connections.

    Connects on first use. Belongs to one process.
    """
    contexts = sessions.tls_contexts(database)
    return engine_by(partial(sessions.connect, database, contexts), pool_size)


def engine_by(
    creator: Callable[[str], PreparedConnection], pool_size: int = 4
) -> Engine:
    """Return an engine whose connections `creator` opens, raising pg8000's errors.

    It is given the name that the server shows for them.
    """
    application = sessions.application_name(pool_size)
    engine = sqlalchemy.create_engine(
        "postgresql+pg8000://",
        creator=lambda: creator(application),
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
    event.listen(engine, "checkout", _check_connection)
    event.listen(engine, "handle_error", _on_error)
    return engine


def connect(engine: Engine, timeout: float = POOL_TIMEOUT_SECONDS) -> Connection:
    """Return a connection for a `with` block; each statement commits by itself.

    If the pool is exhausted, wait at least `timeout` seconds. Raise BusyError or
    DatabaseUnavailableError if a retry can help.
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

    Raise BusyError or DatabaseUnavailableError if a retry can help.
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
    """Run a statement that may run twice: once more if its connection was dead.

    Within a transaction it runs only once.
    """
    try:
        return connection.execute(statement, parameters)
    except DatabaseUnavailableError:
        options = connection.get_execution_options()
        if options.get("is_in_transaction") or not connection.invalidated:
            raise
        connection.rollback()  # a no-op that SQLAlchemy requires before it reconnects
        return connection.execute(statement, parameters)


def session_of(connection: Connection) -> PreparedConnection:
    """Return the driver's connection under SQLAlchemy's."""
    session: Any = connection.connection.dbapi_connection  # also if detached
    assert isinstance(session, PreparedConnection)
    return session


def _check_connection(
    session: PreparedConnection, _: ConnectionPoolEntry, __: object
) -> None:
    """Make the pool replace a dead connection before it is used."""
    if session.is_closed_by_peer():
        raise DisconnectionError
    if session.is_silent():  # older ones are probably dead, too
        raise InvalidatePoolError


def _on_error(failed: ExceptionContext) -> ServiceError | None:
    """Decide whether the connection is lost, and return the error to raise instead.

    When one is lost, the pool also drops all that it opened before.
    """
    error = failed.original_exception
    if isinstance(error, NoneFreeError):
        return BusyError()
    is_running = failed.execution_context is not None
    meaning = sqlstates.meaning(error)
    if meaning is not Meaning.DEFECT:  # a defect is logged with its traceback
        _log_error(meaning, failed)
    if meaning is Meaning.UNAVAILABLE:
        failed.is_disconnect = True
        return DatabaseUnavailableError()
    if meaning is Meaning.BUSY:
        return BusyError()
    if meaning is Meaning.NOT_SET_UP:
        # A login that was dropped and made anew has its rights in new sessions only.
        failed.is_disconnect = sqlstates.is_not_granted(error)
        return DatabaseUnavailableError("The database is not set up for this service.")
    if is_running and not sqlstates.is_from_server(error):
        # The state of this connection is unknown; the others are not affected.
        failed.is_disconnect = True
        failed.invalidate_pool_on_disconnect = False
    return None


def _log_error(meaning: Meaning, failed: ExceptionContext) -> None:
    """Log the error of the server or the network, which callers do not see."""
    error = failed.original_exception
    context = failed.execution_context
    fields: dict[str, str | None] = {
        "reason": sqlstates.reason(error),
        "sqlstate": sqlstates.sql_state(error) or None,
        "statement": context.execution_options.get("name") if context else None,
    }
    if meaning is Meaning.NOT_SET_UP:
        fields["run"] = sqlstates.remedy(error)
        log.error("the database is not set up", extra={"fields": fields})
        return
    state = "unavailable" if meaning is Meaning.UNAVAILABLE else "busy"
    reason = fields["reason"]
    log.warning("the database is %s: %s", state, reason, extra={"fields": fields})


_PING = named("db.ping", "SELECT 1")


def ping(engine: Engine) -> None:
    """Raise BusyError or DatabaseUnavailableError unless the database responds."""
    with connect(engine) as connection:
        read(connection, _PING)
