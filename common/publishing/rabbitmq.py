"""Publishes to RabbitMQ's topic exchange `order_events`, with publisher confirms.

Lives here: when a link is opened, kept and given up. Not here: the link itself
(`rabbitmq_link.py`), queues, which belong to their consumers. Surprise: a broker that
is short of memory or disk stops reading; its link is kept, because only who has
published is told when that is over.
"""

import time
from collections.abc import Iterable, Sequence

from common.endpoints import RabbitMQ
from common.publishing import SHORTEST_SECONDS, Message, Outcome, Result
from common.publishing.rabbitmq_link import CONNECT_TIMEOUT_SECONDS, Link, LinkError

CONFIRM_TIMEOUT_SECONDS = 5.0
BLOCKED = "the broker is short of memory or disk and takes nothing"


class RabbitMQPublisher:
    """Publishes what may go together at once, and waits for those confirms together."""

    def __init__(self, broker: RabbitMQ) -> None:
        self._broker = broker
        self._link: Link | None = None

    def publish(self, messages: Sequence[Message], deadline: float) -> list[Outcome]:
        """Send in order; see `Publisher.publish`.

        With little time left it only opens the link, and so tells whether one can.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            return _all_not_tried(messages)
        try:
            link = self._usable_link(min(left, CONNECT_TIMEOUT_SECONDS))
        except LinkError as error:
            lost = Outcome(messages[0].id, Result.UNAVAILABLE, str(error))
            return [lost, *_all_not_tried(messages[1:])]
        left = deadline - time.monotonic()
        if left < SHORTEST_SECONDS:
            return _all_not_tried(messages)
        outcomes = link.send(messages, min(left, CONFIRM_TIMEOUT_SECONDS))
        if link.is_spent:
            self.close()
        return outcomes

    def _usable_link(self, patience: float) -> Link:
        """Answer the open link, opening it if need be; raises LinkError."""
        if self._link is None or self._link.has_closed():
            self.close()
            self._link = Link(self._broker, patience)
        if self._link.is_blocked:
            raise LinkError(BLOCKED)
        return self._link

    def close(self) -> None:
        """Close the link; the next `publish` opens another."""
        link, self._link = self._link, None
        if link is not None:
            link.close()


def _all_not_tried(messages: Iterable[Message]) -> list[Outcome]:
    return [Outcome(message.id, Result.NOT_TRIED) for message in messages]
