"""A real RabbitMQ for tests: found, or installed and started, and kept clean.

Exchange and queues have fixed names, so each test process has a vhost of its own where
root can make one; elsewhere an exclusive queue is the lock.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError, ChannelClosedByBroker

from tests.support import debian, processes

EXCHANGE = "order_events"
# What the siblings declare, to the letter of the contract: durable, no arguments.
SIBLINGS_QUEUES = {
    "product_events": "order.created",
    "shopcart_events": "order.created",
    "shop_order_items_queue": "order.item.created",
}
OWN_DEAD_LETTERS = "order_approval.dead"
OWN_QUEUES = ("order_approval", OWN_DEAD_LETTERS)
LOCK = "order_service_tests"
OWN_VHOST = "order-service-tests-of-"  # and the process's number
LOCK_SECONDS = 150
START_SECONDS = 60


class NoRabbitMQError(Exception):
    """No RabbitMQ can be had; the message is one line that says why."""


@dataclass(frozen=True, kw_only=True)
class Broker:
    """Where RabbitMQ is."""

    host: str = "127.0.0.1"
    port: int = 5672
    user: str = "guest"
    password: str = "guest"
    vhost: str = "/"

    @property
    def environ(self) -> dict[str, str]:
        """The service's variables for it."""
        return {
            "RABBITMQ_HOST": self.host,
            "RABBITMQ_PORT": str(self.port),
            "RABBITMQ_USER": self.user,
            "RABBITMQ_PASS": self.password,
            "RABBITMQ_VHOST": self.vhost,
        }

    def connect(self) -> pika.BlockingConnection:
        """Open a connection, which is the caller's to close."""
        return pika.BlockingConnection(
            pika.ConnectionParameters(
                host=self.host,
                port=self.port,
                virtual_host=self.vhost,
                credentials=pika.PlainCredentials(self.user, self.password),
                blocked_connection_timeout=10,
                socket_timeout=5,
            )
        )


@contextmanager
def broker() -> Iterator[Broker]:
    """Yield the one of TEST_RABBITMQ_URL or of this machine, else start one.

    Starting needs root and a Debian package, which is installed when it is absent;
    what was started is stopped again. Raise NoRabbitMQError.
    """
    found = _named()
    why = trouble(found)
    if why is None:
        with _own_vhost(found) as own:
            yield own
        return
    if "TEST_RABBITMQ_URL" in os.environ or not debian.may_install():
        raise NoRabbitMQError(
            f"no RabbitMQ on {found.host}:{found.port} ({why}), and it can be installed"
            " and started only by root on Debian or Ubuntu: set TEST_RABBITMQ_URL"
        )
    _start()
    try:
        _wait_until_up(found)
        with _own_vhost(found) as own:
            yield own
    finally:
        shutdown = [_program("rabbitmqctl"), "shutdown"]
        subprocess.run(shutdown, check=False, capture_output=True)


def _named() -> Broker:
    parts = urlsplit(os.environ.get("TEST_RABBITMQ_URL", ""))
    return Broker(
        host=parts.hostname or Broker.host,
        port=parts.port or Broker.port,
        user=unquote(parts.username or Broker.user),
        password=unquote(parts.password or Broker.password),
        vhost=unquote(parts.path.removeprefix("/")) or Broker.vhost,
    )


@contextmanager
def _own_vhost(found: Broker) -> Iterator[Broker]:
    """Yield the broker with a vhost of this process's own, or else as it is.

    Only root may make one, and only on the node that rabbitmqctl finds by itself, which
    need not be the one that answers on our port.
    """
    vhosts = None if "TEST_RABBITMQ_URL" in os.environ else _ctl("list_vhosts")
    if vhosts is None:
        yield found
        return
    pids = processes.running()
    for name in vhosts.split():  # of test runs that were killed
        pid = name.removeprefix(OWN_VHOST)
        if pid != name and int(pid) not in pids:
            _ctl("delete_vhost", name)
    own = replace(found, vhost=f"{OWN_VHOST}{os.getpid()}")
    _ctl("add_vhost", own.vhost)
    try:
        _ctl("set_permissions", "--vhost", own.vhost, own.user, ".*", ".*", ".*")
        yield found if trouble(own) else own
    finally:
        _ctl("delete_vhost", own.vhost)


def _ctl(*arguments: str) -> str | None:
    """Return what rabbitmqctl says; None where it may not be used, or refuses."""
    program = _program("rabbitmqctl")
    if os.geteuid() or not Path(program).exists():
        return None
    command = [program, "--quiet", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return None if done.returncode else done.stdout


def trouble(candidate: Broker) -> str | None:
    """Return why the broker does not serve us, in a word; None when it does."""
    try:
        candidate.connect().close()
    except (AMQPError, OSError) as error:
        return type(error).__name__
    return None


def _program(name: str) -> str:
    # Debian's are in /usr/sbin, which is not on everybody's path.
    return shutil.which(name) or f"/usr/sbin/{name}"


def install() -> None:
    """Install Debian's package where there is none; raise NoRabbitMQError."""
    try:
        debian.install("rabbitmq-server", _program("rabbitmq-server"))
    except debian.InstallError as error:
        raise NoRabbitMQError(f"no RabbitMQ: {error}") from error


def _start() -> None:
    install()
    # The package starts a service where it can; a second start then does nothing.
    subprocess.run(
        [_program("rabbitmq-server"), "-detached"], check=False, capture_output=True
    )


def _wait_until_up(started: Broker) -> None:
    deadline = time.monotonic() + START_SECONDS
    while why := trouble(started):
        if time.monotonic() > deadline:
            raise NoRabbitMQError(
                f"RabbitMQ was started and does not answer within {START_SECONDS} s"
                f" ({why})"
            )
        time.sleep(0.5)


@contextmanager
def clean_topology(where: Broker) -> Iterator[BlockingChannel]:
    """Hold exchange and queues for one test, empty before and after.

    Yields a channel; our own queues, which the service declares, are removed.
    """
    with closing(where.connect()) as connection:
        channel = _lock(connection)
        _declare(channel)
        yield channel
        # The test may have broken the channel, which is its right.
        _declare(channel if channel.is_open else connection.channel())


def _lock(connection: pika.BlockingConnection) -> BlockingChannel:
    """Wait for other test runs on this machine; released when the connection ends."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        channel = connection.channel()
        try:
            channel.queue_declare(LOCK, exclusive=True)
        except ChannelClosedByBroker:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return channel


def _declare(channel: BlockingChannel) -> None:
    channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
    for queue, routing_key in SIBLINGS_QUEUES.items():
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, EXCHANGE, routing_key)
        channel.queue_purge(queue)
    for queue in OWN_QUEUES:
        channel.queue_delete(queue)
    channel.exchange_delete(OWN_DEAD_LETTERS)


def cannot_have(error: NoRabbitMQError) -> NoReturn:
    """Skip the test that needed it, or fail it where services are required."""
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))
