"""Google's Pub/Sub for tests: a gRPC server for the official clients, all in memory.

Lives here: the server and its port. Not here: what is in it and what goes wrong with
it (`pubsub_state.py`), calls, delivery, push, filters and limits (`pubsub_*.py`), and
Google's own emulator (`pubsub_emulator.py`). Surprise: backoffs and ack deadlines are
real seconds, so a test asks for backoffs below one and shortens deadlines by
ModifyAckDeadline, as the real service lets it.
"""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc  # type: ignore[import-untyped]

from tests.support.pubsub_calls import handlers
from tests.support.pubsub_state import PROJECT, TOPIC, State

LOOPBACK = "127.0.0.1"
CALLS_AT_ONCE = 64
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", -1),  # what is too long is to be refused by us
    ("grpc.max_send_message_length", -1),
)


class PubSub(State):
    """The service, on a port that stays the same."""

    def __init__(self) -> None:
        super().__init__()
        self.port = 0
        self._stop = contextlib.ExitStack()
        self._pools: list[ThreadPoolExecutor] = []
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
        server = grpc.server(pool, handlers(self), options=_OPTIONS)
        self.port = server.add_insecure_port(self.host)
        server.start()
        self._stop.callback(server.stop, None)

    def close(self) -> None:
        """Stop for good, and wait until everything has."""
        self.closing.set()
        self.refuse()
        for pool in self._pools:
            pool.shutdown()
        for thread in self.threads:
            thread.join()
        super().close()


@contextlib.contextmanager
def running_pubsub() -> Iterator[PubSub]:
    """Yield a Pub/Sub with one topic, TOPIC, and nothing in it."""
    running = PubSub()
    try:
        running.topic()
        yield running
    finally:
        running.close()
