"""Publishes over HTTP: CloudEvents to a sink, and the notification to analytics.

Lives here: CloudEvents 1.0 in binary mode, and what an HTTP answer means for an event.
Not here: retries; the outbox owns those. Surprise: analytics is a destination like a
broker, so that its notifications are owed, retried and never hold anyone up.
"""

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


class _HttpPublisher:
    """Posts each message to one URL over a kept-alive connection."""

    def __init__(self, url: str, meanings: dict[int, Result]) -> None:
        self._url = url
        self._meanings = _MEANINGS | meanings
        self._session: requests.Session | None = None

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

        if self._session is None:
            self._session = requests.Session()
            self._session.trust_env = False
        failpoints.reach("publish http before")
        try:
            response = self._session.post(
                self._url,
                data=message.body.encode(),
                headers=self._headers(message),
                timeout=(CONNECT_TIMEOUT_SECONDS, min(seconds, ANSWER_TIMEOUT_SECONDS)),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            if _may_have_arrived(error):
                return Result.UNCONFIRMED, _reason(error)
            return Result.UNAVAILABLE, _reason(error)
        failpoints.reach("publish http after")
        result = self._meanings.get(response.status_code, Result.REFUSED)
        is_sent = result is Result.SENT
        return result, None if is_sent else f"answered {response.status_code}"


class SinkPublisher(_HttpPublisher):
    """Posts CloudEvents 1.0 in binary mode to an event sink."""

    def __init__(self, url: str) -> None:
        super().__init__(url, dict.fromkeys((200, 201, 202, 204), Result.SENT))

    def _headers(self, message: Message) -> dict[str, str]:
        return super()._headers(message) | cloud_event_attributes(message, "ce-")


class AnalyticsPublisher(_HttpPublisher):
    """Tells analytics of completed orders, until it has answered 200 or 201.

    It is idempotent by order id. Its own failures are no reason to give up.
    """

    def __init__(self, base_url: str) -> None:
        meanings = dict.fromkeys((200, 201), Result.SENT) | {500: Result.DEFERRED}
        super().__init__(f"{base_url}/api/analitic-order-completed/", meanings)


def _may_have_arrived(error: "requests.RequestException") -> bool:
    """Tell a cut connection from one that never was: refused, or no such name."""
    from requests import ConnectTimeout  # noqa: PLC0415 see _send
    from urllib3.exceptions import NewConnectionError  # noqa: PLC0415 see _send

    cause = getattr(error.args[0], "reason", None) if error.args else None
    never_was = isinstance(cause, NewConnectionError)
    return not (never_was or isinstance(error, ConnectTimeout))


def _reason(error: Exception) -> str:
    """Answer what went wrong without the URL, which may be internal."""
    return type(error).__name__
