"""A pool of connections for a server that has fewer of them than everybody would take.

Lives here: when to wait for a connection, when to open one, when to give one back. Not
here: what a connection is (`db.py`). Surprise: a thread that finds none free waits;
one more is opened only when such waits together have cost as much as opening takes. So
a pool holds what is worth having, which is far less than it may hold.
"""

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import exc
from sqlalchemy.pool import ConnectionPoolEntry, Pool

# How long a server that had no connection left is not asked again.
REFUSED_SECONDS = (0.1, 0.3)
# So often a pool that has several gives one back, and does without for a moment: who
# has none cannot say so, and gets its turn by this alone.
GIVE_BACK_SECONDS = (3.0, 5.0)
ABSTAIN_SECONDS = 0.5


class SharingPool(Pool):
    """Holds at most `size` connections, fewer where the server has no more.

    Raises `sqlalchemy.exc.TimeoutError` where none came free within `timeout` seconds.
    The one that was used last is lent first.
    """

    def __init__(
        self,
        creator: Callable[[], Any],
        *,
        size: int,
        timeout: float,
        is_refusal: Callable[[Exception], bool],
        is_closed: Callable[[Any], bool],
        **options: Any,  # noqa: ANN401 SQLAlchemy's
    ) -> None:
        """Take what tells a full server's error, and an idle link that was hung up."""
        super().__init__(creator, **options)
        self._size = size
        self._timeout = timeout
        self._is_refusal = is_refusal
        self._is_closed = is_closed
        self._idle: list[ConnectionPoolEntry] = []
        self._held = 0  # idle, lent, or about to be opened
        self._waiting = 0
        self._is_opening = False
        self._open_seconds = 0.0  # what the last one took
        self._opened_at = 0.0
        self._waited_seconds = 0.0  # by all together, since then
        self._opens_from = 0.0
        self._gives_back_from = _now() + random.uniform(*GIVE_BACK_SECONDS)  # noqa: S311
        self._changed = threading.Condition()

    def status(self) -> str:
        """Answer how many connections there are, for people."""
        return f"{self._held} of {self._size} connections, {len(self._idle)} idle"

    def _do_get(self) -> ConnectionPoolEntry:
        began = _now()
        while True:
            with self._changed:
                entry = self._wait_for_idle(began)
                if entry is None:
                    self._held += 1
                    self._is_opening = True
            if entry is None:
                entry = self._open()
            elif self._is_closed(entry.dbapi_connection):
                entry.invalidate()
                self._drop()
                continue
            if entry is not None:
                return entry

    def _wait_for_idle(self, began: float) -> ConnectionPoolEntry | None:
        """Answer an idle connection, None where it is time to open one."""
        deadline = began + self._timeout
        # Who comes first is served first, though whoever comes now would be quicker.
        free = len(self._idle) - self._waiting
        while free <= 0:
            now = _now()
            wait_until = deadline
            if self._held < self._size and not self._is_opening:
                opens_at = self._opens_at(began)
                if now >= opens_at:
                    return None
                wait_until = min(deadline, opens_at)
            if now >= deadline:
                raise exc.TimeoutError(f"{self.status()}, none within {self._timeout}s")
            self._waiting += 1
            try:
                self._changed.wait(wait_until - now)
            finally:
                self._waiting -= 1
            free = len(self._idle)
        # What was waited while one was being opened says nothing of those there are.
        self._waited_seconds += max(0.0, _now() - max(began, self._opened_at))
        return self._idle.pop()

    def _opens_at(self, began: float) -> float:
        """Answer from when on somebody who has waited since `began` opens one."""
        if not self._held:
            return self._opens_from
        patience = self._open_seconds - self._waited_seconds
        return max(self._opens_from, max(began, self._opened_at) + patience)

    def _open(self) -> ConnectionPoolEntry | None:
        """Answer a new connection, None where the server has none to give."""
        began = _now()
        entry, pause = None, 0.0
        try:
            entry = self._create_connection()
        except Exception as error:
            if not self._is_refusal(error):
                raise
            pause = random.uniform(*REFUSED_SECONDS)  # noqa: S311 no secret
        finally:
            with self._changed:
                now = _now()
                self._is_opening = False
                if entry is None:
                    self._held -= 1
                    self._opens_from = max(self._opens_from, now + pause)
                else:
                    self._open_seconds = now - began
                    self._opened_at = now
                    self._waited_seconds = 0.0
                self._changed.notify_all()
        return entry

    def _drop(self) -> None:
        with self._changed:
            self._held -= 1
            self._changed.notify()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        if record.dbapi_connection is None:  # it broke while it was lent
            self._drop()
            return
        surplus = None
        with self._changed:
            self._idle.append(record)
            if self._held > 1 and _now() >= self._gives_back_from:
                surplus = self._take_longest_idle()
            self._changed.notify()
        if surplus is not None:
            surplus.close()

    def _take_longest_idle(self) -> ConnectionPoolEntry:
        """Answer the connection to give back, and open no other for a moment."""
        now = _now()
        self._gives_back_from = now + random.uniform(*GIVE_BACK_SECONDS)  # noqa: S311
        self._opens_from = max(self._opens_from, now + ABSTAIN_SECONDS)
        self._waited_seconds = 0.0
        self._held -= 1
        return self._idle.pop(0)

    def recreate(self) -> "SharingPool":
        """Answer a pool like this one, without connections."""
        return SharingPool(
            self._creator,  # type: ignore[arg-type]
            size=self._size,
            timeout=self._timeout,
            is_refusal=self._is_refusal,
            is_closed=self._is_closed,
            recycle=self._recycle,
            echo=self.echo,
            reset_on_return=self._reset_on_return,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )

    def dispose(self) -> None:
        """Close what is idle."""
        with self._changed:
            idle, self._idle = self._idle, []
            self._held -= len(idle)
        for entry in idle:
            entry.close()


def _now() -> float:
    return time.monotonic()
