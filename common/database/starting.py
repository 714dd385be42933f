"""Whether a new process may get requests: once the database has answered.

A new instance's way into the network can take a minute.
"""

import threading
import time

from common.database import sqlstates
from common.database.engine import Engine, connect
from common.errors import BusyError, DatabaseUnavailableError

# From then on requests are told that the database is unavailable.
LONGEST_START_SECONDS = 45.0


class Start:
    """The start of one process, which ends once and for good. Thread-safe."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + LONGEST_START_SECONDS
        self._is_over = False
        self._connecting = threading.Lock()

    def check(self, engine: Engine) -> None:
        """Raise DatabaseUnavailableError while the process should get no requests.

        A connection that is made for it stays in the pool.
        """
        if self._is_over or time.monotonic() >= self._deadline:
            self._is_over = True
            return
        # One attempt at a time: a probe gives up sooner than it does, and asks again.
        if self._connecting.acquire(blocking=False):
            try:
                self._is_over = _answers(engine)
            finally:
                self._connecting.release()
        if not self._is_over:
            raise DatabaseUnavailableError("The database has not answered yet.")


def _answers(engine: Engine) -> bool:
    """Return whether the server answers, if only to refuse the login."""
    try:
        with connect(engine):
            return True
    except BusyError:
        return True
    except DatabaseUnavailableError as error:
        return sqlstates.sql_state(error) != ""
