"""Recorded envelopes into the approval handler, and what it can never understand."""

import base64
import gzip
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from tests.support.approvals import (
    ATTRIBUTES_ONLY,
    DELIVERED,
    EVENTS,
    GIVEN_UP,
    RECORDED_EVENT,
    RECORDED_ORDER,
    completed,
    dead_letters,
    is_approved,
    next_order_is,
    raw_push,
    recorded,
    recorded_bytes,
    sendable,
    spoiled,
    status_event,
)
from tests.support.service import Service

CHECKOUT = Path(__file__).parents[2]
FOREIGN = "google.cloud.storage.object.v1.finalized"
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
STRUCTURED = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
GZIP = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
OWN = json.dumps(status_event(RECORDED_ORDER)).encode()


def post(
    service: Service, headers: dict[str, str], body: bytes, path: str = "/"
) -> TestResponse:
    return service.call(
        "approval_handler", "POST", path, headers=sendable(headers), data=body
    )


@pytest.mark.parametrize("name", EVENTS)
def test_the_recorded_order_is_approved_whatever_envelope_its_event_is_in(
    service: Service, user: str, name: str
) -> None:
    next_order_is(service, RECORDED_ORDER)
    assert completed(service, user, DELIVERED)["id"] == RECORDED_ORDER
    response = post(service, *recorded(name))
    assert (response.status_code, response.get_data()) == (204, b"")
    assert is_approved(service, RECORDED_ORDER)
    assert len(service.sandbox.completed_orders) == 1
    assert dead_letters(service) == []


@pytest.mark.parametrize("name", ATTRIBUTES_ONLY)
def test_a_recorded_message_without_data_is_kept_as_it_came(
    service: Service, name: str
) -> None:
    headers, body = recorded(name)
    assert post(service, headers, body).status_code == 204
    [letter] = dead_letters(service)
    assert letter["body"] == body
    assert letter["event_id"] == "2"
    assert "empty" in letter["reason"]


