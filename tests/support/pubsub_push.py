"""Pushes a topic's messages to an endpoint, as a Pub/Sub subscription with order does.

One message after the other, each until it is acknowledged by its status. The bearer
token is a JWT that nobody has signed; its claims are what the real one's are.
"""

import base64
import http.client
import json
import queue
import threading
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import jwt
from google.pubsub_v1 import types

SUBSCRIPTION = "projects/orders-test/subscriptions/approval"
SUCCESSES = (102, 200, 201, 202, 204)
PAUSE_SECONDS = 0.1  # before a refused message comes again
DEADLINE_SECONDS = 10.0
TOKEN_SECONDS = 3600


class Push:
    """Pushes to `url` until it is closed."""

    def __init__(
        self, url: str, *, is_wrapped: bool = False, account: str | None = None
    ) -> None:
        self._url = url
        self._is_wrapped = is_wrapped
        self._account = account
        self._due: queue.SimpleQueue[types.PubsubMessage | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="push", daemon=True)
        self._thread.start()

    def add(self, messages: Iterable[types.PubsubMessage]) -> None:
        """Push these, after those that are due already."""
        for message in messages:
            self._due.put(message)

    def close(self) -> None:
        """Push no more."""
        self._closing.set()
        self._due.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (message := self._due.get()) is not None:
            attempt = 1
            while not self._closing.is_set():
                if self._send(message, attempt) in SUCCESSES:
                    break
                attempt += 1
                self._closing.wait(PAUSE_SECONDS)

    def _send(self, message: types.PubsubMessage, attempt: int) -> int | None:
        """Send one and return the status; None when there was no answer in time."""
        headers = {"Accept": "application/json", "User-Agent": "CloudPubSub-Google"}
        if self._account is not None:
            headers["Authorization"] = f"Bearer {_token(self._account, self._url)}"
        if self._is_wrapped:
            headers["Content-Type"] = "application/json"
            body = json.dumps(_wrapped(message, attempt)).encode()
        else:
            headers |= _metadata(message)
            body = message.data
        parts = urlsplit(self._url)
        link = http.client.HTTPConnection(
            parts.hostname or "", parts.port or 80, timeout=DEADLINE_SECONDS
        )
        try:
            link.request("POST", parts.path or "/", body, headers)
            return link.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            link.close()


def _metadata(message: types.PubsubMessage) -> dict[str, str]:
    """Return attributes as headers, and Pub/Sub's own, as `write_metadata` does."""
    return dict(message.attributes) | {
        "x-goog-pubsub-subscription-name": SUBSCRIPTION,
        "x-goog-pubsub-message-id": message.message_id,
        "x-goog-pubsub-publish-time": _published_at(message),
        "x-goog-pubsub-ordering-key": message.ordering_key,
    }


def _wrapped(message: types.PubsubMessage, attempt: int) -> dict[str, Any]:
    return {
        "message": {
            "attributes": dict(message.attributes),
            "data": base64.b64encode(message.data).decode(),
            "messageId": message.message_id,
            "message_id": message.message_id,
            "orderingKey": message.ordering_key,
            "publishTime": _published_at(message),
            "publish_time": _published_at(message),
        },
        "subscription": SUBSCRIPTION,
        "deliveryAttempt": attempt,
    }


def _published_at(message: types.PubsubMessage) -> str:
    text: str = message.publish_time.isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _token(account: str, audience: str) -> str:
    now = int(time.time())
    claims = {
        "iss": "https://accounts.google.com",
        "aud": audience,
        "sub": account,
        "email": account,
        "email_verified": True,
        "iat": now,
        "exp": now + TOKEN_SECONDS,
    }
    return jwt.encode(claims, "", algorithm="none")
