"""Sessions on PostgreSQL: how they are opened, over what, and with which settings."""

import contextlib
import io
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
# A server that stopped talking is given up after the longest statement it may run.
READ_TIMEOUT_SECONDS = STATEMENT_TIMEOUT_SECONDS + 5
# An instance that nobody calls may be frozen, and gives nothing back by itself.
IDLE_TIMEOUT_SECONDS = 5 * 60
# Every statement here walks an index, and is written for it, whatever its values are:
# planning it anew for each of them costs more than running it. A planner that knows too
# little of a table, or plans for any values, would rather sort all that a caller owns,
# or read whole what is half empty today and huge tomorrow. What it then thinks costly
# it would compile first, for longer than it runs.
PLANNING = {
    "plan_cache_mode": "force_generic_plan",
    "enable_bitmapscan": "off",
    "enable_incremental_sort": "off",
    "enable_seqscan": "off",
    "jit": "off",
}
_FLUSH = b"H\0\0\0\4"  # of the protocol
_TLS_REQUEST = struct.pack("!ii", 8, 80877103)

TlsContexts = Sequence[ssl.SSLContext | Literal[False]]


def settings() -> dict[str, Any]:
    """Return what pg8000's `connect` is given for a session of ours."""
    return {
        "application_name": "order-service",
        "startup_params": {
            "lock_timeout": f"{LOCK_TIMEOUT_SECONDS}s",
            "statement_timeout": f"{STATEMENT_TIMEOUT_SECONDS}s",
            "idle_in_transaction_session_timeout": f"{READ_TIMEOUT_SECONDS}s",
            "idle_session_timeout": f"{IDLE_TIMEOUT_SECONDS}s",
            "TimeZone": "UTC",
            **PLANNING,
        },
    }


def connect(database: Database, contexts: TlsContexts) -> PreparedConnection:
    """Connect in the first of the ways that works; raise an error of pg8000's."""
    for context in contexts[:-1]:
        with contextlib.suppress(pg8000.dbapi.InterfaceError):
            return _connect(database, context)
    return _connect(database, contexts[-1])


def _connect(
    database: Database, tls: ssl.SSLContext | Literal[False]
) -> PreparedConnection:
    try:
        link = _connect_socket(database)
        if tls:
            link = _encrypt(link, tls, database.host)
    except OSError as error:
        raise pg8000.dbapi.InterfaceError("network error") from error
    return log_in(database, link)


def _connect_socket(database: Database) -> socket.socket:
    """Connect a socket; its time-out is that of the login. Raise OSError."""
    if database.socket is None:
        address = (database.host, database.port)
        link = socket.create_connection(address, CONNECT_TIMEOUT_SECONDS)
        # Without it a request that fills two segments waits for a delayed ACK.
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return link
    link = socket.socket(socket.AF_UNIX)
    try:
        link.settimeout(CONNECT_TIMEOUT_SECONDS)
        link.connect(database.socket)
    except OSError:
        link.close()
        raise
    return link


def _encrypt(link: socket.socket, context: ssl.SSLContext, host: str) -> socket.socket:
    with contextlib.ExitStack() as undo:
        undo.enter_context(link)
        link.sendall(_TLS_REQUEST)
        if link.recv(1) != b"S":
            raise OSError("the server speaks no TLS")
        encrypted = context.wrap_socket(link, server_hostname=host)
        undo.pop_all()
    return encrypted


def log_in(login: Database | CloudSql, link: socket.socket) -> PreparedConnection:
    """Log in over a connected socket, which is closed if that fails.

    Its time-out bounds the login. Raise an error of pg8000's.
    """
    with contextlib.ExitStack() as undo:
        undo.enter_context(link)
        try:
            connection = pg8000.dbapi.connect(
                login.user,
                database=login.name,
                password=login.password or "",
                sock=link if isinstance(link, ssl.SSLSocket) else _Unflushed(link),
                ssl_context=False,
                **settings(),
            )
            link.settimeout(READ_TIMEOUT_SECONDS)
        except OSError as error:
            raise pg8000.dbapi.InterfaceError("network error") from error
        undo.pop_all()
    return PreparedConnection(connection, link)


class _Unflushed:
    """A socket as pg8000 takes one, past which no request to flush gets.

    pg8000 asks the server for what it has after each step of a statement, though it
    reads only after the last one: three packets and three wake-ups in place of one.
    """

    def __init__(self, link: socket.socket) -> None:
        self.close = link.close
        self._link = link

    def makefile(self, mode: Literal["rwb"]) -> io.BufferedRWPair:
        """Return the file that pg8000 reads and writes."""
        raw = self._link.makefile(mode, buffering=0)
        return _UnflushedFile(raw, raw)


class _UnflushedFile(io.BufferedRWPair):
    def write(self, data: "ReadableBuffer") -> int:
        return 0 if data == _FLUSH else super().write(data)


def tls_contexts(database: Database) -> TlsContexts:
    """Return what to try in turn; one context is shared, each costs 98 ms to make."""
    local = database.host in ("localhost", "127.0.0.1", "::1")
    if database.sslmode == "disable" or (database.sslmode == "prefer" and local):
        return [False]
    context = ssl.create_default_context()
    if database.sslmode == "verify-full":
        return [context]
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return [context] if database.sslmode == "require" else [context, False]
