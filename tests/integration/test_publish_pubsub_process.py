"""Pub/Sub's client in our process: credentials, threads, descriptors, crash points."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google.auth.exceptions
import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from google.api_core import grpc_helpers
from google.api_core.exceptions import from_grpc_error

from common import failpoints
from common.config.endpoints import PubSub
from common.publishing import pubsub
from common.publishing.publisher import Message, Outcome, Result
from common.publishing.pubsub import PubSubPublisher
from tests.support.factories import message
from tests.support.link import link_to
from tests.support.pubsub import PROJECT, TOPIC, running_pubsub
from tests.support.pubsub import PubSub as Double
from tests.support.pubsub_destinations import environment

FDS = Path("/proc/self/fd")
SENT, NOT_TRIED = Result.SENT, Result.NOT_TRIED
UNCONFIRMED, UNAVAILABLE = Result.UNCONFIRMED, Result.UNAVAILABLE


@pytest.fixture
def double() -> Iterator[Double]:
    with running_pubsub() as running, environment(running.environ):
        yield running


@pytest.fixture
def publisher() -> Iterator[PubSubPublisher]:
    made = PubSubPublisher(PubSub(project=PROJECT, topic=TOPIC))
    yield made
    made.close()


def event(number: int, order_id: int = 4) -> Message:
    return message(id=number, order_id=order_id, event_id=f"e-{number}")


def publish(
    publisher: PubSubPublisher, *messages: Message, seconds: float = 20
) -> list[Outcome]:
    return publisher.publish(messages, time.monotonic() + seconds)


def send(
    publisher: PubSubPublisher, *messages: Message, seconds: float = 20
) -> list[Result]:
    return [o.result for o in publish(publisher, *messages, seconds=seconds)]


def vendors_threads() -> list[str]:
    """Return the threads that a publisher has started; the double's are named."""
    names = [thread.name for thread in threading.enumerate()]
    marks = ("PubSubBatch", "BatchPublisher", "pubsub-client", "(_run)")
    return [name for name in names if any(mark in name for mark in marks)]


# Credentials.


def test_without_credentials_it_is_unavailable_and_no_path_is_told(
    publisher: PubSubPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    reason = "DefaultCredentialsError"
    expected = [Outcome(1, UNAVAILABLE, reason), Outcome(2, NOT_TRIED)]
    assert publish(publisher, event(1), event(2, 5)) == expected


def test_with_a_key_the_real_channel_is_built_apart_and_finds_nobody(
    publisher: PubSubPublisher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without an emulator it is TLS; the port is one that nobody has."""
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    account = {
        "type": "service_account",
        "client_email": "orders@shop.example",
        "private_key": key.decode(),
        "token_uri": "https://127.0.0.1:9/token",
    }
    path = tmp_path / "key.json"
    path.write_text(json.dumps(account))
    options = []
    make = grpc_helpers.create_channel

    def create_channel(_host: str, **how: Any) -> grpc.Channel:
        options.extend(how["options"])
        return make("127.0.0.1:9", **how)

    monkeypatch.setattr(grpc_helpers, "create_channel", create_channel)
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    assert publish(publisher, event(1)) == [Outcome(1, UNAVAILABLE, "no connection")]
    assert ("grpc.use_local_subchannel_pool", 1) in options
    assert ("grpc.keepalive_time_ms", 30000) in options, "the vendor's own stay"


def test_a_search_for_credentials_that_takes_long_ends_with_the_deadline(
    publisher: PubSubPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = threading.Event()
    monkeypatch.setattr(pubsub, "_make_client", lambda: found.wait(30))
    began = time.monotonic()
    [outcome] = publish(publisher, event(1), seconds=0.8)
    assert outcome == Outcome(1, UNAVAILABLE, "no credentials in time")
    assert time.monotonic() - began < 4
    found.set()


def test_a_token_that_cannot_be_had_is_unavailable_and_in_no_doubt() -> None:
    def fail(_context: object, _callback: object) -> None:
        raise google.auth.exceptions.RefreshError("of hush.example")

    secret = grpc.composite_channel_credentials(
        grpc.local_channel_credentials(), grpc.metadata_call_credentials(fail)
    )
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_secure_port("127.0.0.1:0", grpc.local_server_credentials())
    server.start()
    with grpc.secure_channel(f"127.0.0.1:{port}", secret) as channel:
        call = channel.unary_unary("/google.pubsub.v1.Publisher/Publish")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=10)
    server.stop(None)
    error = from_grpc_error(caught.value)
    assert pubsub.meaning(error) == (UNAVAILABLE, "no credentials")


# The process it lives in.


def test_nothing_of_the_vendors_is_imported_before_it_is_used() -> None:
    ask = "import sys, common.publishing.pubsub; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", ask], check=True, capture_output=True, text=True
    )
    assert set(done.stdout.split()).isdisjoint({"google.cloud.pubsub_v1", "grpc"})


def test_the_points_of_a_crash_are_passed_in_order(
    double: Double, publisher: PubSubPublisher
) -> None:
    passed: list[tuple[str, int]] = []
    failpoints.arm(lambda name: passed.append((name, len(double.published()))))
    try:
        assert send(publisher, event(1)) == [SENT]
    finally:
        failpoints.arm(None)
    names = [name for name, _ in passed]
    assert names == [
        f"{step} pubsub {moment}"
        for step in ("publish", "confirm")
        for moment in ("before", "after")
    ]
    assert set(names) <= failpoints.NAMES
    assert (passed[0][1], passed[-1][1]) == (0, 1)


def test_a_closed_publisher_leaves_no_thread(
    double: Double, publisher: PubSubPublisher
) -> None:
    orders = [event(n, order_id=n) for n in range(50)]
    for fault in (None, grpc.StatusCode.INTERNAL):
        if fault:
            double.spoil(fault)
        send(publisher, *orders)
        publisher.close()
        double.wait_for(lambda: not vendors_threads())


@pytest.mark.skipif(not FDS.exists(), reason="counts what /proc/self/fd shows")
def test_no_way_to_lose_the_service_leaks_a_descriptor(
    double: Double, publisher: PubSubPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_it_each_way() -> None:
        link.restore()
        assert send(publisher, event(1)) == [SENT]
        link.cut()
        link.wait_until_quiet()
        assert send(publisher, event(1)) == [SENT]
        link.is_mute = True
        assert send(publisher, event(1), seconds=0.6) == [UNCONFIRMED]
        link.wait_until_quiet()
        link.refuse()
        assert send(publisher, event(1)) == [UNAVAILABLE]
        link.wait_until_quiet()

    with link_to(double.host) as link:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{link.port}")
        lose_it_each_way()
        before = len(list(FDS.iterdir()))
        for _ in range(3):
            lose_it_each_way()
        double.wait_for(lambda: len(list(FDS.iterdir())) <= before)
