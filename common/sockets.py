"""Check whether an idle connection has been closed by the other side.

It uses `poll()`, because `select()` takes no descriptor beyond 1023, and an instance
with large carts gets there.
"""

import contextlib
import select
import socket
import sys


def has_data(idle: socket.socket) -> bool:
    """Return whether there is something to read: on an idle connection, its end."""
    return is_readable(idle, 0)


_IS_LINUX = sys.platform == "linux"
_ESTABLISHED = b"\x01"  # tcp_info begins with the state


def is_closed_by_peer(idle: socket.socket) -> bool:
    """Return whether the other side has closed an idle connection.

    Unlike `has_data`, it allows for data that came before. Linux returns the state of a
    connection without releasing the interpreter lock; elsewhere any data counts as the
    end.
    """
    if _IS_LINUX:
        with contextlib.suppress(OSError):  # a Unix socket has no such state
            state = idle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
            return state != _ESTABLISHED
    return has_data(idle)


def is_readable(connected: socket.socket, seconds: float) -> bool:
    """Wait up to `seconds` for something to read; return whether there is any."""
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return bool(poll.poll(1000 * seconds))
