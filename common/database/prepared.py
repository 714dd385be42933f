"""A DB-API connection over pg8000 on which a prepared statement is one round trip.

pg8000 itself takes three round trips for a statement with parameters. Statements are
prepared under a hash of their text, so that a pooler between us and the server can
never run another's statement under a name of ours.
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

# How long a link may be idle before the server is asked whether it still stands: what
# stands between may have forgotten it, and drops what it does not know in silence.
IDLE_SECONDS = 30
ASK_SECONDS = 2
PREPARED_STATEMENTS = 200
_NO_SUCH_STATEMENT, _DUPLICATE_STATEMENT = "26000", "42P05"
_IDLE, _PARSE_COMPLETE, _READY_FOR_QUERY = b"I", b"1", b"Z"  # of the protocol

Columns = tuple[Any, Any]  # of a result, and what reads each


class PreparedConnection:
    """A pg8000 connection as SQLAlchemy takes it, for one thread at a time.

    `link` is the socket it speaks through, None where only pg8000 knows it. Raises
    pg8000's errors; a time-out or a reset is an `InterfaceError`, too.
    """

    def __init__(
        self, connection: pg8000.dbapi.Connection, link: socket.socket | None = None
    ) -> None:
        self.autocommit = False
        self.py_types = connection.py_types
        self.register_in_adapter = connection.register_in_adapter
        self.notifications = connection.notifications
        self.link = link
        self._connection = connection
        self._columns: dict[str, Columns | None] = {}  # None: not known yet
        self._is_in_transaction = False
        self._used_at = time.time()
        handlers = connection.message_types
        self._on_ready = handlers[_READY_FOR_QUERY]
        handlers[_READY_FOR_QUERY] = self._note_ready
        handlers[_PARSE_COMPLETE] = self._note_prepared

    def cursor(self) -> "Cursor":
        """Return a new cursor."""
        return Cursor(self)

    def commit(self) -> None:
        """Commit the transaction, if there is one, in one round trip."""
        if self._is_in_transaction:
            self.run("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, if there is one, in one round trip."""
        if self._is_in_transaction:
            self.run("ROLLBACK")

    def close(self) -> None:
        """Close the link, also where the server is gone."""
        with contextlib.suppress(pg8000.dbapi.Error, OSError):
            self._connection.close()
        if self.link is not None:
            # pg8000's buffer keeps the socket while a goodbye in it cannot be sent.
            with contextlib.suppress(OSError):
                self.link.shutdown(socket.SHUT_RDWR)

    def has_hung_up(self) -> bool:
        """Return whether the server has ended this idle connection (2 µs)."""
        return self.link is not None and is_closed_by_peer(self.link)

    def is_silent(self) -> bool:
        """Return whether the server gives no reply on a link that was idle for long."""
        if time.time() - self._used_at < IDLE_SECONDS:
            return False
        timeout = self.link.gettimeout() if self.link else None
        try:
            if self.link:
                self.link.settimeout(ASK_SECONDS)
            self.run("SELECT 1")
            if self.link:
                self.link.settimeout(timeout)
        except pg8000.dbapi.Error:
            return True
        return False

    def run(self, sql: str, parameters: Sequence[object] = ()) -> Any:  # noqa: ANN401 pg8000's context
        """Run a statement; it is prepared if it has parameters.

        Its text has them as `$1`. Where the server no longer knows it as it was
        prepared, it is prepared again.
        """
        try:
            if not self.autocommit and not self._is_in_transaction:
                self._connection.execute_simple("BEGIN")
            if not parameters:
                return self._connection.execute_simple(sql)
            try:
                return self._run_prepared(sql, parameters)
            except pg8000.dbapi.DatabaseError as error:
                if self._is_in_transaction or not self._has_forgotten(sql, error):
                    raise
                return self._run_prepared(sql, parameters)
        except OSError as error:
            raise pg8000.dbapi.InterfaceError("network error") from error
        finally:
            self._used_at = time.time()

    def _run_prepared(self, sql: str, parameters: Sequence[object]) -> Any:  # noqa: ANN401 pg8000's context
        given = make_params(self.py_types, parameters)
        name = _name(sql)
        if columns := self._columns.get(sql):
            return self._connection.execute_named(name, given, *columns, sql)
        if sql not in self._columns:
            if len(self._columns) >= PREPARED_STATEMENTS:
                self._connection.execute_simple("DEALLOCATE ALL")
                self._columns.clear()
            self._connection.send_PARSE(name, sql)
        # All of it is sent at once, with the statement's first run.
        self._connection.send_DESCRIBE_STATEMENT(name)
        context = self._connection.execute_named(name, given, None, None, sql)
        self._columns[sql] = (context.columns, context.input_funcs)
        return context

    def _has_forgotten(self, sql: str, error: pg8000.dbapi.DatabaseError) -> bool:
        """Return whether `error` is about what was prepared; then that is put right."""
        state = sql_state(error)
        if state == _DUPLICATE_STATEMENT:  # and so of the same text
            self._columns[sql] = None
            return True
        if state == _NO_SUCH_STATEMENT:
            self._columns.pop(sql, None)
            return True
        if is_plan_stale(error):  # a migration changed the result's columns
            del self._columns[sql]
            name = _name(sql).rstrip(b"\0").decode()
            self._connection.execute_simple(f"DEALLOCATE {name}")
            return True
        return False

    def _note_ready(self, data: bytes, context: Any) -> None:  # noqa: ANN401 pg8000's context
        self._is_in_transaction = data != _IDLE
        self._on_ready(data, context)

    def _note_prepared(self, _: bytes, context: Any) -> None:  # noqa: ANN401 pg8000's context
        self._columns[context.statement] = None


class Cursor:
    """A DB-API cursor, as far as SQLAlchemy uses one; holds all rows of its result."""

    arraysize = 1

    def __init__(self, connection: PreparedConnection) -> None:
        self.connection = connection
        self.rowcount = -1
        self.description: list[tuple[Any, ...]] | None = None
        self._rows: Iterator[Any] = iter(())

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement, and note how long it took."""
        name = _said_name(sql) if failpoints.is_armed() or tracing.is_on() else ""
        if name:
            failpoints.reach(f"sql {name} before")
        began, failure = time.perf_counter(), None
        try:
            context = self.connection.run(sql, parameters)
        except BaseException as error:
            failure = sql_state(error) or type(error).__name__
            raise
        finally:
            _note(name, time.perf_counter() - began, failure)
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
        """Return all rows that are left."""
        return list(self._rows)

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def setinputsizes(self, *sizes: object) -> None:
        """Do nothing: the server infers types."""


@functools.cache
def _said_name(sql: str) -> str:
    """Return the name that a statement says in its first line, '' for none."""
    return sql.partition("\n")[0].removeprefix("-- ") if sql.startswith("-- ") else ""


def _note(name: str, seconds: float, failure: str | None) -> None:
    """Note how long a statement took, for the request's log line and its trace.

    Here and not in SQLAlchemy's events, which are dispatched for every statement.
    """
    if noted := logs.current():
        noted.database.append(seconds)
        if name and tracing.is_on():
            told = {"db.system.name": "postgresql", "db.query.summary": name}
            tracing.note(name, tracing.Kind.CLIENT, seconds, told, failure)


@functools.cache
def _name(sql: str) -> bytes:
    """Return the name under which a statement is prepared, as the protocol has it."""
    return b"s" + hashlib.sha256(sql.encode()).hexdigest()[:40].encode() + b"\0"
