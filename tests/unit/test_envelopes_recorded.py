"""Recorded envelopes, what broken messages say of themselves, and 2000 spoiled ones."""

import base64
import json
from typing import Any

import pytest

from common.domain.model import MAX_ID
from common.messaging.envelopes import Incoming, Traits, UnreadableError, describe, read
from tests.support import bodies
from tests.support.approvals import (
    ATTRIBUTES_ONLY,
    EVENTS,
    GIVEN_UP,
    MESSAGE_PUBLISHED,
    RECORDED,
    RECORDED_EVENT,
    RECORDED_ORDER,
    recorded,
    sendable,
    spoiled,
)
from tests.support.bodies import status_event

TYPE = "order.item.status.updated"
OWN = status_event(4)
STRUCTURED = {"content-type": "application/cloudevents+json"}


def pushed(body: object, attributes: dict[str, str]) -> dict[str, Any]:
    data = base64.b64encode(json.dumps(body).encode()).decode()
    return {"message": {"data": data, "attributes": attributes, "messageId": "1"}}


@pytest.mark.parametrize("name", ATTRIBUTES_ONLY)
def test_a_recorded_message_of_attributes_alone_is_unreadable(name: str) -> None:
    with pytest.raises(UnreadableError, match="empty"):
        read(*recorded(name))
    assert describe(*recorded(name)) == Traits("2", TYPE, 5, None)


@pytest.mark.parametrize("name", EVENTS)
def test_a_recorded_message_tells_which_event_it_is(name: str) -> None:
    """Also where the server has dropped the headers with an underscore."""
    headers, body = recorded(name)
    has_id = name != "unwrapped_push_without_metadata"
    event_id = RECORDED_EVENT if has_id else None
    assert len(RECORDED) >= 15
    assert read(headers, body) == Incoming(TYPE, RECORDED_ORDER)
    expected = Traits(event_id, TYPE, RECORDED_ORDER, None)
    assert describe(headers, body) == describe(sendable(headers), body) == expected


@pytest.mark.parametrize("name", GIVEN_UP)
def test_a_message_given_up_tells_how_often_it_was_delivered(name: str) -> None:
    expected = Traits(RECORDED_EVENT, TYPE, RECORDED_ORDER, 5)
    assert describe(*recorded(name)) == expected


DESCRIBED: dict[str, tuple[dict[str, str], object, Traits]] = {
    "nothing": ({}, {}, Traits(None, None, None, None)),
    "no JSON": ({"ce-id": "a"}, "{", Traits("a", None, None, None)),
    "what is inside wins": (
        {"ce-type": MESSAGE_PUBLISHED, "ce-id": "outer"},
        pushed(OWN | {"order_id": "5"}, {"event_id": "inner", "order_id": "6"}),
        Traits("inner", TYPE, 5, None),
    ),
    "an id that is none is looked for further out": (
        {},
        pushed(OWN | {"order_id": "x"}, {"order_id": "6"}),
        Traits("1", TYPE, 6, None),
    ),
    "a type that is none, too": (
        {},
        pushed(OWN | {"event_type": 5}, {"ce-type": "t"}),
        Traits("1", "t", 4, None),
    ),
    "only the snake-case id": (
        {},
        {"message": {"message_id": "9"}},
        Traits("9", None, None, None),
    ),
    "an int as order id": ({}, {"order_id": 4}, Traits(None, None, 4, None)),
    "true as order id": ({}, {"order_id": True}, Traits(None, None, None, None)),
    "order.created": (
        {},
        bodies.order_created(bodies.USER, []),
        Traits(None, "order.created", 4, None),
    ),
    "our subject": (
        {"ce-type": "order.deleted", "ce-subject": "7"},
        "",
        Traits(None, "order.deleted", 7, None),
    ),
    "somebody else's subject": (
        {"ce-type": "x.y", "ce-subject": "7"},
        "",
        Traits(None, "x.y", None, None),
    ),
    "structured": (
        STRUCTURED,
        {"id": "1", "type": ["x"], "subject": "7", "data": "{"},
        Traits("1", None, None, None),
    ),
    "a count that is none": (
        {"cloudpubsubdeadlettersourcedeliverycount": "many"},
        {},
        Traits(None, None, None, None),
    ),
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_what_a_broken_message_says_of_itself_is_found(name: str) -> None:
    headers, content, expected = DESCRIBED[name]
    body = content if isinstance(content, str) else json.dumps(content)
    assert describe(headers, body.encode()) == expected


def test_whatever_is_done_to_a_message_it_is_read_or_unreadable() -> None:
    found: dict[object, int] = {}
    for headers, body in spoiled(seed=20251201, count=2000):
        try:
            incoming = read(headers, body)
        except UnreadableError as error:
            reason = str(error)
            assert reason
            assert reason.isprintable()
            found[reason] = found.get(reason, 0) + 1
        else:
            assert incoming.order_id is None or 0 < incoming.order_id <= MAX_ID
            found[incoming] = found.get(incoming, 0) + 1
        traits = describe(headers, body)
        assert isinstance(traits.event_id, str | None)
        assert isinstance(traits.event_type, str | None)
        assert traits.order_id is None or 0 < traits.order_id <= MAX_ID
    # It proves something only where both happen, and in many ways.
    assert 400 < found[Incoming(TYPE, RECORDED_ORDER)] < 1600
    assert len(found) > 20
