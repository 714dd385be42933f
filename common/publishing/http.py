"""Publishes over HTTP: CloudEvents to a sink, and the notification to analytics.

Lives here: CloudEvents 1.0 in binary mode, and what an HTTP answer means for an event.
Not here: retries; the outbox owns those. Surprise: analytics is a destination like a
broker, so that its notifications are owed, retried and never hold anyone up.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from common import failpoints
from common.publishing import (
    Message,
    Outcome,
    Result,
    cloud_event_attributes,
    publish_each,
)
from common.wire import Address, Link, MalformedAnswerError, head, request

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT_SECONDS = 1.0
ANSWER_TIMEOUT_SECONDS = 5.0
_MEANINGS = {
    # It may be this event's doing: others pass, and this one comes back until taken.
    429: Result.DEFERRED,
    503: Result.DEFERRED,
    # A gateway lost sight of whoever it had passed the event on to.
    502: Result.UNCONFIRMED,
    504: Result.UNCONFIRMED,
}


class _LostError(Exception):
    """There was no answer; `result` says whether the message may have arrived."""

    def __init__(self, result: Result, error: Exception) -> None:
        self.result = result
        # Without its words: they may name the URL, which may be internal.
        super().__init__(type(error).__name__)


class _HttpPublisher(ABC):
    """Posts each message to one URL over a kept-alive connection."""

    def __init__(self, url: str, meanings: dict[int, Result]) -> None:
        self._url = url
        self._meanings = _MEANINGS | meanings

    def publish(self, messages: Sequence[Message], deadline: float) -> list[Outcome]:
        """Send in order; see `Publisher.publish`."""
        return publish_each(messages, deadline, self._send)

    @abstractmethod
    def close(self) -> None:
        """Close the kept-alive connection."""

    @abstractmethod
    def _post(self, message: Message, headers: dict[str, str], seconds: float) -> int:
        """Answer the status that a message was answered with; raises _LostError."""

    def _headers(self, message: Message) -> dict[str, str]:
        return {"traceparent": message.traceparent} if message.traceparent else {}

    def _send(self, message: Message, seconds: float) -> tuple[Result, str | None]:
        failpoints.reach("publish http before")
        try:
            seconds = min(seconds, ANSWER_TIMEOUT_SECONDS)
            status = self._post(message, self._headers(message), seconds)
        except _LostError as error:
            return error.result, str(error)
        failpoints.reach("publish http after")
        result = self._meanings.get(status, Result.REFUSED)
        return result, None if result is Result.SENT else f"answered {status}"


class SinkPublisher(_HttpPublisher):
    """Posts CloudEvents 1.0 in binary mode to an event sink."""

    def __init__(self, url: str) -> None:
        super().__init__(url, dict.fromkeys((200, 201, 202, 204), Result.SENT))
        self._address = Address.of(url)
        self._link: Link | None = None

    def close(self) -> None:
        """Close the kept-alive connection."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _headers(self, message: Message) -> dict[str, str]:
        host = {"Host": self._address.authority}
        attributes = cloud_event_attributes(message, "ce-")
        return host | super()._headers(message) | attributes

    def _post(self, message: Message, headers: dict[str, str], seconds: float) -> int:
        deadline = time.monotonic() + seconds
        link = self._open_link(seconds)
        path = self._address.path or "/"
        asked = request("POST", path, head(headers), message.body.encode())
        try:
            link.send(asked, deadline)
            answer, is_kept_alive = link.read(deadline)
        except (OSError, MalformedAnswerError) as error:
            self.close()
            raise _LostError(Result.UNCONFIRMED, error) from error
        if not is_kept_alive:
            self.close()
        return answer.status

    def _open_link(self, seconds: float) -> Link:
        """Answer the link, opening it where there is none or the sink has hung up."""
        if self._link is not None and self._link.is_closed():
            self.close()
        if self._link is None:
            try:
                self._link = Link(self._address, min(CONNECT_TIMEOUT_SECONDS, seconds))
            except OSError as error:  # nothing was sent
                raise _LostError(Result.UNAVAILABLE, error) from error
        return self._link


class AnalyticsPublisher(_HttpPublisher):
    """Tells analytics of completed orders, until it has answered 200 or 201.

    It is idempotent by order id. Its own failures are no reason to give up.
    """

    def __init__(self, base_url: str) -> None:
        meanings = dict.fromkeys((200, 201), Result.SENT) | {500: Result.DEFERRED}
        super().__init__(f"{base_url}/api/analitic-order-completed/", meanings)
        self._session: requests.Session | None = None

    def close(self) -> None:
        """Close the kept-alive connection."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _post(self, message: Message, headers: dict[str, str], seconds: float) -> int:
        import requests  # noqa: PLC0415 30 ms of a cold start, and only when it sends

        if self._session is None:
            self._session = requests.Session()
            self._session.trust_env = False
        try:
            response = self._session.post(
                self._url,
                data=message.body.encode(),
                headers={"Content-Type": "application/json", **headers},
                timeout=(CONNECT_TIMEOUT_SECONDS, seconds),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            result = Result.UNAVAILABLE
            if _may_have_arrived(error):
                result = Result.UNCONFIRMED
            raise _LostError(result, error) from error
        return response.status_code


def _may_have_arrived(error: "requests.RequestException") -> bool:
    """Tell a cut connection from one that never was: refused, or no such name."""
    from requests import ConnectTimeout  # noqa: PLC0415 see _send
    from urllib3.exceptions import NewConnectionError  # noqa: PLC0415 see _send

    cause = getattr(error.args[0], "reason", None) if error.args else None
    never_was = isinstance(cause, NewConnectionError)
    return not (never_was or isinstance(error, ConnectTimeout))
