"""A DB-API connection over pg8000 on which a prepared statement is one round trip.

pg8000 itself takes three round trips for a statement with parameters. Statements are
prepared under a hash of their text, so that behind a connection pooler a name never
stands for a different statement.
"""

import contextlib
import functools
import hashlib
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pg8000.dbapi
from pg8000.converters import make_params

from common import failpoints
from common.database.sqlstates import is_plan_stale, sql_state
from common.sockets import is_closed_by_peer
from common.telemetry import logs, tracing

# After this much idle time a connection is tested before use: a firewall or NAT in
# between may have dropped it without notice.
IDLE_SECONDS = 30
TEST_TIMEOUT_SECONDS = 2
PREPARED_STATEMENTS = 200
_NO_SUCH_STATEMENT, _DUPLICATE_STATEMENT = "26000", "42P05"
_IDLE, _PARSE_COMPLETE, _READY_FOR_QUERY = b"I", b"1", b"Z"  # of the protocol

Columns = tuple[Any, Any]  # of a result, and the function that decodes each


class PreparedConnection:
    """A pg8000 connection as SQLAlchemy expects it, for one thread at a time.

    `socket` is None if only pg8000 has it. Raises pg8000's errors; timeouts and resets
    become an `InterfaceError`.
    """

    def __init__(
        self, connection: pg8000.dbapi.Connection, sock: socket.socket | None = None
    ) -> None:
        self.autocommit = False
        self.py_types = connection.py_types
        self.register_in_adapter = connection.register_in_adapter
        self.notifications = connection.notifications
        self.socket = sock
        self._connection = connection
        self._columns: dict[str, Columns | None] = {}  # by statement; None: unknown
        self._is_in_transaction = False
        self._used_at = time.time()
        handlers = connection.message_types
        self._on_ready = handlers[_READY_FOR_QUERY]
        handlers[_READY_FOR_QUERY] = self._on_ready_for_query
        handlers[_PARSE_COMPLETE] = self._on_parse_complete

    def cursor(self) -> "Cursor":
        """Return a new cursor."""
        return Cursor(self)

    def commit(self) -> None:
        """Commit the transaction, if there is one, in one round trip."""
        if self._is_in_transaction:
            self.run("COMMIT")

    def rollback(self) -> None:
        """Roll back the transaction, if there is one, in one round trip."""
        if self._is_in_transaction:
            self.run("ROLLBACK")

    def close(self) -> None:
        """Close the connection, even if the server is gone."""
        with contextlib.suppress(pg8000.dbapi.Error, OSError):
            self._connection.close()
        if self.socket is not None:
            # pg8000 keeps the socket open while it cannot send its last message.
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)

    def is_closed_by_peer(self) -> bool:
        """Return whether the server has ended this idle connection (2 µs)."""
        return self.socket is not None and is_closed_by_peer(self.socket)

    def is_silent(self) -> bool:
        """Return whether the server does not respond after a long idle time."""
        if time.time() - self._used_at < IDLE_SECONDS:
            return False
        timeout = self.socket.gettimeout() if self.socket else None
        try:
            if self.socket:
                self.socket.settimeout(TEST_TIMEOUT_SECONDS)
            self.run("SELECT 1")
            if self.socket:
                self.socket.settimeout(timeout)
        except pg8000.dbapi.Error:
            return True
        return False

    def run(self, sql: str, parameters: Sequence[object] = ()) -> Any:  # noqa: ANN401 pg8000's context
        """Run a statement; prepare it first if it has parameters (`$1` in its text).

        If the prepared statement is missing or stale on the server, prepare it again.
        """
        try:
            if not self.autocommit and not self._is_in_transaction:
                self._connection.execute_simple("BEGIN")
            if not parameters:
                return self._connection.execute_simple(sql)
            try:
                return self._run_prepared(sql, parameters)
            except pg8000.dbapi.DatabaseError as error:
                if self._is_in_transaction or not self._repair(sql, error):
                    raise
                return self._run_prepared(sql, parameters)
        except OSError as error:
            raise pg8000.dbapi.InterfaceError("network error") from error
        finally:
            self._used_at = time.time()

    def _run_prepared(self, sql: str, parameters: Sequence[object]) -> Any:  # noqa: ANN401 pg8000's context
        values = make_params(self.py_types, parameters)
        name = _prepared_name(sql)
        if columns := self._columns.get(sql):
            return self._connection.execute_named(name, values, *columns, sql)
        if sql not in self._columns:
            if len(self._columns) >= PREPARED_STATEMENTS:
                self._connection.execute_simple("DEALLOCATE ALL")
                self._columns.clear()
            self._connection.send_PARSE(name, sql)
        # These are buffered and sent together with the statement's first run.
        self._connection.send_DESCRIBE_STATEMENT(name)
        context = self._connection.execute_named(name, values, None, None, sql)
        self._columns[sql] = (context.columns, context.input_funcs)
        return context

    def _repair(self, sql: str, error: pg8000.dbapi.DatabaseError) -> bool:
        """Return whether the prepared statement caused the error, and is corrected."""
        state = sql_state(error)
        if state == _DUPLICATE_STATEMENT:  # by its name it has the same text
            self._columns[sql] = None
            return True
        if state == _NO_SUCH_STATEMENT:
            self._columns.pop(sql, None)
            return True
        if is_plan_stale(error):  # a migration changed the result's columns
            del self._columns[sql]
            name = _prepared_name(sql).rstrip(b"\0").decode()
            self._connection.execute_simple(f"DEALLOCATE {name}")
            return True
        return False

    def _on_ready_for_query(self, data: bytes, context: Any) -> None:  # noqa: ANN401 pg8000's context
        self._is_in_transaction = data != _IDLE
        self._on_ready(data, context)

    def _on_parse_complete(self, _: bytes, context: Any) -> None:  # noqa: ANN401 pg8000's context
        self._columns[context.statement] = None


