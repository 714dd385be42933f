"""Sessions on PostgreSQL: connecting, TLS, login and settings."""

import contextlib
import io
import os
import socket
import ssl
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import pg8000.dbapi

from common.config.endpoints import CloudSql, Database
from common.database.prepared import PreparedConnection

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CONNECT_TIMEOUT_SECONDS = 5
LOCK_TIMEOUT_SECONDS = 2
STATEMENT_TIMEOUT_SECONDS = 10
# Longer than any statement may run: then the server is considered gone.
READ_TIMEOUT_SECONDS = STATEMENT_TIMEOUT_SECONDS + 5
# An idle instance may be frozen, and cannot close its connections itself.
IDLE_TIMEOUT_SECONDS = 5 * 60
# Every statement here is written for an index scan, whatever its parameters are, and
# planning it anew each time would cost more than running it. With poor statistics or a
# generic plan, the planner would rather sort all rows of a user, or scan a table that
# is small today and huge tomorrow, and then spend more time on JIT compilation than on
# the query itself; or have several processes read what an index would spare.
PLANNING = {
    "plan_cache_mode": "force_generic_plan",
    "enable_bitmapscan": "off",
    "enable_incremental_sort": "off",
    "enable_seqscan": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
}
# What statements, and values read and written, mean. A server, a database or a role may
# have other defaults. The schema is where PostgreSQL looks by itself.
MEANING = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "array_nulls": "on",
    "bytea_output": "hex",
    "client_encoding": "UTF8",
    "default_transaction_isolation": "read committed",
    "extra_float_digits": "1",
    "quote_all_identifiers": "off",
    "search_path": '"$user", public',
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
}
APPLICATION = "order-service"
_FLUSH = b"H\0\0\0\4"  # of the protocol
_TLS_REQUEST = struct.pack("!ii", 8, 80877103)

TlsContexts = Sequence[ssl.SSLContext | Literal[False]]


def application_name(pool_size: int) -> str:
    """Return a new name for a process's connections, of which it may open so many.

    So who looks at the server's sessions knows what they may grow to.
    """
    return f"{APPLICATION}/{pool_size} {os.urandom(4).hex()}"


def settings(application: str) -> dict[str, Any]:
    """Return the arguments of pg8000's `connect` for all sessions."""
    return {
        "application_name": application,
        "startup_params": {
            "lock_timeout": f"{LOCK_TIMEOUT_SECONDS}s",
            "statement_timeout": f"{STATEMENT_TIMEOUT_SECONDS}s",
            "idle_in_transaction_session_timeout": f"{READ_TIMEOUT_SECONDS}s",
            "idle_session_timeout": f"{IDLE_TIMEOUT_SECONDS}s",
            **MEANING,
            **PLANNING,
        },
    }


def connect(
    database: Database, contexts: TlsContexts, application: str
) -> PreparedConnection:
    """Connect with the first context that works; raise an error of pg8000's."""
    for context in contexts[:-1]:
        with contextlib.suppress(pg8000.dbapi.InterfaceError):
            return _connect(database, context, application)
    return _connect(database, contexts[-1], application)


def _connect(
    database: Database, tls: ssl.SSLContext | Literal[False], application: str
) -> PreparedConnection:
    try:
        sock = _connect_socket(database)
        if tls:
            sock = _encrypt(sock, tls, database.host)
    except OSError as error:
        raise pg8000.dbapi.InterfaceError("network error") from error
    return log_in(database, sock, application)


def _connect_socket(database: Database) -> socket.socket:
    """Connect a socket, with the login's timeout; raise OSError."""
    if database.socket is None:
        address = (database.host, database.port)
        sock = socket.create_connection(address, CONNECT_TIMEOUT_SECONDS)
        # Without it a request that fills two segments waits for a delayed ACK.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return sock
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(CONNECT_TIMEOUT_SECONDS)
        sock.connect(database.socket)
    except OSError:
        sock.close()
        raise
    return sock


def _encrypt(sock: socket.socket, context: ssl.SSLContext, host: str) -> socket.socket:
    with contextlib.ExitStack() as undo:
        undo.enter_context(sock)
        sock.sendall(_TLS_REQUEST)
        if sock.recv(1) != b"S":
            raise OSError("the server does not support TLS")
        encrypted = context.wrap_socket(sock, server_hostname=host)
        undo.pop_all()
    return encrypted


def log_in(
    login: Database | CloudSql, sock: socket.socket, application: str
) -> PreparedConnection:
    """Log in over a connected socket, which is closed if that fails.

    The socket's timeout applies to the login. Raise an error of pg8000's.
    """
    with contextlib.ExitStack() as undo:
        undo.enter_context(sock)
        try:
            connection = pg8000.dbapi.connect(
                login.user,
                database=login.name,
                password=login.password or "",
                sock=sock if isinstance(sock, ssl.SSLSocket) else _Unflushed(sock),
                ssl_context=False,
                **settings(application),
            )
            sock.settimeout(READ_TIMEOUT_SECONDS)
        except OSError as error:
            raise pg8000.dbapi.InterfaceError("network error") from error
        undo.pop_all()
    return PreparedConnection(connection, sock)


class _Unflushed:
    """A socket that drops pg8000's Flush messages.

    pg8000 sends one after each step of a statement, although it reads only after the
    last step: three packets and three wake-ups instead of one.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.close = sock.close
        self._sock = sock

    def makefile(self, mode: Literal["rwb"]) -> io.BufferedRWPair:
        """Return the file that pg8000 reads and writes."""
        raw = self._sock.makefile(mode, buffering=0)
        return _UnflushedFile(raw, raw)


class _UnflushedFile(io.BufferedRWPair):
    def write(self, data: "ReadableBuffer") -> int:
        return 0 if data == _FLUSH else super().write(data)


def tls_contexts(database: Database) -> TlsContexts:
    """Return the contexts to try in turn, to be shared: each takes 98 ms to make."""
    is_local = database.host in ("localhost", "127.0.0.1", "::1")
    if database.sslmode == "disable" or (database.sslmode == "prefer" and is_local):
        return [False]
    context = ssl.create_default_context()
    if database.sslmode == "verify-full":
        return [context]
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return [context] if database.sslmode == "require" else [context, False]
