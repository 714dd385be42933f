"""A connection to PostgreSQL on which each statement is one round trip.

Lives here: prepared statements over pg8000, time-outs, TLS. Not here: which connection
to take (`pool.py`), SQL and what an error means (`db.py`). Surprise: it is still a
DB-API connection, which the pool and migrations take it for; the service itself uses
none of that but `rollback` and `close`.
"""

import contextlib
import socket
import ssl
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal

import pg8000.dbapi
from pg8000.converters import make_params

from common import failpoints
from common.endpoints import CloudSql, Database
from common.links import has_hung_up

CONNECT_TIMEOUT_SECONDS = 5
LOCK_TIMEOUT_SECONDS = 2
STATEMENT_TIMEOUT_SECONDS = 10
# A server that stopped talking is given up after the longest statement it may run.
READ_TIMEOUT_SECONDS = STATEMENT_TIMEOUT_SECONDS + 5
# An instance that nobody calls may be frozen, and gives nothing back by itself.
IDLE_TIMEOUT_SECONDS = 5 * 60
PREPARED_STATEMENTS = 200
# Every statement here walks an index, and is written for it. A planner that knows too
# little of a table, or plans for any values, would rather sort all that a caller owns,
# or read whole what is half empty today and huge tomorrow. What it then thinks costly
# it would compile first, for longer than it runs.
PLANNING = {
    "enable_bitmapscan": "off",
    "enable_incremental_sort": "off",
    "enable_seqscan": "off",
    "jit": "off",
}
_PLAN_CHANGED = "0A000"


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

    def is_link_closed(self) -> bool:
        """Tell whether the server has hung up on this idle connection (2 µs)."""
        return self._usock is None or has_hung_up(self._usock)


def sql_state(error: BaseException | None) -> str:
    """Answer the five-character SQLSTATE of a driver's error, '' where it has none."""
    return _detail(error, "C")


def violated_constraint(error: BaseException) -> str:
    """Answer the name of the constraint that `error` is about, or ''."""
    return _detail(error, "n")


def error_context(error: BaseException) -> str:
    """Return what the server was doing when it failed, or ''."""
    return _detail(error, "W")


def _detail(error: BaseException | None, key: str) -> str:
    details = error.args[0] if error is not None and error.args else None
    return str(details.get(key, "")) if isinstance(details, dict) else ""


def open_connection(database: Database, contexts: "TlsContexts") -> PreparedConnection:
    """Connect in the first of the ways that works; raises a driver's error."""
    for context in contexts[:-1]:
        with contextlib.suppress(pg8000.dbapi.InterfaceError):
            return _open(database, context)
    return _open(database, contexts[-1])


def _open(
    database: Database, tls: ssl.SSLContext | Literal[False]
) -> PreparedConnection:
    return start_session(
        database,
        host=database.host,
        port=database.port,
        ssl_context=tls,
        timeout=CONNECT_TIMEOUT_SECONDS,
    )


def start_session(login: Database | CloudSql, **way: Any) -> PreparedConnection:  # noqa: ANN401 pg8000's own
    """Log in by this `way`, an address or a socket; raises a driver's error."""
    try:
        return PreparedConnection(
            login.user,
            database=login.name,
            password=login.password,
            application_name="order-service",
            startup_params={
                "lock_timeout": f"{LOCK_TIMEOUT_SECONDS}s",
                "statement_timeout": f"{STATEMENT_TIMEOUT_SECONDS}s",
                "idle_in_transaction_session_timeout": f"{READ_TIMEOUT_SECONDS}s",
                "idle_session_timeout": f"{IDLE_TIMEOUT_SECONDS}s",
                "TimeZone": "UTC",
                **PLANNING,
            },
            **way,
        )
    except OSError as error:
        raise pg8000.dbapi.InterfaceError("network error") from error


TlsContexts = Sequence[ssl.SSLContext | Literal[False]]


def tls_contexts(database: Database) -> TlsContexts:
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
