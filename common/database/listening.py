"""Hearing a NOTIFY: one connection that waits, beside the pool.

What was notified while nobody waited is not kept: look for work first, then wait.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from common.database.engine import Connection, Engine, connect, named, session_of
from common.sockets import is_readable

_HEAR = named("listening.hear", "SELECT 1")


class Listener:
    """A connection that listens. For one thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._session = session_of(connection)

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`; tell whether somebody notified.

        Raise DatabaseUnavailableError, out of `listening`, when the link has ended.
        """
        if self._session.link is None:
            time.sleep(seconds)
        elif not is_readable(self._session.link, seconds):
            return False
        # What came is read with the answer to the next statement.
        self._connection.execute(_HEAR)
        has_notified = bool(self._session.notifications)
        self._session.notifications.clear()
        return has_notified


@contextmanager
def listening(engine: Engine, channel: str) -> Iterator[Listener]:
    """Listen on `channel`, a plain word, while the block runs.

    Raise BusyError or DatabaseUnavailableError, also out of the block.
    """
    with connect(engine) as connection:
        connection.detach()  # ours for long: the pool opens another in its place
        connection.exec_driver_sql("SET idle_session_timeout = 0")
        connection.exec_driver_sql(f"LISTEN {channel}")
        yield Listener(connection)
