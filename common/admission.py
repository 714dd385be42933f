"""Whether a request may come in: how large it is, and how long it has waited.

Lives here: limits that need nothing but the request itself. Not here: how much one user
may ask for (`limits.py`), waiting for a connection (`pool.py`). Surprise: gunicorn
takes any number of connections and queues their requests for its threads, without a
word on how long; but Linux knows when the last bytes of a request arrived.
"""

import contextlib
import socket
import struct
import sys
import time
from collections.abc import Mapping
from typing import Any

from common.errors import BusyError, HeadersTooLargeError, UriTooLongError

MAX_BODY_BYTES = 1024 * 1024
MAX_PATH_BYTES = 1024
MAX_QUERY_BYTES = 4096
MAX_PARAMETERS = 50
# Below what gunicorn refuses itself (100 of 8190 bytes each), which it does in HTML.
MAX_HEADERS = 80
MAX_HEADER_BYTES = 16 * 1024

# Longer than any burst that is worth sitting out; whoever calls should hear of it.
QUEUE_SECONDS = 2.0
# How long a client may keep a thread waiting for its next bytes, and how long it may
# take to fetch a large answer.
STALL_SECONDS = 5.0
# How long the rest of a body that is refused is thrown away, and a pause that ends it.
BLINK_SECONDS, PAUSE_SECONDS = 0.1, 0.02
# What the system takes off our hands at once, so that nobody waits for who reads it.
LARGE_ANSWER_BYTES = 64 * 1024

# tcp_info: 8 bytes, then 4 for each of its times and counts.
_LAST_DATA_RECEIVED = struct.Struct("52xI")


def check_size(environ: Mapping[str, Any]) -> None:
    """Raise for an address or headers that are larger than any honest client's.

    The body is measured where it is read. Costs 3 µs.
    """
    if len(environ["PATH_INFO"]) > MAX_PATH_BYTES:
        raise UriTooLongError(f"The path is longer than {MAX_PATH_BYTES} bytes.")
    if query := environ.get("QUERY_STRING"):
        if len(query) > MAX_QUERY_BYTES:
            raise UriTooLongError(f"The query is longer than {MAX_QUERY_BYTES} bytes.")
        if query.count("&") >= MAX_PARAMETERS:
            said = f"The query has more than {MAX_PARAMETERS} parameters."
            raise UriTooLongError(said)
    names = [name for name in environ if name[:5] == "HTTP_"]
    if len(names) > MAX_HEADERS:
        raise HeadersTooLargeError(f"There are more than {MAX_HEADERS} headers.")
    size = sum(map(len, names)) + sum(map(len, map(environ.__getitem__, names)))
    if size > MAX_HEADER_BYTES:
        raise HeadersTooLargeError(
            f"The headers are larger than {MAX_HEADER_BYTES} bytes together."
        )


def check_wait(environ: Mapping[str, Any]) -> None:
    """Raise BusyError where the request has waited too long to be worth serving.

    Costs 4 µs. Where the server tells no socket, or its system no times, all may pass.
    """
    if seconds_waited(environ.get("gunicorn.socket")) > QUEUE_SECONDS:
        raise BusyError


def seconds_waited(link: object) -> float:
    """Answer how long ago the link's last bytes came in, 0 where nobody knows."""
    if sys.platform != "linux" or not isinstance(link, socket.socket):
        return 0.0
    try:
        size = _LAST_DATA_RECEIVED.size
        info = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
        (milliseconds,) = _LAST_DATA_RECEIVED.unpack(info)
    except (OSError, struct.error):  # no TCP, or a kernel that tells less
        return 0.0
    return float(milliseconds) / 1000


def bound_waits(environ: Mapping[str, Any], seconds: float = STALL_SECONDS) -> None:
    """Have reading and writing raise an OSError where the client stalls so long.

    gunicorn waits for ever; it undoes this before the connection's next request.
    """
    link = environ.get("gunicorn.socket")
    if isinstance(link, socket.socket):
        link.settimeout(seconds)


def hang_up_soon(environ: Mapping[str, Any]) -> None:
    """Have nobody wait for the rest of a body; the connection ends with this answer.

    gunicorn would: five seconds in the request's thread, two more in the one thread
    that takes connections. What comes within a blink is thrown away, as a client that
    is still sending might not hear the answer.
    """
    link = environ.get("gunicorn.socket")
    if not isinstance(link, socket.socket):
        return
    deadline = time.monotonic() + BLINK_SECONDS
    with contextlib.suppress(OSError):
        while (seconds := deadline - time.monotonic()) > 0:
            link.settimeout(min(seconds, PAUSE_SECONDS))
            if not link.recv(LARGE_ANSWER_BYTES):
                break
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RD)
        link.settimeout(STALL_SECONDS)
