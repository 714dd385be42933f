"""How long a request has waited before our code saw it, and when that was too long.

Lives here: the one measure. Not here: waiting for a connection (`pool.py`). Surprise:
gunicorn takes any number of connections and queues their requests for its threads,
without a word on how long; but Linux knows when the last bytes of a request arrived.
"""

import socket
import struct
import sys
from collections.abc import Mapping
from typing import Any

from common.errors import BusyError

# Longer than any burst that is worth sitting out; whoever calls should hear of it.
QUEUE_SECONDS = 2.0

# tcp_info: 8 bytes, then 4 for each of its times and counts.
_LAST_DATA_RECEIVED = struct.Struct("52xI")


def check(environ: Mapping[str, Any]) -> None:
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
