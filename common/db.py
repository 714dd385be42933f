"""PostgreSQL: the engine, and connections on which each statement is one round trip.

Lives here: pool, time-outs, prepared statements, `connect()` and `transaction()`, and
what a database error means. Not here: SQL. Surprise: outside `transaction()` every
statement commits by itself, and a commit or rollback with nothing to end costs nothing.
"""

import contextlib
import functools
import socket
import ssl
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pg8000.dbapi
import sqlalchemy
from pg8000.converters import make_params
from sqlalchemy import Connection, Engine, TextClause, exc

from common import failpoints
from common.config import Database
from common.errors import BusyError, DatabaseUnavailableError, ServiceError
from common.links import has_spoken
from common.pool import SharingPool

POOL_TIMEOUT_SECONDS = 1.0
CONNECT_TIMEOUT_SECONDS = 5
LOCK_TIMEOUT_SECONDS = 2
STATEMENT_TIMEOUT_SECONDS = 10
# A server that stopped talking is given up after the longest statement it may run.
READ_TIMEOUT_SECONDS = STATEMENT_TIMEOUT_SECONDS + 5
RECYCLE_SECONDS = 25 * 60
# An instance that nobody calls may be frozen, and gives nothing back by itself.
IDLE_TIMEOUT_SECONDS = 5 * 60
PREPARED_STATEMENTS = 200

STATEMENTS: dict[str, str] = {}  # every one that was named so far
UNIQUE_VIOLATION = "23505"
LOCK_NOT_AVAILABLE = "55P03"
_PLAN_CHANGED = "0A000"
_TOO_MANY_CONNECTIONS = "53300"
# Lock time-out, deadlock, serialization failure, statement time-out.
_BUSY_STATES = (LOCK_NOT_AVAILABLE, "40P01", "40001", "57014")
# Connection trouble, out of resources, shutting down or starting, no such database.
_AWAY_STATES = ("08", "53", "57P", "3D", "28")


class PreparedConnection(pg8000.dbapi.Connection):  # type: ignore[misc]
    """A DB-API connection that prepares each statement once and then only runs it.

    pg8000 takes three round trips for a statement with parameters; prepared, it takes
    one. Starts in autocommit. For one thread at a time, which the pool sees to.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 pg8000's own
        super().__init__(*args, **kwargs)
        self._prepared: OrderedDict[str, tuple[Any, ...]] = OrderedDict()
        self.autocommit = True
        self._usock.settimeout(READ_TIMEOUT_SECONDS)
        if self._usock.family != socket.AF_UNIX:
            # Without it a request that fills two segments waits for a delayed ACK.
            self._usock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def execute_prepared(self, statement: str, values: Sequence[object]) -> Any:  # noqa: ANN401 pg8000's context
        """Run `statement` with `values`, preparing it at its first use."""
        known = statement in self._prepared
        try:
            return self._run(statement, values)
        except pg8000.dbapi.DatabaseError as error:
            if not known or sql_state(error) != _PLAN_CHANGED or self._in_transaction:
                raise
            # A migration changed the result's columns since it was prepared.
            self.close_prepared_statement(self._prepared.pop(statement)[0])
            return self._run(statement, values)

    def _run(self, statement: str, values: Sequence[object]) -> Any:  # noqa: ANN401 pg8000's context
        if statement not in self._prepared:
            if len(self._prepared) >= PREPARED_STATEMENTS:
                _, (oldest, *_) = self._prepared.popitem(last=False)
                self.close_prepared_statement(oldest)
            self._prepared[statement] = self.prepare_statement(statement, ())
        self._prepared.move_to_end(statement)
        name, columns, input_funcs = self._prepared[statement]
        params = make_params(self.py_types, values)
        return self.execute_named(name, params, columns, input_funcs, statement)

    def handle_messages(self, context: Any) -> None:  # noqa: ANN401 pg8000's context
        """Read the server's answer; a read time-out is a network error, too."""
        try:
            super().handle_messages(context)
        except OSError as error:
            raise pg8000.dbapi.InterfaceError("network error") from error

    def commit(self) -> None:
        """End the transaction, if there is one, in one round trip."""
        if self._in_transaction:
            failpoints.reach("commit before")
            self.execute_simple("COMMIT")
            failpoints.reach("commit after")

    def rollback(self) -> None:
        """Undo the transaction, if there is one, in one round trip."""
        if self._in_transaction:
            self.execute_simple("ROLLBACK")

    def close(self) -> None:
        """Close the link, and the socket with it, also where the server is gone.

        pg8000 drops its buffer unclosed, with the goodbye that could not be sent in it,
        and the socket stays open as long as the buffer lives.
        """
        buffer = self._sock
        try:
            super().close()
        finally:
            if buffer is not None:
                with contextlib.suppress(OSError):
                    buffer.close()

    def cursor(self) -> "PreparedCursor":
        """Answer a cursor whose statements are prepared."""
        return PreparedCursor(self)

    def is_link_closed(self) -> bool:
        """Tell whether the server has hung up on this idle connection (2 µs)."""
        return self._usock is None or has_spoken(self._usock)


