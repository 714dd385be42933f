"""Google's Pub/Sub for tests: a gRPC server that Google's own client publishes to.

It keeps what it takes, in order, goes wrong as a test asks, refuses what the real one
refuses, and pushes what it has (`pubsub_push.py`).
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import grpc  # type: ignore[import-untyped]
from google.pubsub_v1 import types

from tests.support.link import LOOPBACK
from tests.support.pubsub_push import Push

PROJECT = "orders-test"
TOPIC = "order-events"
CALLS_AT_ONCE = 64
LONGEST_REQUEST = 10_000_000  # bytes
MOST_MESSAGES = 1000
LONGEST_VALUE = 1024  # bytes, of an attribute or an ordering key
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", -1),  # what is too long is to be refused by us
)
Found = TypeVar("Found")


class RefusedError(Exception):
    """A call ends with `code`."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What becomes of a publish: `delay`, then `status`, before or after it counts."""

    status: grpc.StatusCode | None
    delay: float
    is_stored: bool
    only: Callable[[types.PublishRequest], bool]


class PubSub:
    """The service, on a port that stays the same."""

    def __init__(self) -> None:
        self.requests: list[types.PublishRequest] = []  # every publish, refused or not
        self.port = 0
        self._changed = threading.Condition()
        self._topics: dict[str, list[types.PubsubMessage]] = {}
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)
        self._pushes: list[Push] = []
        self._closing = threading.Event()
        self._stop = contextlib.ExitStack()
        self._pools: list[ThreadPoolExecutor] = []
        self.topic()
        self.restore()

    @property
    def host(self) -> str:
        """Where it is, as PUBSUB_EMULATOR_HOST names it."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        """The service's variables for it."""
        return {
            "PUBSUB_EMULATOR_HOST": self.host,
            "PUBSUB_PROJECT": PROJECT,
            "PUBSUB_TOPIC": TOPIC,
        }

    def refuse(self) -> None:
        """Cut everybody off, and let nobody in until `restore`; nothing is lost."""
        self._stop.close()

    def restore(self) -> None:
        """Serve, on the port of before."""
        pool = ThreadPoolExecutor(CALLS_AT_ONCE, "pubsub")
        self._pools.append(pool)
        publish = grpc.unary_unary_rpc_method_handler(
            self._publish,
            types.PublishRequest.deserialize,
            types.PublishResponse.serialize,
        )
        handler = grpc.method_handlers_generic_handler(
            "google.pubsub.v1.Publisher", {"Publish": publish}
        )
        server = grpc.server(pool, [handler], options=_OPTIONS)
        self.port = server.add_insecure_port(self.host)
        server.start()
        self._stop.callback(server.stop, None)

    def close(self) -> None:
        """Stop for good, and wait until everything has."""
        self._closing.set()
        for push in self._pushes:
            push.close()
        self.refuse()
        for pool in self._pools:
            pool.shutdown()

    def topic(self, name: str = TOPIC) -> str:
        """Return the full name of a topic, which is made if there is none."""
        full = f"projects/{PROJECT}/topics/{name}"
        with self._changed:
            self._topics.setdefault(full, [])
        return full

    def published(self) -> list[types.PubsubMessage]:
        """Return what TOPIC has got, in order."""
        with self._changed:
            return list(self._topics[f"projects/{PROJECT}/topics/{TOPIC}"])

    def push_to(self, url: str, **settings: Any) -> None:
        """Push to `url` what TOPIC gets from now on; `settings` are `Push`'s."""
        with self._changed:
            self._pushes.append(Push(url, **settings))

    def wait_for(self, look: Callable[[], Found], seconds: float = 10) -> Found:
        """Wait until `look` returns something true, and return that."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)
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
        with self._changed:
            self._faults += [fault] * times

    def heal(self) -> None:
        """Forget the faults that have not happened."""
        with self._changed:
            self._faults.clear()

    def _publish(self, request: types.PublishRequest, context: Any) -> Any:
        try:
            return types.PublishResponse(message_ids=self._take(request))
        except RefusedError as error:
            return context.abort(error.code, str(error))

    def _take(self, request: types.PublishRequest) -> list[str]:
        with self._changed:
            self.requests.append(request)
            fault = next((f for f in self._faults if f.only(request)), None)
            if fault is None:
                return self._store(request)
            self._faults.remove(fault)
            ids = self._store(request) if fault.is_stored else None
        self._closing.wait(fault.delay)
        if fault.status is not None:
            raise RefusedError(fault.status, "ordered by the test")
        with self._changed:
            return self._store(request) if ids is None else ids

    def _store(self, request: types.PublishRequest) -> list[str]:
        if trouble := _trouble(request):
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, trouble)
        if request.topic not in self._topics:
            text = f"Resource not found (resource={request.topic})."
            raise RefusedError(grpc.StatusCode.NOT_FOUND, text)
        stored = []
        for asked in request.messages:
            message = types.PubsubMessage(types.PubsubMessage.pb(asked))
            message.message_id = str(next(self._ids))
            message.publish_time = datetime.now(UTC)
            stored.append(message)
        self._topics[request.topic] += stored
        for push in self._pushes:
            push.add(stored)
        return [message.message_id for message in stored]


def _trouble(request: types.PublishRequest) -> str | None:
    """Return why a request is refused, of which all messages go or none."""
    size = types.PublishRequest.pb(request).ByteSize()
    values = [
        value
        for message in request.messages
        for value in (message.ordering_key, *message.attributes.values())
    ]
    checks = {
        f"request_size {size} is too large": size > LONGEST_REQUEST,
        "1 to 1000 messages": not 0 < len(request.messages) <= MOST_MESSAGES,
        "one ordering key": len({m.ordering_key for m in request.messages}) > 1,
        "a long value": any(len(each.encode()) > LONGEST_VALUE for each in values),
    }
    return next((text for text, is_so in checks.items() if is_so), None)


@contextlib.contextmanager
def running_pubsub() -> Iterator[PubSub]:
    """Yield a Pub/Sub with one topic, TOPIC, and nothing in it."""
    running = PubSub()
    try:
        yield running
    finally:
        running.close()
