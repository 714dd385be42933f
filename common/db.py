"""PostgreSQL: the engine, statements, and what a database error means.

Lives here: `connect()` and `transaction()`, statements by name and their rows. Not
here: SQL, connections (`prepared.py`), how many there are (`pool.py`). Surprise: no
SQLAlchemy. It keeps tables and migrations; loading it takes longer than all else that
a function loads, and its way to run a statement as long as the driver's own.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pg8000.dbapi

from common import failpoints, logs, tracing
from common.endpoints import Database
from common.errors import BusyError, DatabaseUnavailableError, ServiceError
from common.pool import Lent, NoneFreeError, SharingPool
from common.prepared import (
    PreparedConnection,
    open_connection,
    sql_state,
    tls_contexts,
)

POOL_TIMEOUT_SECONDS = 1.0
RECYCLE_SECONDS = 25 * 60

STATEMENTS: dict[str, str] = {}  # every one that was named so far
LOCK_NOT_AVAILABLE = "55P03"
_TOO_MANY_CONNECTIONS = "53300"
# Lock time-out, deadlock, serialization failure, statement time-out.
_BUSY_STATES = (LOCK_NOT_AVAILABLE, "40P01", "40001", "57014")
# Connection trouble, out of resources, shutting down or starting, no such database.
_AWAY_STATES = ("08", "53", "57P", "3D", "28")

# What a server says of a statement it does not like, with its SQLSTATE.
StatementError = pg8000.dbapi.DatabaseError


class Statement:
    """SQL whose parameters are named, as `:name`; `name` is its own, '' for none.

    `text` is as it was written, `sql` as PostgreSQL takes it: `$1` is the first of
    `parameters`.
    """

    def __init__(self, sql: str, name: str = "") -> None:
        self.name = name
        self.text = sql
        places: dict[str, int] = {}

        def number(parameter: re.Match[str]) -> str:
            return f"${places.setdefault(parameter[1], len(places) + 1)}"

        # Neither `::` nor what stands in a word, such as 'HH24:MI'.
        self.sql = re.sub(r"(?<![:\w]):([a-z]\w*)", number, sql)
        self.parameters = tuple(places)


def named(name: str, sql: str) -> Statement:
    """Answer a statement that says its name in its first line.

    The server's own statistics and logs (`pg_stat_statements`, `pg_stat_activity`) then
    show which one they speak of, and tests of crashes know all of them (`STATEMENTS`).
    """
    STATEMENTS[name] = sql
    return Statement(f"-- {name}\n{sql.strip()}", name)


class Rows(Sequence[tuple[Any, ...]]):
    """What a statement answered; `rowcount` is how many rows it answered or changed."""

    def __init__(self, context: Any) -> None:  # noqa: ANN401 pg8000's
        self._rows: list[Any] = context.rows or []
        self._columns: list[Any] = context.columns or []
        self.rowcount: int = context.row_count

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 a sequence's
        return self._rows[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def one(self) -> Sequence[Any]:
        """Answer the only row."""
        [row] = self._rows
        return row  # type: ignore[no-any-return]

    def one_or_none(self) -> Sequence[Any] | None:
        """Answer the only row, None where there is none."""
        return self.one() if self._rows else None

    def value(self) -> Any:  # noqa: ANN401 whatever was selected
        """Answer the only column of the only row."""
        [value] = self.one()
        return value

    def value_or_none(self) -> Any:  # noqa: ANN401 whatever was selected
        """Answer the only column of the only row, None where there is no row."""
        return self.value() if self._rows else None

    def values(self) -> list[Any]:
        """Answer the first column of each row."""
        return [row[0] for row in self._rows]

    def mappings(self) -> list[dict[str, Any]]:
        """Answer each row by the names of its columns."""
        names = [column["name"] for column in self._columns]
        return [dict(zip(names, row, strict=True)) for row in self._rows]


class Connection:
    """A connection that is lent. For one thread."""

    def __init__(self, lent: Lent, pool: SharingPool) -> None:
        self._lent = lent
        self._pool = pool
        self.link = lent.link

    def execute(
        self, statement: Statement, parameters: Mapping[str, Any] | None = None
    ) -> Rows:
        """Run a statement, one round trip; raises StatementError or a link's error."""
        given = parameters or {}
        values = [given[name] for name in statement.parameters]
        if failpoints.is_armed() and statement.name:
            failpoints.reach(f"sql {statement.name} before")
        rows = self._run(
            lambda: self.link.execute_prepared(statement.sql, values), statement.name
        )
        if failpoints.is_armed() and statement.name:
            failpoints.reach(f"sql {statement.name} after")
        return rows

    def command(self, sql: str) -> Rows:
        """Run SQL as it is, such as LISTEN or BEGIN; nothing is prepared."""
        return self._run(lambda: self.link.execute_simple(sql))

    def _run(self, run: Callable[[], Any], name: str = "") -> Rows:
        began, failure = time.perf_counter(), None
        try:
            return Rows(run())
        except StatementError as error:
            failure = sql_state(error)
            raise
        except BaseException as error:  # nobody knows what the link says next
            failure = type(error).__name__
            self._lent.is_broken = True
            raise
        finally:
            if context := logs.current():
                seconds = time.perf_counter() - began
                context.database.append(seconds)
                if name and tracing.is_on():
                    told = {"db.system.name": "postgresql", "db.query.summary": name}
                    tracing.note(name, tracing.Kind.CLIENT, seconds, told, failure)

    def detach(self) -> None:
        """Keep the connection for long: the pool opens another in its place."""
        self._pool.let_go(self._lent)


