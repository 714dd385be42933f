"""Publish over HTTP: CloudEvents to a sink, and notifications to analytics.

The relay does all retries. Analytics is a destination like a broker, so that its
notifications wait in the outbox while it is down.
"""

import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from common import failpoints
from common.publishing.publisher import (
    Message,
    Outcome,
    Result,
    cloud_event_attributes,
    publish_each,
)

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT_SECONDS = 1.0
MAX_RESPONSE_BYTES = 64 * 1024  # read only to keep the connection
_MEANINGS = {
    # This event alone may be the cause, so others pass, and it is retried for ever.
    429: Result.DEFERRED,
    503: Result.DEFERRED,
    # A gateway may have passed the event on before it failed.
    502: Result.UNCONFIRMED,
    504: Result.UNCONFIRMED,
}


class _HttpPublisher:
    """Post each message to one URL over a kept-alive connection."""

    longest_seconds: float  # to wait for a response
    _meanings: Mapping[int, Result]  # by HTTP status; any other status is a refusal

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: requests.Session | None = None
        self._socket: socket.socket | None = None  # the last one opened

    def publish(self, messages: Sequence[Message], deadline: float) -> list[Outcome]:
        """Send in order; see `Publisher.publish`."""
        return publish_each(messages, deadline, self._send)

    def close(self) -> None:
        """Close the kept-alive connection."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _headers(self, message: Message) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if message.traceparent:
            headers["traceparent"] = message.traceparent
        return headers

    def _send(self, message: Message, seconds: float) -> tuple[Result, str | None]:
        import requests  # noqa: PLC0415 30 ms of a cold start, and only when it sends

        failpoints.reach("publish http before")
        try:
            status = self._post(message, min(seconds, self.longest_seconds))
        except requests.RequestException as error:
            # Without its text, which may contain an internal URL.
            return _meaning_of(error), type(error).__name__
        failpoints.reach("publish http after")
        result = self._meanings.get(status, Result.REFUSED)
        return result, None if result is Result.SENT else f"answered {status}"

    def _post(self, message: Message, seconds: float) -> int:
        """Return the status of the response; raise RequestException."""
        from urllib3.exceptions import HTTPError  # noqa: PLC0415 see _send

        if self._session is None:
            self._session = self._make_session()
        with (
            self._at_most(seconds),
            self._session.post(
                self._url,
                data=message.body.encode(),
                headers=self._headers(message),
                timeout=(min(CONNECT_TIMEOUT_SECONDS, seconds), seconds),
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            # A connection is kept alive only if its response was read.
            with suppress(HTTPError):
                response.raw.read(MAX_RESPONSE_BYTES)
            return response.status_code

    @contextmanager
    def _at_most(self, seconds: float) -> Iterator[None]:
        """Disconnect after `seconds`: the library's timeout is for a single read."""
        timer = threading.Timer(seconds, self._disconnect)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # so that it cannot disconnect the next request

    def _disconnect(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _make_session(self) -> "requests.Session":
        """Return a session that stores the socket of each new connection."""
        import requests  # noqa: PLC0415 see _send
        from urllib3.poolmanager import pool_classes_by_scheme  # noqa: PLC0415 see _send

        def storing(pool: Any) -> Any:  # noqa: ANN401 two kinds of pool
            class Connection(pool.ConnectionCls):  # type: ignore[misc]
                def connect(connection) -> None:  # noqa: N805 the publisher is `self`
                    super().connect()
                    self._socket = connection.sock

            return type(pool.__name__, (pool,), {"ConnectionCls": Connection})

        class Session(requests.Session):
            def get_redirect_target(self, _: requests.Response) -> None:
                """Return None: a `Location` is not parsed, which may raise anything."""

        session = Session()
        session.trust_env = False  # events must not pass through a proxy
        adapter: Any = session.get_adapter(self._url)
        adapter.poolmanager.pool_classes_by_scheme = {
            scheme: storing(pool) for scheme, pool in pool_classes_by_scheme.items()
        }
        return session


class SinkPublisher(_HttpPublisher):
    """Post CloudEvents 1.0 in binary mode to an event sink."""

    longest_seconds = 5.0
    _meanings = _MEANINGS | dict.fromkeys((200, 201, 202, 204), Result.SENT)

    def _headers(self, message: Message) -> dict[str, str]:
        return super()._headers(message) | cloud_event_attributes(message, "ce-")


class AnalyticsPublisher(_HttpPublisher):
    """Report completed orders to analytics, until it responds with 200 or 201.

    It is idempotent by order id, so a 500 is retried for ever.
    """

    longest_seconds = 60.0  # it reads the product service once for each line
    _meanings = _MEANINGS | {
        200: Result.SENT,
        201: Result.SENT,
        500: Result.DEFERRED,
    }

    def __init__(self, base_url: str) -> None:
        super().__init__(f"{base_url}/api/analitic-order-completed/")

    def _send(self, message: Message, _seconds: float) -> tuple[Result, str | None]:
        # Once started, a request gets its full time, however little the batch has left.
        return super()._send(message, self.longest_seconds)


def _meaning_of(error: "requests.RequestException") -> Result:
    """Return UNAVAILABLE if no connection was made, else UNCONFIRMED."""
    from requests import ConnectTimeout  # noqa: PLC0415 see _send
    from urllib3.exceptions import NewConnectionError  # noqa: PLC0415 see _send

    cause = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(cause, NewConnectionError) or isinstance(error, ConnectTimeout):
        return Result.UNAVAILABLE
    return Result.UNCONFIRMED
