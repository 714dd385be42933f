"""What Pub/Sub knows in a test, and what the test has go wrong with it.

Lives here: topics, subscriptions, publishing, faults. Not here: the server
(`pubsub.py`, whose PubSub this is the larger half of) and its calls
(`pubsub_calls.py`), delivery (`pubsub_backlog.py`). Surprise: one lock, `changed`, is
around everything; nobody holds it while waiting for somebody else's answer.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import grpc  # type: ignore[import-untyped]
from google.pubsub_v1 import types

from tests.support import pubsub_rules as rules
from tests.support.pubsub_backlog import Backlog
from tests.support.pubsub_push import TICK_SECONDS, Pusher

PROJECT = "orders-test"
TOPIC = "order-events"
DELETED_TOPIC = "_deleted-topic_"
Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What becomes of a publish: `delay`, then `status`, before or after it counts."""

    status: grpc.StatusCode | None
    delay: float
    is_stored: bool
    only: Callable[[types.PublishRequest], bool]


class State:
    """Topics and subscriptions, and what is wrong with them."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.requests: list[types.PublishRequest] = []  # every publish, refused or not
        self.threads: list[threading.Thread] = []  # that end with the calls they serve
        self._topics: dict[str, list[types.PubsubMessage]] = {}
        self._backlogs: dict[str, Backlog] = {}
        self._pushers: dict[str, Pusher] = {}
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)
        self.closing = threading.Event()  # whoever waits is to stop

    def topic(self, name: str = TOPIC, project: str = PROJECT) -> str:
        """Answer the full name of a topic, which is made if there is none."""
        full = name if "/" in name else f"projects/{project}/topics/{name}"
        with self.changed:
            self._topics.setdefault(full, [])
        return full

    def subscription(self, name: str, topic: str = TOPIC, **settings: Any) -> str:
        """Make a subscription with these fields of `types.Subscription`."""
        full = f"projects/{PROJECT}/subscriptions/{name}"
        self.subscribe(
            types.Subscription(name=full, topic=self.topic(topic), **settings)
        )
        return full

    def published(self, topic: str = TOPIC) -> list[types.PubsubMessage]:
        """Answer what a topic has got, in order."""
        full = topic if "/" in topic else f"projects/{PROJECT}/topics/{topic}"
        with self.changed:
            self.expire()
            return list(self._topics.get(full, []))

    def unacknowledged(self, subscription: str) -> list[types.PubsubMessage]:
        """Answer what a subscription, by its full name, still has to deliver."""
        with self.changed:
            self.expire()
            return self.backlog(subscription).open

    def wait_for(self, look: Callable[[], Found], seconds: float = 10) -> Found:
        """Wait until `look` answers something true, and answer that."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert time.monotonic() < deadline, "it did not happen in time"
            with self.changed:
                self.changed.wait(TICK_SECONDS)
        return found

    def spoil(
        self,
        status: grpc.StatusCode | None = None,
        *,
        times: int = 1,
        delay: float = 0.0,
        is_stored: bool = False,
        only: Callable[[types.PublishRequest], bool] = lambda _: True,
    ) -> None:
        """Have the next `times` publishes (`only` those) wait, and end with `status`.

        With `is_stored` the messages are in before that: the answer is what is lost.
        """
        fault = Fault(status=status, delay=delay, is_stored=is_stored, only=only)
        with self.changed:
            self._faults += [fault] * times

    def heal(self) -> None:
        """Forget the faults that have not happened."""
        with self.changed:
            self._faults.clear()

    def subscribe(self, asked: types.Subscription) -> types.Subscription:
        """Make a subscription; raises RefusedError."""
        with self.changed:
            if asked.name in self._backlogs:
                raise rules.taken(asked.name)
            backlog = Backlog(asked, self._forward)
            letters = backlog.settings.dead_letter_policy.dead_letter_topic
            for topic in (asked.topic, letters or asked.topic):
                self.check_topic(topic)
            self._backlogs[asked.name] = backlog
            if backlog.is_push:
                self._pushers[asked.name] = Pusher(backlog, self.changed)
            return backlog.settings

    def unsubscribe(self, name: str) -> None:
        """Delete a subscription; raises RefusedError."""
        with self.changed:
            self.backlog(name)
            del self._backlogs[name]
            pusher = self._pushers.pop(name, None)
        if pusher:
            pusher.close()

    def backlog(self, name: str) -> Backlog:
        """Answer a subscription; raises RefusedError."""
        if name not in self._backlogs:
            raise rules.missing(name)
        return self._backlogs[name]

    def acknowledge(self, subscription: str, ack_ids: Iterable[str]) -> None:
        """Be done with messages that are out; raises RefusedError."""
        with self.changed:
            self.expire()
            self.backlog(subscription).acknowledge(ack_ids)
            self.changed.notify_all()

    def modify(self, subscription: str, ack_ids: Iterable[str], seconds: int) -> None:
        """Give more time, or none, to messages that are out; raises RefusedError."""
        rules.check_extension(seconds)
        with self.changed:
            self.expire()
            self.backlog(subscription).modify(ack_ids, seconds)
            self.changed.notify_all()

    def expire(self) -> None:
        """See to deadlines that have passed."""
        for backlog in self._backlogs.values():
            backlog.expire()

    def names(self, project: str) -> list[str]:
        """Answer the full names of a project's topics, `projects/{id}`."""
        with self.changed:
            return sorted(n for n in self._topics if n.startswith(f"{project}/"))

    def make_topic(self, name: str) -> None:
        """Make a topic; raises RefusedError."""
        rules.check_name(name, "topics")
        with self.changed:
            if name in self._topics:
                raise rules.taken(name)
            self._topics[name] = []

    def check_topic(self, name: str) -> None:
        """Raise RefusedError when there is no such topic."""
        if name not in self._topics:
            raise rules.missing(name)

    def drop_topic(self, name: str) -> None:
        """Delete a topic, whose subscriptions stay; raises RefusedError."""
        with self.changed:
            self.check_topic(name)
            del self._topics[name]
            for backlog in self._backlogs.values():
                if backlog.settings.topic == name:
                    backlog.settings.topic = DELETED_TOPIC

    def publish(self, request: types.PublishRequest) -> list[str]:
        """Take messages in, or do what was ordered instead; raises RefusedError."""
        with self.changed:
            self.requests.append(request)
            fault = next((f for f in self._faults if f.only(request)), None)
            if fault is None:
                return self._store(request)
            self._faults.remove(fault)
            ids = self._store(request) if fault.is_stored else None
        self.closing.wait(fault.delay)
        if fault.status is not None:
            raise rules.RefusedError(fault.status, "ordered by the test")
        with self.changed:
            return self._store(request) if ids is None else ids

    def close(self) -> None:
        """Push no more."""
        self.closing.set()
        for pusher in self._pushers.values():
            pusher.close()

    def _store(self, request: types.PublishRequest) -> list[str]:
        rules.check_publish(request)
        self.check_topic(request.topic)
        return [self._add(request.topic, message) for message in request.messages]

    def _forward(self, topic: str, message: types.PubsubMessage) -> bool:
        """Publish what a subscription has given up; tell whether it is there."""
        if topic not in self._topics:
            return False
        self._add(topic, message)
        return True

    def _add(self, topic: str, asked: types.PubsubMessage) -> str:
        message = types.PubsubMessage(types.PubsubMessage.pb(asked))
        message.message_id = str(next(self._ids))
        message.publish_time = datetime.now(UTC)
        self._topics[topic].append(message)
        for backlog in self._backlogs.values():
            if backlog.settings.topic == topic:
                backlog.add(message)
        self.changed.notify_all()
        return str(message.message_id)
