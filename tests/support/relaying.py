"""Pending events and recording publishers, for tests of outbox and relay.

`let_time_pass` moves the rows' times, so that no test waits for a claim or a backoff.
"""

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from common.config import settings
from common.config.endpoints import Database
from common.database.engine import Engine, make_engine
from common.messaging.pending import PendingEvents
from common.messaging.relay import Relay
from common.publishing.publisher import Message, Outcome, Result, publish_each
from tests.support.database import execute

STATUS = "order.item.status.updated"


def database_at(url: str) -> Database:
    """Return where a URL says that the database is."""
    database = settings.load({"DATABASE_URL": url}, needs=("DATABASE",)).database
    assert isinstance(database, Database)
    return database


@contextmanager
def engine_on(url: str, pool_size: int = 4) -> Iterator[Engine]:
    """Yield the service's own engine on a database."""
    engine = make_engine(database_at(url), pool_size)
    try:
        yield engine
    finally:
        engine.dispose()


class Recorder:
    """A destination: keeps what it is sent, and answers as `answer` says."""

    def __init__(self, answer: Callable[[Message], Result] | None = None) -> None:
        self.answer = answer or (lambda _: Result.SENT)
        self.tried: list[Message] = []
        self.sent: list[Message] = []
        self._lock = threading.Lock()

    def publish(self, messages: Sequence[Message], deadline: float) -> list[Outcome]:
        return publish_each(messages, deadline, self._send)

    def close(self) -> None:
        """Nothing is open."""

    def _send(self, message: Message, _seconds: float) -> tuple[Result, str | None]:
        result = self.answer(message)
        with self._lock:
            self.tried.append(message)
            if result is Result.SENT:
                self.sent.append(message)
        return result, None if result is Result.SENT else "told so"

    @property
    def bodies(self) -> list[str]:
        """What was sent, in order."""
        return [message.body for message in self.sent]


@contextmanager
def relay_to(
    url: str, *, hold_doubtful_order_created: bool = False, **publishers: Any
) -> Iterator[Relay]:
    """Yield a relay of its own, as another instance of the service would have."""
    with engine_on(url) as engine:
        yield Relay(
            engine, publishers, hold_doubtful_order_created=hold_doubtful_order_created
        )


def hand_over(relay: Relay, order_id: int) -> None:
    """Send what one order owes, as a request does that found it owed."""
    relay.send(PendingEvents(order_id))


def owe(
    url: str, order_id: int, *bodies: str, to: str = "bus", event_type: str = STATUS
) -> None:
    """Put events into the outbox, as one transaction; a body is a word."""
    rows = ", ".join(
        f"('{to}', {order_id}, '{uuid.uuid4()}', '{event_type}', '{body}')"
        for body in bodies
    )
    columns = "destination, order_id, event_id, event_type, body"
    execute(url, f"INSERT INTO outbox ({columns}) VALUES {rows}")


def pending(url: str) -> list[str]:
    """Return the bodies of what is owed, oldest first."""
    rows = execute(url, "SELECT body FROM outbox ORDER BY id")
    return [str(body) for (body,) in rows]


def column(url: str, name: str, table: str = "outbox") -> list[Any]:
    """Return one column, oldest row first."""
    return [
        value for (value,) in execute(url, f"SELECT {name} FROM {table} ORDER BY id")
    ]


def let_time_pass(url: str) -> None:
    """Let every claim run out and every backoff pass."""
    execute(url, "UPDATE outbox SET available_at = now() - interval '1 second'")
