"""Cloud SQL: connections to an instance by its name, through Google's connector.

Lives here: the one connector of a process, and the dial. Not here: settings
(`endpoints.py`), what is said on a connection (`prepared.py`), what errors mean
(`cloud_sql_errors.py`). Surprise: the connector asks for addresses, certificates and
tokens, and says whom to believe; but we dial. It would do so on the loop that all its
work shares, without a time-out: one mute server would end all connecting for good.
"""

import asyncio
import atexit
import contextlib
import socket
import ssl
import threading
import time
from dataclasses import dataclass, replace

import pg8000.dbapi
from google.cloud.sql.connector import Connector
from google.cloud.sql.connector.client import CloudSQLClient
from google.cloud.sql.connector.connector import SERVER_PROXY_PORT
from google.cloud.sql.connector.enums import DriverMapping
from google.cloud.sql.connector.resolver import DefaultResolver
from google.cloud.sql.connector.utils import format_database_user, generate_keys
from sqlalchemy import event

from common import logs, sessions
from common.cloud_sql_errors import CloudSqlError, asking, dialling, logging_in
from common.db import Engine, engine_by
from common.endpoints import CloudSql
from common.prepared import PreparedConnection
from common.sessions import log_in

# An answer of the API that is younger is not asked for again, however the dial ends.
FRESH_SECONDS = 30
# Nor is the API asked at once where it has just failed: it counts who asks.
PAUSE_SECONDS = 1.0
CLOSE_SECONDS = 3
SAME_REASON_SECONDS = 10  # so long a reason is not logged again
_DRIVER = "pg8000"

log = logs.get("cloud_sql")


@dataclass(frozen=True)
class Way:
    """What to dial, whom to believe there, and as whom to log in."""

    addresses: list[str]
    context: ssl.SSLContext
    user: str
    asked_at: float


class _Connector(Connector):
    """Google's, which also tells the way instead of going it."""

    def __init__(self, database: CloudSql) -> None:
        loop = asyncio.new_event_loop()
        try:
            super().__init__(
                ip_type=database.ip_type,
                enable_iam_auth=database.has_iam_login,
                refresh_strategy="lazy",  # a frozen instance does nothing by itself
                sqladmin_api_endpoint=database.api_endpoint,
                loop=loop,
            )
        except BaseException:  # such as for want of credentials
            loop.close()
            raise
        self._database = database
        self._known: Way | None = None
        # What matters is raised to who asked; this would log what nobody waits for.
        loop.set_exception_handler(lambda *_: None)
        self._runner = threading.Thread(
            target=_run, args=[loop], name="cloud-sql", daemon=True
        )
        self._runner.start()
        # Also keeps it whole in a fork: it would take the parent's links down with it.
        atexit.register(self.close)

    def ask(self, deadline: float) -> Way:
        """Answer the way, from the API only where its last answer has run out.

        Raises whatever the connector does, and TimeoutError at `deadline`.
        """
        asked = asyncio.run_coroutine_threadsafe(self._way(deadline), self._loop)
        # The loop ends it in time, unless it is held up by what cannot be awaited.
        return asked.result(max(0.0, deadline - time.monotonic()) + 0.1)

    def close(self) -> None:
        """End its thread, and close what it has open; in the process that made it.

        The thread ends later where it waits for a token, and with the process at last.
        """
        if self._runner.is_alive():
            atexit.unregister(self.close)
            asyncio.run_coroutine_threadsafe(self._end(), self._loop)
            self._runner.join(CLOSE_SECONDS)

    async def _end(self) -> None:
        try:
            await self.close_async()
            await self._loop.shutdown_default_executor()
        finally:
            self._loop.stop()

    async def _way(self, deadline: float) -> Way:
        await self._prepare()
        # Not at all where whoever wanted it has gone: the loop may have been held up.
        async with asyncio.timeout(_left(deadline)):
            name = await DefaultResolver().resolve(self._database.instance)
            cache = self._get_or_create_cache(name, self._enable_iam_auth)
            try:
                info = await cache.connect_info()
                DriverMapping.validate_engine(_DRIVER, info.database_version)
                addresses = info.get_preferred_ips(self._ip_type)
                context = await info.create_ssl_context(self._enable_iam_auth)
            except Exception:
                await cache.force_refresh()
                raise
        known = self._known
        if known is None or known.context is not context:
            user = self._database.user
            if self._enable_iam_auth:
                user = format_database_user(info.database_version, user)
            known = self._known = Way(addresses, context, user, time.monotonic())
        return known

    async def _prepare(self) -> None:
        """Make what `connect_async` makes before it asks, and as it does."""
        if self._keys is None:
            self._keys = asyncio.create_task(generate_keys())
        await self._keys  # all connecting is over if this is cancelled, so it is not
        if self._client is None:
            self._client = CloudSQLClient(
                self._sqladmin_api_endpoint,
                self._quota_project,
                self._credentials,
                driver=_DRIVER,
            )
        if self._resolver is None:
            self._resolver = DefaultResolver()

    def forget(self) -> None:
        """Have the API asked again: what it said may no longer hold."""
        for cache in list(self._cache.values()):
            asyncio.run_coroutine_threadsafe(cache.force_refresh(), self._loop)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


