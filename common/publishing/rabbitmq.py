"""Publish to RabbitMQ's topic exchange `order_events`, with publisher confirms."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from common.config.endpoints import RabbitMQ
from common.publishing.publisher import (
    CONNECT_TIMEOUT_SECONDS,
    SHORTEST_SECONDS,
    ConnectError,
    Message,
    Outcome,
    Result,
    outcomes,
)

if TYPE_CHECKING:
    from common.publishing.rabbitmq_connection import Connection

CONFIRM_TIMEOUT_SECONDS = 5.0
BLOCKED = "the broker is short of memory or disk and takes nothing"


class RabbitMQPublisher:
    """Publishes in ordered batches, and waits for the confirms of each batch."""

    def __init__(self, broker: RabbitMQ) -> None:
        self._broker = broker
        self._connection: Connection | None = None

    def publish(self, messages: Sequence[Message], deadline: float) -> list[Outcome]:
        """Send in order; see `Publisher.publish`.

        With little time left, only connect, to find out whether that is possible.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            return outcomes(messages, {})
        try:
            connection = self._usable_connection(min(left, CONNECT_TIMEOUT_SECONDS))
        except ConnectError as error:
            end = (Result.UNAVAILABLE, str(error))
            return outcomes(messages, {messages[0].id: end})
        left = deadline - time.monotonic()
        if left < SHORTEST_SECONDS:
            return outcomes(messages, {})
        published = connection.publish(messages, min(left, CONFIRM_TIMEOUT_SECONDS))
        if connection.is_spent:
            self.close()
        return published

    def close(self) -> None:
        """Close the connection; the next `publish` opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _usable_connection(self, timeout: float) -> "Connection":
        """Return the open connection, opening it if needed; raise ConnectError.

        A blocked connection is kept, because the broker says when it is unblocked only
        to connections that have published.
        """
        # pika takes 70 ms of a cold start.
        from common.publishing.rabbitmq_connection import Connection  # noqa: PLC0415

        if self._connection is None or not self._connection.is_usable():
            self.close()
            self._connection = Connection(self._broker, timeout)
        if self._connection.is_blocked:
            raise ConnectError(BLOCKED)
        return self._connection
