"""Idle network links: whether the other side has hung up.

Lives here: that one question, which pools ask before they lend a link again. Not here:
opening, speaking, closing. Surprise: it is `poll()`, because `select()` takes no
descriptor beyond 1023, and an instance with large carts gets there.
"""

import select
import socket


def has_spoken(idle: socket.socket) -> bool:
    """Tell whether an idle link has something to read, which is its end (2 µs)."""
    return is_readable(idle, 0)


def is_readable(link: socket.socket, seconds: float) -> bool:
    """Wait up to `seconds` until there is something to read; tell whether there is."""
    reading = select.poll()
    reading.register(link, select.POLLIN)
    return bool(reading.poll(1000 * seconds))
