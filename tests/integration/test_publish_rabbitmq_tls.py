"""TLS to RabbitMQ: whom it believes, and that nothing is said to anybody else."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from common.config.endpoints import RabbitMQ
from common.config.settings import load
from common.publishing.publisher import Outcome, Result
from common.publishing.rabbitmq import RabbitMQPublisher
from common.publishing.rabbitmq_connection import connection_parameters
from infra.local.broker import SiblingsConsumer
from infra.local.sandbox.event_sink import Event
from tests.support.factories import message
from tests.support.rabbitmq import Broker
from tests.support.tls import Front, Identity, identity, tls_to

CREATED = "order.created"


@pytest.fixture(scope="module")
def localhost(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return identity(tmp_path_factory.mktemp("localhost"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return identity(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def front(
    rabbitmq_server: Broker,
    rabbitmq_channel: BlockingChannel,  # noqa: ARG001 clean queues
    localhost: Identity,
) -> Iterator[Front]:
    with tls_to(rabbitmq_server.port, localhost) as front:
        yield front


def settings(
    broker: Broker, front: Front, ca_file: str | None, host: str = "localhost"
) -> RabbitMQ:
    environ = broker.environ | {
        "RABBITMQ_HOST": host,
        "RABBITMQ_PORT": str(front.port),
        "RABBITMQ_TLS": "true",
        "RABBITMQ_CA_FILE": ca_file or "",
    }
    found = load(environ, needs=()).rabbitmq
    assert found
    return found


@contextmanager
def publisher_to(broker: RabbitMQ) -> Iterator[RabbitMQPublisher]:
    publisher = RabbitMQPublisher(broker)
    yield publisher
    publisher.close()


def send(publisher: RabbitMQPublisher, body: str = "a") -> Outcome:
    sent = message(type=CREATED, event_id=body[:1], body=body)
    [outcome] = publisher.publish([sent], time.monotonic() + 10)
    return outcome


def bodies(channel: BlockingChannel) -> list[bytes]:
    taken = []
    while True:
        delivery, _, body = channel.basic_get("product_events", auto_ack=True)
        if delivery is None:
            return taken
        taken.append(body)


def test_events_go_out_over_one_tls_link_and_another_where_that_was_cut(
    rabbitmq_server: Broker,
    rabbitmq_channel: BlockingChannel,
    front: Front,
    localhost: Identity,
) -> None:
    large = "ä" * 500_000
    with publisher_to(settings(rabbitmq_server, front, localhost.ca_file)) as publisher:
        assert send(publisher, "a").result is Result.SENT
        assert send(publisher, large).result is Result.SENT
        assert front.handshakes == 1
        front.cut()
        time.sleep(0.1)
        assert send(publisher, "b").result is Result.SENT
    assert front.handshakes == 2
    assert bodies(rabbitmq_channel) == [b"a", large.encode(), b"b"]


@pytest.mark.usefixtures("rabbitmq_channel")  # its queues are what events are bound to
def test_a_url_with_amqps_speaks_tls(
    rabbitmq_server: Broker, front: Front, localhost: Identity
) -> None:
    login = f"{rabbitmq_server.user}:{rabbitmq_server.password}"
    vhost = quote(rabbitmq_server.vhost, safe="")
    url = f"amqps://{login}@localhost:{front.port}/{vhost}"
    environ = {"RABBITMQ_URL": url, "RABBITMQ_CA_FILE": localhost.ca_file}
    found = load(environ, needs=()).rabbitmq
    assert found
    with publisher_to(found) as publisher:
        assert send(publisher).result is Result.SENT


def test_nobody_is_believed_but_who_has_the_name_and_the_authority_that_were_named(
    rabbitmq_server: Broker,
    rabbitmq_channel: BlockingChannel,
    front: Front,
    localhost: Identity,
    stranger: Identity,
) -> None:
    for ca_file, host, reason in (
        (None, "localhost", "CERTIFICATE_VERIFY_FAILED"),
        (stranger.ca_file, "localhost", "CERTIFICATE_VERIFY_FAILED"),
        (localhost.ca_file, "127.0.0.1", "127.0.0.1"),
    ):
        with publisher_to(settings(rabbitmq_server, front, ca_file, host)) as publisher:
            outcome = send(publisher)
        assert outcome.result is Result.UNAVAILABLE
        assert reason in (outcome.reason or "")
    assert front.handshakes == 0
    assert bodies(rabbitmq_channel) == []


def test_a_broker_that_speaks_no_tls_is_not_spoken_to_without(
    rabbitmq_server: Broker, front: Front, tmp_path: Path
) -> None:
    shown = identity(tmp_path)
    front.port = rabbitmq_server.port
    broker = settings(rabbitmq_server, front, shown.ca_file)
    with publisher_to(broker) as publisher:
        assert send(publisher).result is Result.UNAVAILABLE
    Path(shown.ca_file).unlink()
    with publisher_to(broker) as publisher:
        outcome = send(publisher)
    assert outcome.result is Result.UNAVAILABLE
    assert "FileNotFoundError" in (outcome.reason or "")


class Heard:
    """Stands for the sandbox's event sink."""

    def __init__(self) -> None:
        self.by: list[str] = []

    def accept(self, _event: Event, queue: str) -> None:
        self.by.append(queue)


def test_consumers_connect_by_the_same_settings(
    rabbitmq_server: Broker,
    rabbitmq_channel: BlockingChannel,
    front: Front,
    localhost: Identity,
) -> None:
    broker = settings(rabbitmq_server, front, localhost.ca_file)
    pika.BlockingConnection(connection_parameters(broker)).close()
    heard = Heard()
    siblings = SiblingsConsumer(broker, heard)  # type: ignore[arg-type]
    siblings.start()
    with publisher_to(broker) as publisher:
        assert send(publisher).result is Result.SENT
    deadline = time.monotonic() + 20
    while len(heard.by) < 2:
        assert time.monotonic() < deadline, "nobody took it"
        time.sleep(0.05)
    siblings.stop()
    assert sorted(heard.by) == ["product", "shopcart"]
    assert front.handshakes == 3
    assert bodies(rabbitmq_channel) == []
