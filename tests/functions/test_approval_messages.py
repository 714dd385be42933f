"""Messages to the approval handler: recorded, refused, given up, and kept."""

import base64
import gzip
import io
import json
import socket
from urllib.parse import urlsplit

import pytest
from werkzeug.test import TestResponse

from common import approval, wiring
from common.messaging.pending import Bus
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
)
from tests.support.bodies import STATUS_UPDATED, status_event
from tests.support.service import Service
from tests.support.serving import environment, served

FOREIGN = "google.cloud.storage.object.v1.finalized"

BATCH = {"Content-Type": "application/cloudevents-batch+json"}

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
def test_recorded_message_without_data_is_kept(service: Service, name: str) -> None:
    headers, body = recorded(name)
    assert post(service, headers, body).status_code == 204
    [letter] = dead_letters(service)
    assert letter["body"] == body
    assert letter["event_id"] == "2"
    assert "empty" in letter["reason"]


# Others: tests/unit/test_envelopes.py.
REFUSED: dict[str, tuple[dict[str, str], bytes, str]] = {
    "batch": (BATCH, b"[" + OWN + b"]", "the body is a batch"),
    "truncated push": ({}, raw_push(OWN)[1][:-2], "the body is not JSON"),
    "not UTF-8": ({}, OWN.replace(b"order.", b"\xff"), "the body is not JSON"),
    "gzip": (GZIP, gzip.compress(OWN), "its content-encoding is 'gzip'"),
    "a multipart form": (
        {"Content-Type": "multipart/form-data; boundary=x"},
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
        "the body is not JSON",
    ),
    "foreign": ({"ce-type": FOREIGN}, b'{"bucket":"b"}', f"says '{FOREIGN}'"),
    "wrong order": ({}, OWN.replace(b'"4"', b'"x"'), "order_id must be a numeric"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_kept_to_the_byte(service: Service, name: str) -> None:
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
def test_our_other_events_are_not_kept(service: Service, event_type: str) -> None:
    for body in (
        json.dumps({"event_type": event_type, "order_id": "no id"}).encode(),
        json.dumps({"event_type": event_type}).encode(),
    ):
        for headers, data in (({}, body), raw_push(body)):
            assert post(service, headers, data).status_code == 204
    assert dead_letters(service) == []


def status(url: str, request: bytes) -> int:
    """Send a request byte for byte; return the status."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), 20) as connection:
        connection.sendall(request)
        head = connection.makefile("rb").readline()
    return int(head.split()[1])


def test_recordings_are_taken_by_the_real_server(service: Service, user: str) -> None:
    next_order_is(service, RECORDED_ORDER)
    completed(service, user, DELIVERED)
    large = base64.b64encode(b"x" * 10_000_000)
    sizes = b"%x\r\n" % len(large), b"\r\n0\r\n\r\n"
    with served("approval_handler", environment(**service.environ)) as url:
        for name in EVENTS:
            assert status(url, recorded_bytes(name)) == 204, name
        assert is_approved(service, RECORDED_ORDER)
        assert dead_letters(service) == []
        for name in ATTRIBUTES_ONLY + GIVEN_UP:
            assert status(url, recorded_bytes(name)) == 204, name
        start = b"POST / HTTP/1.1\r\nHost: a\r\n"
        counted = b"Content-Length: %d\r\n\r\n" % len(large)
        assert status(url, start + counted + large) == 204
        in_chunks = b"Transfer-Encoding: chunked\r\n\r\n" + large.join(sizes)
        assert status(url, start + in_chunks) == 204
    letters = dead_letters(service)
    bodies = [recorded(name)[1] for name in ATTRIBUTES_ONLY + GIVEN_UP]
    kept = [letter["body"] for letter in letters]
    assert kept[:-2] == bodies
    assert all(large.startswith(start) and len(start) > 1000 for start in kept[-2:])
    assert [letter["event_id"] for letter in letters[:4]] == [
        *("2", "2"),
        *(RECORDED_EVENT, RECORDED_EVENT),
    ]
    assert {letter["reason"] for letter in letters[2:4]} == {
        "given up by the broker after 5 deliveries"
    }


def test_dead_letter_has_the_ids_that_its_message_names(service: Service) -> None:
    headers, body = recorded("unwrapped_push")
    post(service, headers, body.replace(b'"order_id":"4"', b'"order_id":"x"'))
    push = json.loads(recorded("raw_push")[1])
    del push["message"]["data"]
    post(service, {}, json.dumps(push).encode())
    for letter in dead_letters(service):
        assert letter["event_id"] == RECORDED_EVENT
        assert letter["event_type"] == STATUS_UPDATED
        assert letter["order_id"] == RECORDED_ORDER
    assert len(dead_letters(service)) == 2


def test_dead_letter_holds_no_credential_of_whoever_delivered(service: Service) -> None:
    names = (
        *("Authorization", "Cookie", "Proxy-Authorization"),
        *("X-Serverless-Authorization", "X-Goog-IAP-JWT-Assertion"),
        *("X-Apigateway-Api-Userinfo", "X-Forwarded-Authorization"),
    )
    headers = dict.fromkeys(names, "Bearer secret") | {"X-Other": "kept"}
    for path in ("/", "/dead-letters"):
        post(service, headers, b"junk", path)
    for letter in dead_letters(service):
        assert "secret" not in json.dumps(letter["headers"])
        assert letter["headers"]["x-other"] == "kept"
        assert all(name == name.lower() for name in letter["headers"])


def test_text_that_postgresql_cannot_hold_is_kept_without_it(service: Service) -> None:
    attributes = {"event_id": "a\0b", "event_type": "\0" + "x" * 999}
    message = {"message": {"attributes": attributes, "data": "e30="}}
    for path in ("/", "/dead-letters"):
        body = json.dumps(message).encode()
        assert post(service, {}, body, path).status_code == 204
    for letter in dead_letters(service):
        assert letter["event_id"] == "a\ufffdb"
        assert letter["event_type"] == "\ufffd" + "x" * 254
        assert letter["body"] == body


def test_headers_are_kept_without_what_cannot_be_stored(service: Service) -> None:
    """HTTP has none of them; AMQP may."""
    service.client("approval_handler")
    headers = {"a\0b": "c\0", "half": "\ud800", "Cookie": "secret", "other": "kept"}
    assert approval.take(wiring.engine(), headers, b"junk", Bus(())) is None
    [letter] = dead_letters(service)
    expected = {"a\ufffdb": "c\ufffd", "half": "?", "other": "kept"}
    assert letter["headers"] == expected


def chunked(service: Service, body: bytes) -> TestResponse:
    return service.call(
        "approval_handler",
        "POST",
        "/",
        input_stream=io.BytesIO(body),
        content_type="application/json",
        environ_overrides={
            "wsgi.input_terminated": True,
            "HTTP_TRANSFER_ENCODING": "chunked",
        },
    )


def test_more_than_the_platform_lets_through_is_413(service: Service) -> None:
    too_large = 32 * 1024 * 1024 + 1
    response = service.call(
        "approval_handler",
        "POST",
        "/",
        data=b"",
        environ_overrides={"CONTENT_LENGTH": str(too_large)},
    )
    assert response.status_code == 413
    assert chunked(service, b"0" * too_large).status_code == 413
    assert dead_letters(service) == []


@pytest.mark.parametrize("path", ["/dead-letters", "/dead-letters/"])
@pytest.mark.parametrize("name", GIVEN_UP)
def test_what_the_broker_gave_up_is_kept_and_not_processed(
    service: Service, user: str, name: str, path: str
) -> None:
    next_order_is(service, RECORDED_ORDER)
    completed(service, user, DELIVERED)
    headers, body = recorded(name)
    response = post(service, headers, body, path)
    assert (response.status_code, response.get_data()) == (204, b"")
    assert not is_approved(service, RECORDED_ORDER)
    [letter] = dead_letters(service)
    assert letter["reason"] == "given up by the broker after 5 deliveries"
    assert letter["source"] == "approval"
    assert letter["event_id"] == RECORDED_EVENT
    assert letter["event_type"] == STATUS_UPDATED
    assert letter["order_id"] == RECORDED_ORDER
    assert letter["body"] == body


@pytest.mark.parametrize("body", [b"", b"junk", b"\0", OWN, b'{"event_type":"x"}'])
def test_anything_the_broker_gave_up_is_kept(service: Service, body: bytes) -> None:
    assert post(service, {}, body, "/dead-letters").status_code == 204
    [letter] = dead_letters(service)
    assert letter["reason"] == "given up by the broker"
    assert letter["body"] == body


@pytest.mark.parametrize("path", ["/dead-letters/x", "/x/dead-letters", "/dead-letter"])
def test_other_paths_take_live_events(service: Service, user: str, path: str) -> None:
    order = completed(service, user, DELIVERED)
    event = json.dumps(status_event(order["id"])).encode()
    assert post(service, {}, event, path).status_code == 204
    assert is_approved(service, order["id"])
    assert dead_letters(service) == []
