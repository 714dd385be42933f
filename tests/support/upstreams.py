"""One sibling's calls against a server whose responses are set."""

import socket
import time
from typing import Any
from uuid import UUID

from common.clients.batch import Upstream
from common.clients.calls import Call, UpstreamResponse
from common.errors import ServiceError
from tests.support.odd_server import answers

CALLER = UUID("a0000000-0000-4000-8000-00000000000a")
OK = answers('{"fine": true}')
GET = Call("GET", "/api/mycart/")


def hang_up(_link: socket.socket) -> None:
    """End the connection without a response."""
    raise ConnectionError


def send(
    upstream: Upstream, *calls: Call, seconds: float = 10
) -> list[UpstreamResponse | ServiceError]:
    """Send the calls, or a plain GET, and return what came of each."""
    return upstream.send(calls or [GET], CALLER, time.monotonic() + seconds)


def statuses(upstream: Upstream, *calls: Call, seconds: float = 10) -> list[Any]:
    """Return the status of each call, or the type of its error."""
    return [
        result.status if isinstance(result, UpstreamResponse) else type(result)
        for result in send(upstream, *calls, seconds=seconds)
    ]