class Engine:
    """The way to a database: a pool of connections. Belongs to one process."""

    def __init__(
        self,
        pool: SharingPool,
        open_link: Callable[[], PreparedConnection],
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.pool = pool
        # Opens a connection beside the pool, for whoever closes it.
        self.open = open_link
        self._close = close  # what `open_link` keeps between two connections

    def lend(self, patience: float | None = None) -> "_Lending":
        """Lend a connection; what goes wrong is raised as the driver says it."""
        return _Lending(self.pool, patience)

    def dispose(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        self.pool.dispose()
        self._close()


def make_engine(database: Database, pool_size: int = 4) -> Engine:
    """Answer an engine whose pool holds at most `pool_size` connections.

    As few as will do, see `SharingPool`. Connects on first use.
    """
    contexts = tls_contexts(database)

    def open_link() -> PreparedConnection:
        return open_connection(database, contexts)

    return pooled(open_link, pool_size)


def pooled(
    open_link: Callable[[], PreparedConnection],
    pool_size: int,
    close: Callable[[], None] = lambda: None,
) -> Engine:
    """Answer an engine whose connections `open_link` makes; `close` ends it."""
    pool = SharingPool(
        open_link,
        size=pool_size,
        timeout=POOL_TIMEOUT_SECONDS,
        recycle=RECYCLE_SECONDS,
        is_refusal=_is_refusal,
    )
    return Engine(pool, open_link, close)


def _is_refusal(error: Exception) -> bool:
    """Tell whether the server has no connection left, for anybody or for this user."""
    return sql_state(error) == _TOO_MANY_CONNECTIONS


class _Lending:
    """A connection for the length of a block.

    A class, because a read is a block, and three generators would be a tenth of it.
    """

    is_translated = False

    def __init__(self, pool: SharingPool, patience: float | None) -> None:
        self._pool = pool
        self._patience = patience

    def __enter__(self) -> Connection:
        try:
            self._lent = self._pool.take(self._patience)
        except _TROUBLE as error:
            self._translate(error)
            raise
        return Connection(self._lent, self._pool)

    def __exit__(self, _type: object, error: BaseException | None, _: object) -> None:
        self._pool.give_back(self._lent)
        # What else the block does may fail for reasons of its own: a file, a pipe.
        is_ours = self._lent.is_broken or not isinstance(error, OSError)
        if is_ours and isinstance(error, _TROUBLE):
            self._translate(error)

    def _translate(self, error: Exception) -> None:
        """Raise what a caller is told, where there is something to tell."""
        if self.is_translated and (meaning := _meaning(error)):
            raise meaning from error


class _Connecting(_Lending):
    is_translated = True


def connect(engine: Engine, patience: float | None = None) -> _Lending:
    """Lend a connection on which every statement commits by itself.

    Waits `patience` seconds for one, by default `POOL_TIMEOUT_SECONDS`. Raises
    BusyError or DatabaseUnavailableError for what a retry can mend.
    """
    return _Connecting(engine.pool, patience)


@contextlib.contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Lend a connection with a transaction: returning commits, raising rolls back.

    Raises BusyError or DatabaseUnavailableError for what a retry can mend.
    """
    with connect(engine) as connection:
        connection.command("BEGIN")
        yield connection
        failpoints.reach("commit before")
        connection.command("COMMIT")
        failpoints.reach("commit after")


_TROUBLE = (NoneFreeError, pg8000.dbapi.Error, OSError)


def _meaning(error: Exception) -> ServiceError | None:
    """Answer what a caller is told, or None for what is a defect of ours."""
    if isinstance(error, NoneFreeError):  # every connection of the pool is lent
        return BusyError()
    if not isinstance(error, StatementError):  # refused, unresolvable, cut
        return DatabaseUnavailableError()
    state = sql_state(error)
    if state in _BUSY_STATES:
        return BusyError()
    return DatabaseUnavailableError() if state.startswith(_AWAY_STATES) else None


_PING = named("db.ping", "SELECT 1")


def ping(engine: Engine) -> None:
    """Raise BusyError or DatabaseUnavailableError unless the database answers."""
    with connect(engine) as connection:
        connection.execute(_PING)
