"""Check whether an idle connection has been closed by the other side.

It uses `poll()`, because `select()` takes no descriptor beyond 1023, and an instance
with large carts gets there.
"""

import contextlib
import select
import socket
import sys

_IS_LINUX = sys.platform == "linux"
_ESTABLISHED = b"\x01"  # tcp_info begins with the state


def has_spoken(idle: socket.socket) -> bool:
    """Return whether an idle link has something to read, which is its end (2 µs)."""
    return is_readable(idle, 0)


def has_hung_up(idle: socket.socket) -> bool:
    """Return whether the other side has ended an idle link; it may have said so first.

    For who understands whatever else was said meanwhile. Linux tells the state of a
    connection without letting another thread have the interpreter; elsewhere any word
    counts as the end.
    """
    if _IS_LINUX:
        with contextlib.suppress(OSError):  # a Unix socket has no such state
            state = idle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
            return state != _ESTABLISHED
    return has_spoken(idle)


def is_readable(link: socket.socket, seconds: float) -> bool:
    """Wait up to `seconds` until there is something to read; tell whether there is."""
    reading = select.poll()
    reading.register(link, select.POLLIN)
    return bool(reading.poll(1000 * seconds))
