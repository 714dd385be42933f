"""Pushes a Pub/Sub subscription's messages to its endpoint, over plain HTTP.

Lives here: the request, wrapped and not, and what its answer means. Not here: when a
message is due (`pubsub_backlog.py`). Surprise: the bearer token is a JWT that nobody
has signed ("alg": "none"); its claims are what the real one's are.
"""

import base64
import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import jwt
from google.pubsub_v1 import types

from tests.support.pubsub_backlog import Backlog, Entry

AT_ONCE = 8  # requests; of one ordering key, one
SUCCESSES = (102, 200, 201, 202, 204)
TICK_SECONDS = 0.02
TOKEN_SECONDS = 3600
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
# What http.client writes, or what would break its request.
_OWN_HEADERS = ("connection", "content-length", "host", "transfer-encoding")

Request = tuple[dict[str, str], bytes]  # headers, body


class Pusher:
    """Pushes what is due in `backlog` until it is closed."""

    def __init__(self, backlog: Backlog, changed: threading.Condition) -> None:
        self._backlog = backlog
        self._changed = changed
        self._is_closed = False
        self._links: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._run, name="push", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hang up and stop. The lock must not be held."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            for link in self._links:
                with contextlib.suppress(OSError):
                    link.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _run(self) -> None:
        seconds = self._backlog.settings.ack_deadline_seconds
        under_way = 0

        def push(ack_id: str, request: Request) -> None:
            nonlocal under_way
            status = self._status(request, seconds)
            with self._changed:
                under_way -= 1
                if status in SUCCESSES:
                    self._backlog.acknowledge([ack_id])
                else:
                    self._backlog.modify([ack_id], 0)
                self._changed.notify_all()

        with ThreadPoolExecutor(AT_ONCE, "push") as threads:
            while not self._is_closed:
                with self._changed:
                    self._backlog.expire()
                    due = self._backlog.take(AT_ONCE - under_way, seconds, per_key=1)
                    under_way += len(due)
                    requests = [
                        (entry.ack_id, request_of(self._backlog, entry))
                        for entry in due
                    ]
                    if not due and not self._is_closed:
                        self._changed.wait(TICK_SECONDS)
                for arguments in requests:
                    threads.submit(push, *arguments)

    def _status(self, request: Request, seconds: float) -> int | None:
        """Send it and answer the status; None when there was no answer in time."""
        endpoint = urlsplit(self._backlog.settings.push_config.push_endpoint)
        port = endpoint.port or 80
        connection = http.client.HTTPConnection(
            endpoint.hostname or "", port, timeout=seconds
        )
        target = endpoint._replace(scheme="", netloc="", fragment="").geturl() or "/"
        with contextlib.closing(connection), self._opened(connection):
            try:
                headers, body = request
                connection.putrequest("POST", target, skip_accept_encoding=True)
                for name, value in headers.items():
                    connection.putheader(name, value.encode())
                connection.putheader("Content-Length", str(len(body)))
                connection.endheaders(body)
                with connection.getresponse() as response:
                    return response.status
            except (OSError, http.client.HTTPException):
                return None

    @contextlib.contextmanager
    def _opened(self, connection: http.client.HTTPConnection) -> Iterator[None]:
        with contextlib.suppress(OSError):
            connection.connect()
        link: Any = connection.sock
        if link is None:  # the request will say so again
            yield
            return
        with self._changed:
            self._links.add(link)
            if self._is_closed:
                link.shutdown(socket.SHUT_RDWR)
        try:
            yield
        finally:
            with self._changed:
                self._links.discard(link)


def request_of(backlog: Backlog, entry: Entry) -> Request:
    """Answer headers and body as Google documents them."""
    config = backlog.settings.push_config
    headers = {"Accept": "application/json", "From": "noreply@google.com"}
    headers["User-Agent"] = "CloudPubSub-Google"
    if "oidc_token" in config:
        headers["Authorization"] = f"Bearer {_token(config)}"
    if "no_wrapper" in config:
        if config.no_wrapper.write_metadata:
            headers |= _metadata(backlog, entry.message)
        return headers, entry.message.data
    headers["Content-Type"] = "application/json"
    return headers, json.dumps(_wrapped(backlog, entry)).encode()


def _metadata(backlog: Backlog, message: types.PubsubMessage) -> dict[str, str]:
    """Answer attributes that can be headers, and Pub/Sub's own."""
    headers = {
        name: value
        for name, value in message.attributes.items()
        if _HEADER_NAME.fullmatch(name)
        and _HEADER_VALUE.fullmatch(value)
        and name.lower() not in _OWN_HEADERS
    }
    headers["x-goog-pubsub-subscription-name"] = backlog.settings.name
    headers["x-goog-pubsub-message-id"] = message.message_id
    headers["x-goog-pubsub-publish-time"] = published_at(message)
    if message.ordering_key:
        headers["x-goog-pubsub-ordering-key"] = message.ordering_key
    return headers


def _wrapped(backlog: Backlog, entry: Entry) -> dict[str, Any]:
    message = entry.message
    wrapped: dict[str, Any] = {
        "messageId": message.message_id,
        "message_id": message.message_id,
        "publishTime": published_at(message),
        "publish_time": published_at(message),
    }
    if message.attributes:
        wrapped["attributes"] = dict(message.attributes)
    if message.data:
        wrapped["data"] = base64.b64encode(message.data).decode()
    if message.ordering_key:
        wrapped["orderingKey"] = message.ordering_key
    body = {"message": wrapped, "subscription": backlog.settings.name}
    attempt = backlog.attempt(entry)
    return body if attempt is None else body | {"deliveryAttempt": attempt}


def published_at(message: types.PubsubMessage) -> str:
    """Answer when a message was published, as a push says it."""
    text: str = message.publish_time.isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _token(config: types.PushConfig) -> str:
    now = int(time.time())
    email = config.oidc_token.service_account_email
    claims = {
        "iss": "https://accounts.google.com",
        "aud": config.oidc_token.audience or config.push_endpoint,
        "sub": email,
        "email": email,
        "email_verified": True,
        "iat": now,
        "exp": now + TOKEN_SECONDS,
    }
    return jwt.encode(claims, "", algorithm="none")
