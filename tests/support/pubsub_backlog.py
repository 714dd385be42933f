"""What a Pub/Sub subscription holds, and who may have which message of it when.

Lives here: deadlines, redelivery, backoff, order by key, giving up. Not here: calls
(`pubsub.py`), HTTP (`pubsub_push.py`). Surprise: an acknowledged message stays while an
earlier one of its ordering key is open, because it comes again if that one does.
"""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from google.pubsub_v1 import types

from tests.support.pubsub_filters import parsed
from tests.support.pubsub_rules import completed

PUSH_PAUSE_SECONDS = 0.1  # before a refused push comes again, without a retry policy

Forward = Callable[[str, types.PubsubMessage], bool]  # to a topic


@dataclass(eq=False)
class Entry:
    """A message in a subscription."""

    number: int  # the order they came in
    message: types.PubsubMessage
    failures: int = 0
    ack_id: str = ""  # set while somebody has it
    deadline: float = 0.0  # of whoever has it
    not_before: float = 0.0  # when nobody has it
    is_acked: bool = False


class Backlog:
    """One subscription. Its owner holds a lock around every call."""

    def __init__(self, asked: types.Subscription, forward: Forward) -> None:
        self.settings = completed(asked)
        self.is_push = bool(self.settings.push_config.push_endpoint)
        self._forward = forward
        self._matches = parsed(self.settings.filter)
        self._entries: dict[int, Entry] = {}  # by number
        self._out: dict[str, Entry] = {}  # by ack id
        self._numbers = itertools.count(1)

    @property
    def open(self) -> list[types.PubsubMessage]:
        """What is not acknowledged, in the order it came."""
        return [e.message for e in self._entries.values() if not e.is_acked]

    def add(self, message: types.PubsubMessage) -> None:
        """Take a message in; one that does not match is as good as acknowledged."""
        if self._matches(message.attributes):
            entry = Entry(next(self._numbers), message)
            self._entries[entry.number] = entry

    def take(self, limit: int, seconds: float, per_key: int = 0) -> list[Entry]:
        """Hand out what is due, for so long; of one key at most `per_key`, 0 for any.

        With ordering, nothing of a key goes out before all that is out came back.
        """
        now = time.monotonic()
        closed: set[str] = set()  # keys of which there is no more, for now
        counts: Counter[str] = Counter()
        taken: list[Entry] = []
        for entry in self._entries.values():
            if len(taken) >= limit:
                break
            key = self._key(entry)
            if entry.is_acked or (key and key in closed):
                continue
            if entry.ack_id or entry.not_before > now:
                closed.add(key)
                continue
            taken.append(entry)
            counts[key] += 1
            if counts[key] == per_key:
                closed.add(key)
        for entry in taken:
            entry.ack_id = f"{self.settings.name}:{next(self._numbers)}"
            entry.deadline = now + seconds
            self._out[entry.ack_id] = entry
        return taken

    def received(self, entry: Entry) -> types.ReceivedMessage:
        """Answer a message that was taken, as a pull returns it."""
        return types.ReceivedMessage(
            ack_id=entry.ack_id,
            message=entry.message,
            delivery_attempt=self.attempt(entry) or 0,
        )

    def attempt(self, entry: Entry) -> int | None:
        """Answer which attempt it is, which is told only with a dead-letter policy."""
        return entry.failures + 1 if "dead_letter_policy" in self.settings else None

    def is_out(self, ack_id: str) -> bool:
        """Tell whether the message of this delivery is still somebody's."""
        return ack_id in self._out

    def acknowledge(self, ack_ids: Iterable[str]) -> None:
        """Be done with messages; an id that has expired does nothing."""
        for ack_id in ack_ids:
            if entry := self._out.get(ack_id):
                self._settle(entry)

    def modify(self, ack_ids: Iterable[str], seconds: float) -> None:
        """Give more time for what is out, or, with 0, have it come again."""
        for ack_id in ack_ids:
            entry = self._out.get(ack_id)
            if entry and seconds:
                entry.deadline = time.monotonic() + seconds
            elif entry:
                self._fail(entry)

    def expire(self) -> None:
        """Fail what was out for too long."""
        now = time.monotonic()
        for entry in [e for e in self._out.values() if e.deadline <= now]:
            self._fail(entry)

    def _key(self, entry: Entry) -> str:
        is_ordered = self.settings.enable_message_ordering
        return entry.message.ordering_key if is_ordered else ""

    def _come_back(self, entry: Entry) -> None:
        self._out.pop(entry.ack_id, None)
        entry.ack_id = ""

    def _settle(self, entry: Entry) -> None:
        self._come_back(entry)
        entry.is_acked = True
        key = self._key(entry)
        if not key:
            del self._entries[entry.number]
            return
        for other in [e for e in self._entries.values() if self._key(e) == key]:
            if not other.is_acked:
                break
            del self._entries[other.number]

    def _fail(self, entry: Entry) -> None:
        entry.failures += 1
        policy = self.settings.dead_letter_policy
        attempts = policy.max_delivery_attempts  # 0 without a policy
        if attempts and entry.failures >= attempts:
            letter = self._dead_letter(entry)
            if self._forward(policy.dead_letter_topic, letter):
                self._settle(entry)
                return
        self._come_back(entry)
        entry.not_before = time.monotonic() + self._backoff(entry.failures)
        if key := self._key(entry):
            for later in self._entries.values():
                if later.number > entry.number and self._key(later) == key:
                    self._come_back(later)
                    later.is_acked = False

    def _backoff(self, failures: int) -> float:
        policy = self.settings.retry_policy
        if "retry_policy" not in self.settings:
            return PUSH_PAUSE_SECONDS if self.is_push else 0
        shortest: float = policy.minimum_backoff.total_seconds()
        longest: float = policy.maximum_backoff.total_seconds()
        doubled: float = shortest * 2.0 ** min(failures - 1, 64)
        return min(longest, doubled)

    def _dead_letter(self, entry: Entry) -> types.PubsubMessage:
        _, project, _, name = self.settings.name.split("/")
        prefix = "CloudPubSubDeadLetterSource"
        published = entry.message.publish_time.isoformat(timespec="milliseconds")
        source = {
            f"{prefix}DeliveryCount": str(entry.failures),
            f"{prefix}Subscription": name,
            f"{prefix}SubscriptionProject": project,
            f"{prefix}TopicPublishTime": published,
        }
        return types.PubsubMessage(
            data=entry.message.data,
            attributes=dict(entry.message.attributes) | source,
            ordering_key=entry.message.ordering_key,
        )
