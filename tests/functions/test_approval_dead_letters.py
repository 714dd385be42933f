"""Approval's dead letters: what they keep, how large, and what the broker gave up."""

import io
import json

import pytest
from werkzeug.test import TestResponse

from common import approval, wiring
from common.owed import Bus
from tests.support.approvals import (
    DELIVERED,
    GIVEN_UP,
    RECORDED_EVENT,
    RECORDED_ORDER,
    STATUS_UPDATED,
    completed,
    dead_letters,
    is_approved,
    next_order_is,
    raw_push,
    recorded,
    sendable,
    status_event,
)
from tests.support.link import link_to
from tests.support.service import Service

OWN = json.dumps(status_event(RECORDED_ORDER)).encode()


def post(
    service: Service, headers: dict[str, str], body: bytes, path: str = "/"
) -> TestResponse:
    return service.call(
        "approval_handler", "POST", path, headers=sendable(headers), data=body
    )


def test_a_dead_letter_can_be_found_by_what_the_message_says_of_itself(
    service: Service,
) -> None:
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


def test_a_dead_letter_holds_no_credential_of_whoever_delivered(
    service: Service,
) -> None:
    names = (
        "Authorization",
        "Cookie",
        "Proxy-Authorization",
        "X-Serverless-Authorization",
        "X-Goog-IAP-JWT-Assertion",
        "X-Apigateway-Api-Userinfo",
        "X-Forwarded-Authorization",
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


def test_headers_that_postgresql_cannot_hold_are_kept_without_it(
    service: Service,
) -> None:
    """HTTP has none of them; AMQP may."""
    service.client("approval_handler")
    headers = {"a\0b": "c\0", "half": "\ud800", "Cookie": "secret", "other": "kept"}
    assert approval.take(wiring.engine(), headers, b"junk", Bus(())) is None
    [letter] = dead_letters(service)
    expected = {"a\ufffdb": "c\ufffd", "half": "?", "other": "kept"}
    assert letter["headers"] == expected


# Too large for other functions: Pub/Sub has messages of 10 MB, and base64 adds a third.

LARGE = 14_000_000


def test_a_large_event_is_processed(service: Service, user: str) -> None:
    order = completed(service, user, DELIVERED)
    event = json.dumps(status_event(order["id"], padding="x" * 10_000_000)).encode()
    headers, body = raw_push(event)
    assert len(body) > 13_000_000
    assert post(service, headers, body).status_code == 204
    assert is_approved(service, order["id"])


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


def test_a_large_foreign_body_is_kept_whole(service: Service) -> None:
    body = b"0" * LARGE
    assert post(service, {}, body).status_code == 204
    assert chunked(service, body).status_code == 204
    assert [letter["body"] == body for letter in dead_letters(service)] == [True, True]


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


# What the broker has given up.


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
def test_whatever_else_the_broker_gave_up_is_kept_as_well(
    service: Service, body: bytes
) -> None:
    assert post(service, {}, body, "/dead-letters").status_code == 204
    [letter] = dead_letters(service)
    assert letter["reason"] == "given up by the broker"
    assert letter["body"] == body


@pytest.mark.parametrize("path", ["/dead-letters/x", "/x/dead-letters", "/dead-letter"])
def test_only_that_very_path_takes_what_was_given_up(
    service: Service, user: str, path: str
) -> None:
    order = completed(service, user, DELIVERED)
    event = json.dumps(status_event(order["id"])).encode()
    assert post(service, {}, event, path).status_code == 204
    assert is_approved(service, order["id"])
    assert dead_letters(service) == []


def test_nothing_but_post_is_allowed(service: Service) -> None:
    for path in ("/", "/dead-letters", "/dead-letters/", "/x"):
        for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE"):
            response = service.call("approval_handler", method, path)
            assert response.status_code == 405
            assert set(response.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


def test_options_tell_so(service: Service) -> None:
    for path in ("/", "/dead-letters", "/x"):
        response = service.call("approval_handler", "OPTIONS", path)
        assert response.status_code == 200
        assert set(response.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


def test_without_the_database_both_ask_for_a_redelivery(service: Service) -> None:
    with link_to(service.environ["DATABASE_URL"]) as link:
        service.set(DATABASE_URL=link.through(service.environ["DATABASE_URL"]))
        link.refuse()
        for path in ("/", "/dead-letters"):
            assert post(service, {}, b"junk", path).status_code == 503
        link.restore()
        for path in ("/", "/dead-letters"):
            assert post(service, {}, b"junk", path).status_code == 204
        assert len(dead_letters(service)) == 2