class PreparedCursor(pg8000.dbapi.Cursor):  # type: ignore[misc]
    """A cursor whose statements with parameters are prepared on its connection."""

    def execute(
        self, operation: str, args: Sequence[object] = (), stream: object = None
    ) -> None:
        """Run `operation`; the DB-API's contract."""
        _reach(operation, "before")
        self._execute(operation, args, stream)
        _reach(operation, "after")

    def _execute(self, operation: str, args: Sequence[object], stream: object) -> None:
        connection = self._c
        if connection is None or not args or stream is not None:
            super().execute(operation, args, stream)
            return
        if not connection.autocommit and not connection._in_transaction:  # noqa: SLF001 as the base class does
            connection.execute_simple("BEGIN")
        self._context = connection.execute_prepared(_numbered(operation), args)
        rows = self._context.rows
        self._row_iter = None if rows is None else iter(rows)


def _reach(operation: str, moment: str) -> None:
    """Pass a named statement's failpoint; what has no name is SQLAlchemy's own."""
    if failpoints.is_armed() and operation.startswith("-- "):
        name = operation.partition("\n")[0].removeprefix("-- ")
        failpoints.reach(f"sql {name} {moment}")


@functools.lru_cache(maxsize=1000)
def _numbered(operation: str) -> str:
    """Turn `%s` into `$1`, `$2`, …; pg8000 scans every character, so only once."""
    statement: str = pg8000.dbapi.convert_paramstyle("format", operation, ())[0]
    return statement


def named(name: str, sql: str) -> TextClause:
    """Answer a statement that says its name in its first line.

    The server's own statistics and logs (`pg_stat_statements`, `pg_stat_activity`) then
    show which one they speak of, and tests of crashes know all of them (`STATEMENTS`).
    """
    STATEMENTS[name] = sql
    return sqlalchemy.text(f"-- {name}\n{sql.strip()}")


def make_engine(database: Database, pool_size: int = 4) -> Engine:
    """Answer an engine whose pool holds at most `pool_size` connections.

    As few as will do, see `SharingPool`. Connects on first use. Belongs to the process
    that made it.
    """
    contexts = _tls_contexts(database)

    def connect() -> PreparedConnection:
        for context in contexts[:-1]:
            with contextlib.suppress(pg8000.dbapi.InterfaceError):
                return _open(database, context)
        return _open(database, contexts[-1])

    return sqlalchemy.create_engine(
        "postgresql+pg8000://",
        pool=SharingPool(
            connect,
            size=pool_size,
            timeout=POOL_TIMEOUT_SECONDS,
            recycle=RECYCLE_SECONDS,
            is_refusal=_is_refusal,
            is_closed=PreparedConnection.is_link_closed,
        ),
    )


