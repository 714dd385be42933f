"""Hearing a NOTIFY: one connection that waits, beside the pool.

Lives here: LISTEN, and waiting for a word with a bound. Not here: who notifies, and
what for (`outbox.py`). Surprise: what was told while nobody waited is not lost and not
kept, either: whoever waits first looks for work, and only then waits again.
"""

import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from common.db import Connection, Engine, connect, named

_HEAR = named("listening.hear", "SELECT 1")


class Listener:
    """A connection that listens. For one thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._link: Any = connection.link

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`; tell whether somebody notified.

        Raises DatabaseUnavailableError, out of `listening`, when the link has ended.
        """
        spoken = select.poll()  # not select(): it takes no descriptor beyond 1023
        spoken.register(self._link._usock, select.POLLIN)  # noqa: SLF001 pg8000 has no public way
        if not spoken.poll(1000 * seconds):
            return False
        # What came is read with the answer to the next statement.
        self._connection.execute(_HEAR)
        told = bool(self._link.notifications)
        self._link.notifications.clear()
        return told


@contextmanager
def listening(engine: Engine, channel: str) -> Iterator[Listener]:
    """Listen on `channel`, a plain word, while the block runs.

    Raises BusyError or DatabaseUnavailableError, also out of the block.
    """
    with connect(engine) as connection:
        connection.detach()  # ours for long: the pool opens another in its place
        connection.command("SET idle_session_timeout = 0")
        connection.command(f"LISTEN {channel}")
        yield Listener(connection)