REFUSED: dict[str, tuple[dict[str, str], bytes, str]] = {
    "batch": (BATCH, b"[" + OWN + b"]", "the body is a batch"),
    "array": (GZIP, b"[" + OWN + b"]", "the body is an array"),
    "truncated": ({}, OWN[:-2], "the body is not JSON"),
    "truncated push": ({}, raw_push(OWN)[1][:-2], "the body is not JSON"),
    "truncated structured": (STRUCTURED, b'{"specversion":"1.0"', "is not JSON"),
    "truncated base64": ({}, b'{"message":{"data":"e30"}}', "message.data must be"),
    "not UTF-8": ({}, OWN.replace(b"order.", b"\xff"), "the body is not JSON"),
    "UTF-16": ({}, OWN.decode().encode("utf-16"), "the body is not JSON"),
    "gzip": (GZIP, gzip.compress(OWN), "its content-encoding is 'gzip'"),
    "a form": (
        {"Content-Type": "application/x-www-form-urlencoded"},
        b"event_type=order.item.status.updated&order_id=4",
        "the body is not JSON",
    ),
    "a multipart form": (
        {"Content-Type": "multipart/form-data; boundary=x"},
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
        "the body is not JSON",
    ),
    "foreign": ({"ce-type": FOREIGN}, b'{"bucket":"b"}', f"says '{FOREIGN}'"),
    "foreign body": ({}, b'{"event_type":"x.y"}', "event_type 'x.y' is foreign"),
    "wrong type": ({}, b'{"event_type":["x"]}', "event_type must be a string"),
    "wrong order": ({}, OWN.replace(b'"4"', b'"x"'), "order_id must be a numeric"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_acknowledged_and_kept_to_the_byte(
    service: Service, name: str
) -> None:
    headers, body, reason = REFUSED[name]
    response = post(service, headers, body)
    assert (response.status_code, response.get_data()) == (204, b"")
    [letter] = dead_letters(service)
    assert letter["source"] == "approval"
    assert letter["body"] == body
    assert reason in letter["reason"]
    kept = {k: letter["headers"].get(k.lower()) for k in headers}
    assert kept == headers


@pytest.mark.parametrize(
    "event_type",
    ["order.created", "order.item.created", "order.approved", "order.deleted"],
)
def test_our_own_other_events_are_acknowledged_and_not_kept(
    service: Service, event_type: str
) -> None:
    for body in (
        json.dumps({"event_type": event_type, "order_id": "no id"}).encode(),
        json.dumps({"event_type": event_type}).encode(),
    ):
        for headers, data in (({}, body), raw_push(body)):
            assert post(service, headers, data).status_code == 204
    assert dead_letters(service) == []


def test_whatever_is_done_to_a_message_it_never_comes_back(service: Service) -> None:
    answers = [
        post(
            service, headers, body, "/dead-letters" if n % 10 == 0 else "/"
        ).status_code
        for n, (headers, body) in enumerate(spoiled(seed=4, count=120))
    ]
    assert answers == [204] * 120
    assert 40 < len(dead_letters(service)) < 110


# As the platform starts it: the functions framework, and gunicorn.


@contextmanager
def served(service: Service) -> Iterator[int]:
    """Start the function in a process of its own; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    framework = str(Path(sys.executable).with_name("functions-framework"))
    source = "functions/approval_handler/main.py"
    place = ["--host", "127.0.0.1", "--port", str(port)]
    needed = ("DATABASE_URL", "EVENT_BUS", "EVENT_SINK_URL")
    environ = {name: service.environ[name] for name in needed}
    environ |= {"PATH": os.defpath, "PYTHONPATH": str(CHECKOUT)}
    command = [framework, "--source", source, "--target", "approval_handler", *place]
    process = subprocess.Popen(command, cwd=CHECKOUT, env=environ)
    try:
        deadline = time.monotonic() + 60
        while status(port, b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n") != 200:
            assert process.poll() is None, "it ended"
            assert time.monotonic() < deadline, "it does not answer"
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def status(port: int, request: bytes) -> int | None:
    """Send a request byte for byte; answer the status, None where nobody listens."""
    try:
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(request)
            head = connection.makefile("rb").readline()
    except ConnectionError:
        return None
    return int(head.split()[1])


def test_recordings_are_taken_byte_for_byte_by_the_server_of_the_platform(
    service: Service, user: str
) -> None:
    next_order_is(service, RECORDED_ORDER)
    completed(service, user, DELIVERED)
    large = base64.b64encode(b"x" * 10_000_000)
    sizes = b"%x\r\n" % len(large), b"\r\n0\r\n\r\n"
    with served(service) as port:
        for name in EVENTS:
            assert status(port, recorded_bytes(name)) == 204, name
        assert is_approved(service, RECORDED_ORDER)
        assert dead_letters(service) == []
        for name in ATTRIBUTES_ONLY + GIVEN_UP:
            assert status(port, recorded_bytes(name)) == 204, name
        start = b"POST / HTTP/1.1\r\nHost: a\r\n"
        counted = b"Content-Length: %d\r\n\r\n" % len(large)
        assert status(port, start + counted + large) == 204
        in_chunks = b"Transfer-Encoding: chunked\r\n\r\n" + large.join(sizes)
        assert status(port, start + in_chunks) == 204
    letters = dead_letters(service)
    bodies = [recorded(name)[1] for name in ATTRIBUTES_ONLY + GIVEN_UP]
    assert [letter["body"] for letter in letters] == [*bodies, large, large]
    assert [letter["event_id"] for letter in letters[:4]] == [
        *("2", "2"),
        *(RECORDED_EVENT, RECORDED_EVENT),
    ]
    assert {letter["reason"] for letter in letters[2:4]} == {
        "given up by the broker after 5 deliveries"
    }