def _open(
    database: Database, tls: ssl.SSLContext | Literal[False]
) -> PreparedConnection:
    try:
        return PreparedConnection(
            database.user,
            host=database.host,
            port=database.port,
            database=database.name,
            password=database.password,
            ssl_context=tls,
            timeout=CONNECT_TIMEOUT_SECONDS,
            application_name="order-service",
            startup_params={
                "lock_timeout": f"{LOCK_TIMEOUT_SECONDS}s",
                "statement_timeout": f"{STATEMENT_TIMEOUT_SECONDS}s",
                "idle_in_transaction_session_timeout": f"{READ_TIMEOUT_SECONDS}s",
                "idle_session_timeout": f"{IDLE_TIMEOUT_SECONDS}s",
                "TimeZone": "UTC",
                # A generic plan guesses high at how much of a list a page takes, and
                # would then rather sort all that a caller owns than walk the index.
                "enable_bitmapscan": "off",
            },
        )
    except OSError as error:
        raise pg8000.dbapi.InterfaceError("network error") from error


def _tls_contexts(database: Database) -> list[ssl.SSLContext | Literal[False]]:
    """Answer what to try in turn; one context is shared, each costs 98 ms to make."""
    local = database.host in ("localhost", "127.0.0.1", "::1")
    if database.sslmode == "disable" or (database.sslmode == "prefer" and local):
        return [False]
    context = ssl.create_default_context()
    if database.sslmode == "verify-full":
        return [context]
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return [context] if database.sslmode == "require" else [context, False]


def _is_refusal(error: Exception) -> bool:
    """Tell whether the server has no connection left, for anybody or for this user."""
    return sql_state(error) == _TOO_MANY_CONNECTIONS


@contextlib.contextmanager
def connect(engine: Engine) -> Iterator[Connection]:
    """Lend a connection on which every statement commits by itself.

    Raises BusyError or DatabaseUnavailableError for what a retry can mend.
    """
    with _translated(), engine.connect() as connection:
        yield connection


@contextlib.contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Lend a connection with a transaction: returning commits, raising rolls back.

    Raises BusyError or DatabaseUnavailableError for what a retry can mend.
    """
    with _translated(), engine.connect() as connection:
        link: Any = connection.connection.dbapi_connection
        link.autocommit = False
        try:
            with connection.begin():
                yield connection
        finally:
            link.autocommit = True


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except exc.SQLAlchemyError as error:
        if translated := _meaning(error):
            raise translated from error
        raise


def _meaning(error: exc.SQLAlchemyError) -> ServiceError | None:
    """Answer what a caller is told, or None for what is a defect of ours."""
    if isinstance(error, exc.TimeoutError):  # every connection of the pool is lent
        return BusyError()
    if not isinstance(error, exc.DBAPIError):
        return None
    state = sql_state(error.orig)
    if state in _BUSY_STATES:
        return BusyError()
    if error.connection_invalidated or state.startswith(_AWAY_STATES):
        return DatabaseUnavailableError()
    if isinstance(error, exc.InterfaceError):  # refused, unresolvable, unreachable
        return DatabaseUnavailableError()
    return None


def sql_state(error: BaseException | None) -> str:
    """Answer the five-character SQLSTATE of a driver's error, '' where it has none."""
    details = error.args[0] if error is not None and error.args else None
    return str(details.get("C", "")) if isinstance(details, dict) else ""


def violated_constraint(error: exc.DBAPIError) -> str:
    """Answer the name of the constraint that `error` is about, or ''."""
    details = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return str(details.get("n", "")) if isinstance(details, dict) else ""


_PING = named("db.ping", "SELECT 1")


def ping(engine: Engine) -> None:
    """Raise BusyError or DatabaseUnavailableError unless the database answers."""
    with connect(engine) as connection:
        connection.execute(_PING)
