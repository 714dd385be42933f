"""Bodies that are larger than any event, at each entrance over HTTP and at replay."""

import io
import json

import pytest
from werkzeug.test import TestResponse

from common import approval, wiring
from common.errors import ConflictError
from common.messaging import dead_letters as letters
from common.messaging.envelopes import CUT_FROM, MAX_EVENT_BYTES
from common.messaging.pending import Bus
from tests.support.approvals import (
    DELIVERED,
    binary,
    completed,
    dead_letters,
    is_approved,
    raw_push,
    sendable,
    structured,
    unwrapped_push,
)
from tests.support.bodies import status_event
from tests.support.service import Service, new_user

ENVELOPES = {
    each.__name__: each for each in (binary, structured, raw_push, unwrapped_push)
}
PUBSUBS_LARGEST = 10_000_000


def post(
    service: Service, headers: dict[str, str], body: bytes, path: str = "/"
) -> TestResponse:
    return service.call(
        "approval_handler", "POST", path, headers=sendable(headers), data=body
    )


def chunked(service: Service, body: bytes) -> TestResponse:
    return service.call(
        "approval_handler",
        "POST",
        "/",
        input_stream=io.BytesIO(body),
        environ_overrides={
            "wsgi.input_terminated": True,
            "HTTP_TRANSFER_ENCODING": "chunked",
        },
    )


def padded(order_id: int, size: int) -> bytes:
    event = json.dumps(status_event(order_id, padding="")).encode()
    return event.replace(b'""', b'"%s"' % (b"x" * (size - len(event))))


@pytest.mark.parametrize("path", ["/", "/dead-letters"])
@pytest.mark.parametrize("name", ENVELOPES)
def test_what_is_larger_than_any_event_is_a_dead_letter_and_not_read(
    service: Service, user: str, name: str, path: str
) -> None:
    order = completed(service, user, DELIVERED)
    headers, body = ENVELOPES[name](padded(order["id"], PUBSUBS_LARGEST))
    assert post(service, headers, body, path).status_code == 204
    assert not is_approved(service, order["id"])
    [letter] = dead_letters(service)
    assert body.startswith(letter["body"])
    assert 1000 < len(letter["body"]) < MAX_EVENT_BYTES
    assert str(len(body)) in letter["reason"]
    assert letter["headers"][CUT_FROM] == str(len(body))


def test_limit_is_to_the_byte_however_it_is_sent(service: Service) -> None:
    for extra, is_taken in ((0, True), (1, False)):
        for send in (
            lambda body: post(service, {}, body),
            lambda b: chunked(service, b),
        ):
            order = completed(service, new_user(), DELIVERED)
            before = len(dead_letters(service))
            assert send(padded(order["id"], MAX_EVENT_BYTES + extra)).status_code == 204
            assert is_approved(service, order["id"]) is is_taken
            assert len(dead_letters(service)) == before + (not is_taken)


def test_what_was_cut_is_never_taken_for_the_whole(service: Service, user: str) -> None:
    """White space at the end is cut off, and an event would be left."""
    order = completed(service, user, DELIVERED)
    event = json.dumps(status_event(order["id"])).encode()
    assert post(service, {}, event + b" " * MAX_EVENT_BYTES).status_code == 204
    [letter] = dead_letters(service)
    with pytest.raises(ConflictError, match="more than any event"):
        replay(letter["id"])
    assert not is_approved(service, order["id"])
    assert dead_letters(service) == [letter]


def test_large_letters_of_earlier_releases_are_not_read_either(
    service: Service, user: str
) -> None:
    order = completed(service, user, DELIVERED)
    [row] = service.rows(
        "INSERT INTO dead_letters (source, reason, body, headers) VALUES"
        " ('approval', 'r', CAST(:body AS bytea), '{}') RETURNING id",
        body=padded(order["id"], PUBSUBS_LARGEST),
    )
    service.client("approval_handler")
    with pytest.raises(ConflictError, match="more than any event"):
        replay(row["id"])
    assert not is_approved(service, order["id"])


def replay(letter_id: int) -> None:
    engine = wiring.engine()
    letters.replay(
        engine, letter_id, lambda *message: approval.take(engine, *message, Bus(()))
    )


def test_senders_do_not_say_how_large_a_body_is(service: Service, user: str) -> None:
    order = completed(service, user, DELIVERED)
    event = json.dumps(status_event(order["id"])).encode()
    assert post(service, {CUT_FROM: "999999999"}, event).status_code == 204
    assert is_approved(service, order["id"])


def test_headers_are_kept_within_bounds(service: Service) -> None:
    service.client("approval_handler")
    headers = {f"x-{number}": "v" for number in range(5000)}
    headers |= {"ce-id": "e-1", "x-long": "x" * 1_000_000, "n" * 100_000: "v"}
    approval.keep_given_up(wiring.engine(), headers, b"junk")
    [letter] = dead_letters(service)
    assert letter["event_id"] == "e-1"
    assert len(json.dumps(letter["headers"])) < 64 * 1024
    assert letter["headers"]["x-0"] == "v"


def test_last_resort_keeps_what_cannot_be_kept_as_it_is(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is behind it: a defect there would bring the message back for ever."""
    service.client("approval_handler")

    def describe(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("common.messaging.envelopes.describe", describe)
    assert post(service, {}, b"junk", "/dead-letters").status_code == 204
    [letter] = dead_letters(service)
    assert letter["body"] == b"junk"
