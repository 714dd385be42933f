"""Connections to a Cloud SQL instance by its name, through Google's connector.

Imported only if the instance has no Unix socket here, as it costs half a second. The
connector opens the sockets itself, without our socket options: see
`docs/operations.md`.
"""

import asyncio
import atexit
import socket
import ssl
import threading
import time

import pg8000.dbapi
from google.auth.exceptions import (
    DefaultCredentialsError,
    GoogleAuthError,
    RefreshError,
)
from google.cloud.sql.connector import Connector
from google.cloud.sql.connector.exceptions import (
    CloudSQLIPTypeError,
    IncompatibleDriverError,
)
from sqlalchemy import event

from common.config.endpoints import CloudSql
from common.database import sessions
from common.database.engine import Engine, engine_by
from common.database.prepared import PreparedConnection
from common.database.sqlstates import sql_state
from common.telemetry import logs

# After a failure the connector calls the Admin API again, which has quotas.
PAUSE_SECONDS = 1.0
CLOSE_SECONDS = 3
SAME_REASON_SECONDS = 10  # during which a reason is not logged again

log = logs.get("cloud_sql")

_REFUSALS = {  # by the Admin API
    403: ": enable sqladmin.googleapis.com, and give the service account"
    " roles/cloudsql.client, for IAM logins also roles/cloudsql.instanceUser",
    404: ": check CLOUD_SQL_CONNECTION_NAME",
}
_LOGINS = {  # logins that the server refuses, by SQLSTATE
    "3D": "the instance has no database {name}: check POSTGRES_DB",
    "28": "the instance refuses {user}: check POSTGRES_USER and POSTGRES_PASSWORD;"
    " by IAM it must be the user of the account that this runs as",
}
# The first match counts.
_REASONS: dict[type[Exception], str] = {
    DefaultCredentialsError: "there are no Google credentials: run as a service"
    " account, or set GOOGLE_APPLICATION_CREDENTIALS to its key's file",
    RefreshError: "Google gives no token: check that the service account and its key"
    " exist and are not disabled",
    GoogleAuthError: "Google cannot be reached for a token",
    CloudSQLIPTypeError: "the instance has no {ip_type} address: give it one, or set"
    " CLOUD_SQL_IP_TYPE to one it has",
    IncompatibleDriverError: "the instance is not PostgreSQL",
    ssl.SSLCertVerificationError: "who answers is not the instance: its certificate"
    " is not by the instance's authority",
    ValueError: "the instance is in another region: check CLOUD_SQL_CONNECTION_NAME",
    OSError: "the Cloud SQL Admin API or the instance cannot be reached ({error}): it"
    " must run, and its {ip_type} address must be within reach of this network",
    pg8000.dbapi.InterfaceError: "the instance hung up before the login was done",
    Exception: "the connector failed ({error})",
}


class CloudSqlError(pg8000.dbapi.InterfaceError):  # type: ignore[misc]
    """No connection could be made; the message says why and what to do, no secret."""


def _reason(error: Exception, database: CloudSql) -> str | None:
    """Return what an operator has to know, None if the server's error is enough.

    Never include the text of an error: it may come from a request with a token.
    """
    status = getattr(error, "status", None)  # of an HTTP error of aiohttp's
    if isinstance(error, pg8000.dbapi.DatabaseError):
        state = sql_state(error)
        known = [text for start, text in _LOGINS.items() if state.startswith(start)]
        if not known:
            return None
    elif status is not None:
        remedy = _REFUSALS.get(status, "")
        known = [f"the Cloud SQL Admin API answers {status}{remedy}"]
    else:
        known = [text for kind, text in _REASONS.items() if isinstance(error, kind)]
    return known[0].format(
        name=database.name,
        user=database.user,
        ip_type=database.ip_type,
        error=type(error).__name__,
    )


