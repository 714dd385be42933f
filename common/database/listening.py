"""LISTEN: a connection outside the pool that waits for NOTIFY.

Notifications sent before it listens are lost, so look for work first, then wait.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from common.database.engine import Connection, Engine, connect, named, session_of
from common.sockets import is_readable


class Listener:
    """A connection that listens, for one thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._session = session_of(connection)

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`; return whether a notification arrived.

        Raise DatabaseUnavailableError if the connection is lost.
        """
        if self._session.socket is None:
            time.sleep(seconds)
        elif not is_readable(self._session.socket, seconds):
            return False
        # pg8000 reads notifications only along with a statement's result.
        self._connection.execute(_HEAR)
        is_notified = bool(self._session.notifications)
        self._session.notifications.clear()
        return is_notified


_HEAR = named("listening.hear", "SELECT 1")


@contextmanager
def listening(engine: Engine, channel: str) -> Iterator[Listener]:
    """Listen on `channel`, a plain SQL identifier, while the block runs.

    Raise BusyError or DatabaseUnavailableError, also from within the block.
    """
    with connect(engine) as connection:
        connection.detach()  # kept for long, so the pool opens another in its place
        connection.exec_driver_sql("SET idle_session_timeout = 0")
        connection.exec_driver_sql(f"LISTEN {channel}")
        yield Listener(connection)