class Cursor:
    """The part of a DB-API cursor that SQLAlchemy uses; holds all rows of a result."""

    arraysize = 1

    def __init__(self, connection: PreparedConnection) -> None:
        self.connection = connection
        self.rowcount = -1
        self.description: list[tuple[Any, ...]] | None = None
        self._rows: Iterator[Any] = iter(())

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement, and record how long it took."""
        name = _statement_name(sql) if failpoints.is_armed() or tracing.is_on() else ""
        if name:
            failpoints.reach(f"sql {name} before")
        began, failure = time.perf_counter(), None
        try:
            context = self.connection.run(sql, parameters)
        except BaseException as error:
            failure = sql_state(error) or type(error).__name__
            raise
        finally:
            _record(name, time.perf_counter() - began, failure)
        if name:
            failpoints.reach(f"sql {name} after")
        self.rowcount = context.row_count
        self.description = None
        if context.columns:
            self.description = [
                (each["name"], each["type_oid"], None, None, None, None, None)
                for each in context.columns
            ]
        self._rows = iter(context.rows or ())

    def executemany(self, sql: str, many: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each of `many`."""
        count = 0
        for parameters in many:
            self.execute(sql, parameters)
            count += self.rowcount
        self.rowcount = count

    def fetchone(self) -> Any:  # noqa: ANN401 a row
        """Return the next row, None after the last."""
        return next(self._rows, None)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """Return the next rows."""
        return [row for _, row in zip(range(size or 1), self._rows, strict=False)]

    def fetchall(self) -> list[Any]:
        """Return all remaining rows."""
        return list(self._rows)

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def setinputsizes(self, *sizes: object) -> None:
        """Do nothing: the server infers types."""


@functools.cache
def _statement_name(sql: str) -> str:
    """Return the name in the comment on the first line, '' if there is none."""
    return sql.partition("\n")[0].removeprefix("-- ") if sql.startswith("-- ") else ""


def _record(name: str, seconds: float, failure: str | None) -> None:
    """Record how long a statement took, for the request's log line and its trace.

    SQLAlchemy's events would cost more for every statement.
    """
    if context := logs.current():
        context.database.append(seconds)
        if name and tracing.is_on():
            attributes = {"db.system.name": "postgresql", "db.query.summary": name}
            tracing.record(name, tracing.Kind.CLIENT, seconds, attributes, failure)


@functools.cache
def _prepared_name(sql: str) -> bytes:
    """Return the name under which a statement is prepared, in the protocol's bytes."""
    return b"s" + hashlib.sha256(sql.encode()).hexdigest()[:40].encode() + b"\0"
