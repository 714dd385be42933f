"""PostgreSQL for tests: a server, a migrated template, and a clone for each test.

A clone copies about 300 files, so the server's folder is in memory if there is room.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import pg8000.native
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from common.database import tables
from infra.local.postgres import postgres_server
from infra.local.postgres_binaries import remove_elsewhere

# Linux's file system in memory. A server of a test run takes 0.3 GB, each process one.
MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 * 1024**3


@contextmanager
def server() -> Iterator[str]:
    """Yield the URL of a server: TEST_DATABASE_URL, else one started for this run."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        with _administered(url):
            yield url
        return
    with (
        scratch_folder(memory()) as folder,
        postgres_server(folder, durable=False) as url,
        _administered(url),
    ):
        yield url


# Of a server that many tests share: connections that make and drop its databases.
_administrators: dict[str, pg8000.native.Connection] = {}


@contextmanager
def _administered(url: str) -> Iterator[None]:
    with closing(connect(url)) as _administrators[url]:
        yield
    del _administrators[url]


def _administer(server_url: str, statement: str) -> None:
    if administrator := _administrators.get(server_url):
        administrator.run(statement)
    else:
        execute(server_url, statement)


def memory() -> Path | None:
    """Return a folder in memory, where there is one with room."""
    has_room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM_BYTES
    return MEMORY if has_room and os.access(MEMORY, os.W_OK) else None


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new folder, which the user that runs PostgreSQL can pass.

    pytest's own tmp_path cannot be passed by anybody else, and root is somebody else.
    """
    with tempfile.TemporaryDirectory(prefix="order-service-test-", dir=parent) as name:
        folder = Path(name)
        if os.geteuid() == 0:
            folder.chmod(0o711)
        try:
            yield folder
        finally:
            remove_elsewhere(folder)  # what a server left behind that was killed


@contextmanager
def database(server_url: str, *, template: str | None = None) -> Iterator[str]:
    """Yield the URL of a new database, which is dropped afterwards, used or not."""
    name = f"test_{uuid.uuid4().hex}"
    clone = f' TEMPLATE "{_name(template)}"' if template else ""
    if not os.environ.get("TEST_DATABASE_URL"):
        # Past the log, between two checkpoints: dear only where they reach a disk.
        clone += " STRATEGY file_copy"
    _administer(server_url, f'CREATE DATABASE "{name}"{clone}')
    try:
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    finally:
        _administer(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')


def _name(url: str) -> str:
    return unquote(urlsplit(url).path.lstrip("/"))


def connect(url: str) -> pg8000.native.Connection:
    """Open a plain connection, in autocommit."""
    parts = urlsplit(url)
    return pg8000.native.Connection(
        unquote(parts.username or "postgres"),
        password=unquote(parts.password) if parts.password else None,
        host=parts.hostname,
        port=parts.port or 5432,
        database=_name(url) or "postgres",
        ssl_context=False,
    )


def execute(url: str, statement: str) -> list[list[object]]:
    """Run one statement on a connection of its own, and answer its rows."""
    with closing(connect(url)) as connection:
        rows: list[list[object]] = connection.run(statement) or []
        return rows


@contextmanager
def plain_engine(url: str) -> Iterator[sqlalchemy.Engine]:
    """Yield an engine with nothing of ours in it, as migrations and checks use."""
    target = sqlalchemy.make_url(url).set(drivername="postgresql+pg8000")
    engine = sqlalchemy.create_engine(target, poolclass=sqlalchemy.NullPool)
    try:
        yield engine
    finally:
        engine.dispose()


def differences(engine: sqlalchemy.Engine) -> list[object]:
    """Return how a database differs from `tables.py`; empty when it does not."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        return list(compare_metadata(context, tables.orders.metadata))