class Instance:
    """The way to the database of an instance. Safe to share between threads.

    Holds one connector, made at the first connection. Belongs to one process.
    """

    def __init__(self, database: CloudSql) -> None:
        self._database = database
        self._connector: _Connector | None = None
        self._lock = threading.Lock()
        self._pause: tuple[float, str] = (0.0, "")  # until when, and why
        self._logged: tuple[float, str] = (0.0, "")

    def open(self) -> PreparedConnection:
        """Connect, within `CONNECT_TIMEOUT_SECONDS`.

        Raises CloudSqlError, whose reason has been logged, or what else the server
        answers, such as that it has no connection left.
        """
        deadline = time.monotonic() + sessions.CONNECT_TIMEOUT_SECONDS
        try:
            connector, way = self._ask(deadline)
            try:
                return self._dial(way, deadline)
            except Exception:
                if time.monotonic() - way.asked_at > FRESH_SECONDS:
                    connector.forget()
                raise
        except CloudSqlError as error:
            self._log(str(error))
            raise

    def close(self) -> None:
        """Close the connector, if there is one; `open` makes another."""
        with self._lock:
            connector, self._connector = self._connector, None
        if connector is not None:
            connector.close()

    def _ask(self, deadline: float) -> tuple[_Connector, Way]:
        until, reason = self._pause
        if time.monotonic() < until:
            raise CloudSqlError(reason)
        try:
            with self._lock:
                if self._connector is None:
                    self._connector = _Connector(self._database)
                connector = self._connector
            return connector, connector.ask(deadline)
        except Exception as error:  # noqa: BLE001 it raises what its many parts do
            reason = asking(error, self._database)
            self._pause = (time.monotonic() + PAUSE_SECONDS, reason)
            raise CloudSqlError(reason) from None  # its request holds a token

    def _dial(self, way: Way, deadline: float) -> PreparedConnection:
        failures = []
        for address in way.addresses:
            try:
                return self._connect(way, address, deadline)
            except pg8000.dbapi.DatabaseError as error:
                if reason := logging_in(error, self._database):
                    raise CloudSqlError(reason) from error
                raise
            except (OSError, pg8000.dbapi.InterfaceError) as error:
                failures.append(dialling(error, address, self._database))
        raise CloudSqlError("; ".join(failures))

    def _connect(self, way: Way, address: str, deadline: float) -> PreparedConnection:
        with contextlib.ExitStack() as undo:
            plain = socket.create_connection(
                (address, SERVER_PROXY_PORT), _left(deadline)
            )
            undo.enter_context(plain)
            plain.settimeout(_left(deadline))
            link = way.context.wrap_socket(plain, server_hostname=address)
            undo.enter_context(link)
            link.settimeout(_left(deadline))
            login = replace(self._database, user=way.user)
            opened = log_in(login, link)
            undo.pop_all()
            return opened

    def _log(self, reason: str) -> None:
        now = time.monotonic()
        logged_at, logged = self._logged
        if reason != logged or now - logged_at > SAME_REASON_SECONDS:
            self._logged = (now, reason)
            fields = {"instance": self._database.instance, "reason": reason}
            log.warning("Cloud SQL cannot be reached", extra={"fields": fields})


def make_engine(database: CloudSql, pool_size: int = 4) -> Engine:
    """Answer an engine whose pool holds at most `pool_size` connections.

    Neither it nor its connector does anything before the first use.
    """
    instance = Instance(database)
    engine = engine_by(instance.open, pool_size)
    event.listen(engine, "engine_disposed", lambda _: instance.close())
    return engine


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