class _Running:
    """A connector and its event loop, in one process."""

    def __init__(self, database: CloudSql) -> None:
        self.loop = asyncio.new_event_loop()
        # Callers get their errors; the default handler would log all others, too.
        self.loop.set_exception_handler(lambda *_: None)
        try:
            self.connector = Connector(
                ip_type=database.ip_type,
                enable_iam_auth=database.has_iam_login,
                refresh_strategy="lazy",  # a frozen instance cannot refresh by itself
                sqladmin_api_endpoint=database.api_endpoint,
                loop=self.loop,
            )
        except BaseException:  # such as missing credentials
            self.loop.close()
            raise
        self._thread = threading.Thread(target=self._run, name="cloud-sql", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def end(self) -> None:
        """End soon, without waiting."""
        atexit.unregister(self.close)
        asyncio.run_coroutine_threadsafe(self._end(), self.loop)

    def close(self) -> None:
        """End and wait; do nothing in a fork, which has no such thread."""
        if self._thread.is_alive():
            self.end()
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        self.loop.run_forever()
        self.loop.close()

    async def _end(self) -> None:
        try:
            await self.connector.close_async()
        finally:
            self.loop.stop()


class Instance:
    """Opens connections to an instance with one connector, made on first use.

    Thread-safe; belongs to one process.
    """

    def __init__(self, database: CloudSql) -> None:
        self._database = database
        self._running: _Running | None = None
        self._lock = threading.Lock()
        self._failure: tuple[float, str] = (0.0, "")  # the last one: when, and why
        self._logged: tuple[float, str] = (0.0, "")

    def open(self, application: str) -> PreparedConnection:
        """Connect within `CONNECT_TIMEOUT_SECONDS`.

        Raise CloudSqlError, whose reason has been logged, or the server's own error,
        for example that it has no connection left.
        """
        failed_at, failure = self._failure
        if failure and time.monotonic() - failed_at < PAUSE_SECONDS:
            raise CloudSqlError(failure)
        try:
            return PreparedConnection(self._connect(application))
        except Exception as error:
            reason = _reason(error, self._database)
            if reason is None:
                raise
            self._failure = (time.monotonic(), reason)
            self._log(reason)
            raise CloudSqlError(reason) from None  # the cause may hold a token

    def close(self) -> None:
        """Close the connector, if there is one; `open` makes another."""
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            running.close()

    def _connect(self, application: str) -> pg8000.dbapi.Connection:
        with self._lock:
            if self._running is None:
                # The connector's sockets have no other timeout. It connects on its
                # loop, which a single silent server would block for ever.
                socket.setdefaulttimeout(sessions.READ_TIMEOUT_SECONDS)
                self._running = _Running(self._database)
            running = self._running
        database = self._database
        connecting = asyncio.run_coroutine_threadsafe(
            running.connector.connect_async(
                database.instance,
                "pg8000",
                user=database.user,
                db=database.name,
                password=database.password,
                ssl_context=False,  # the socket has TLS already
                **sessions.settings(application),
            ),
            running.loop,
        )
        try:
            return connecting.result(sessions.CONNECT_TIMEOUT_SECONDS)
        except TimeoutError:
            connecting.cancel()
            self._abandon(running)
            raise

    def _abandon(self, running: _Running) -> None:
        """Let the next call make a connector: this one's loop may stay blocked."""
        with self._lock:
            if self._running is running:
                self._running = None
        running.end()

    def _log(self, reason: str) -> None:
        now = time.monotonic()
        logged_at, logged = self._logged
        if reason != logged or now - logged_at > SAME_REASON_SECONDS:
            self._logged = (now, reason)
            fields = {"instance": self._database.instance, "reason": reason}
            log.warning("Cloud SQL cannot be reached", extra={"fields": fields})


def make_engine(database: CloudSql, pool_size: int = 4) -> Engine:
    """Return an engine whose pool holds at most `pool_size` connections.

    Connects on first use.
    """
    instance = Instance(database)
    engine = engine_by(instance.open, pool_size)
    event.listen(engine, "engine_disposed", lambda _: instance.close())
    return engine
