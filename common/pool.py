"""A pool of connections for a server that has fewer of them than everybody would take.

Lives here: when to wait for a connection, when to open one, when to give one back. Not
here: what a connection is (`db.py`). Surprise: a thread that finds none free waits;
one more is opened only when such waits together have cost as much as opening takes. So
a pool holds what is worth having, which is far less than it may hold.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from common.prepared import PreparedConnection

# How long a server that had no connection left is not asked again.
REFUSED_SECONDS = (0.1, 0.3)
# So often a pool that has several gives one back, and does without for a moment: who
# has none cannot say so, and gets its turn by this alone.
GIVE_BACK_SECONDS = (3.0, 5.0)
ABSTAIN_SECONDS = 0.5


class NoneFreeError(Exception):
    """Every connection is lent, and none came back in time."""


@dataclass(eq=False)
class Lent:
    """A connection of the pool's, while it is somebody's."""

    link: PreparedConnection
    opened_at: float
    generation: int
    # Nobody knows what it says next; it will not be lent again.
    is_broken: bool = False
    # Who has it keeps it; it is no longer counted, and closed when given back.
    is_kept: bool = False


class SharingPool:
    """Holds at most `size` connections, fewer where the server has no more.

    The one that was used last is lent first. Safe to share between threads; belongs to
    the process that made it.
    """

    def __init__(
        self,
        open_link: Callable[[], PreparedConnection],
        *,
        size: int,
        timeout: float,
        recycle: float,
        is_refusal: Callable[[Exception], bool],
    ) -> None:
        """Take what opens a connection, and what tells a full server's error.

        Nobody waits longer than `timeout` seconds. What is older than `recycle` seconds
        is replaced.
        """
        self._open_link = open_link
        self._size = size
        self._timeout = timeout
        self._recycle = recycle
        self._is_refusal = is_refusal
        self._idle: list[Lent] = []
        self._held = 0  # idle, lent, or about to be opened
        self._generation = 0  # of what was opened since the last `dispose`
        self._waiting = 0
        self._is_opening = False
        self._open_seconds = 0.0  # what the last one took
        self._opened_at = 0.0
        self._waited_seconds = 0.0  # by all together, since then
        self._opens_from = 0.0
        self._gives_back_from = _now() + random.uniform(*GIVE_BACK_SECONDS)  # noqa: S311
        self._changed = threading.Condition()

    def take(self, timeout: float | None = None) -> Lent:
        """Answer a connection, to be given back with `give_back`.

        Waits `timeout` seconds at most, None: as long as the pool has been told. Raises
        NoneFreeError, or what opening one raises.
        """
        began = _now()
        deadline = began + (self._timeout if timeout is None else timeout)
        while True:
            with self._changed:
                lent = self._wait_for_idle(began, deadline)
                if lent is None:
                    self._held += 1
                    self._is_opening = True
            if lent is None:
                lent = self._open()
            elif self._is_stale(lent):
                lent.is_broken = True
                self.give_back(lent)
                continue
            if lent is not None:
                return lent

    def give_back(self, lent: Lent) -> None:
        """Take a connection back, and undo what is open on it."""
        if not (lent.is_broken or lent.is_kept):
            try:
                lent.link.rollback()
            except Exception:  # noqa: BLE001 it is dropped for it
                lent.is_broken = True
        surplus = None
        with self._changed:
            if lent.is_kept:
                surplus = lent
            elif lent.is_broken or lent.generation != self._generation:
                self._held -= 1
                surplus = lent
            else:
                self._idle.append(lent)
                if self._held > 1 and _now() >= self._gives_back_from:
                    surplus = self._take_longest_idle()
            self._changed.notify()
        if surplus is not None:
            _close(surplus)

    def let_go(self, lent: Lent) -> None:
        """Have a connection kept for long: another may be opened in its place."""
        with self._changed:
            lent.is_kept = True
            self._held -= 1
            self._changed.notify()

    def dispose(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        with self._changed:
            idle, self._idle = self._idle, []
            self._held -= len(idle)
            self._generation += 1
        for lent in idle:
            _close(lent)

    def _is_stale(self, lent: Lent) -> bool:
        is_old = _now() - lent.opened_at > self._recycle
        return is_old or lent.link.is_link_closed()

    def _wait_for_idle(self, began: float, deadline: float) -> Lent | None:
        """Answer an idle connection, None where it is time to open one."""
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
                raise NoneFreeError
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

    def _open(self) -> Lent | None:
        """Answer a new connection, None where the server has none to give."""
        began = _now()
        link, pause = None, 0.0
        try:
            link = self._open_link()
        except Exception as error:
            if not self._is_refusal(error):
                raise
            pause = random.uniform(*REFUSED_SECONDS)  # noqa: S311 no secret
        finally:
            with self._changed:
                now = _now()
                self._is_opening = False
                if link is None:
                    self._held -= 1
                    self._opens_from = max(self._opens_from, now + pause)
                else:
                    self._open_seconds = now - began
                    self._opened_at = now
                    self._waited_seconds = 0.0
                generation = self._generation
                self._changed.notify_all()
        return None if link is None else Lent(link, now, generation)

    def _take_longest_idle(self) -> Lent:
        """Answer the connection to give back, and open no other for a moment."""
        now = _now()
        self._gives_back_from = now + random.uniform(*GIVE_BACK_SECONDS)  # noqa: S311
        self._opens_from = max(self._opens_from, now + ABSTAIN_SECONDS)
        self._waited_seconds = 0.0
        self._held -= 1
        return self._idle.pop(0)


def _close(lent: Lent) -> None:
    with contextlib.suppress(Exception):  # the other side may have hung up already
        lent.link.close()


def _now() -> float:
    return time.monotonic()
