"""Generated messages to approval: envelopes over HTTP, and properties over AMQP."""

import base64
import json
import re
import struct
from collections.abc import Iterator
from typing import Any

import pika
import pika.channel
import pika.frame
import pika.spec
from hypothesis import strategies as st

from common.domain.events import ON_BUS
from tests.support.approvals import (
    ENVELOPES,
    RECORDED,
    RECORDED_ORDER,
    Envelope,
    recorded,
    sendable,
)
from tests.support.bodies import status_event
from tests.support.mutations import ODD, anything, garbled, mutated, scalars, written

_MEDIA_TYPES = (
    *("application/json", "application/cloudevents+json", ";", "", "text/html"),
    *("application/cloudevents-batch+json", "application/x-www-form-urlencoded"),
    "APPLICATION/CLOUDEVENTS+JSON;charset=utf-16",
    "multipart/form-data; boundary=x",
)
_NAMES = (
    *("ce-id", "ce-type", "ce-source", "ce-specversion", "ce-subject", "ce-time"),
    *("event-type", "order-id", "x-goog-pubsub-message-id", "traceparent"),
    *("tracestate", "x-request-id", "x-cloud-trace-context", "x-cut-from-bytes"),
    *("cloudpubsubdeadlettersourcedeliverycount", "authorization", "x-user-id"),
)
BASE64 = re.compile(
    rb"([A-Za-z0-9+/]{4}){10,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
)
# HTTP has no control characters in a header, and the test client no wide ones.
_header_text = st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"),
    max_size=40,
)
_odd_headers = st.dictionaries(
    st.sampled_from(_NAMES),
    st.one_of(_header_text, st.sampled_from(sorted(ON_BUS)), st.just("x" * 5000)),
    max_size=3,
)


@st.composite
def _headers(draw: st.DrawFn, given: dict[str, str]) -> dict[str, str]:
    """Return headers with some changed, added or gone."""
    headers = sendable(given)
    if draw(st.booleans()) and headers:
        del headers[draw(st.sampled_from(sorted(headers)))]
    if draw(st.sampled_from((False, False, True))):
        headers["content-type"] = draw(st.sampled_from(_MEDIA_TYPES))
    if draw(st.sampled_from((False, False, False, False, True))):
        headers["content-encoding"] = draw(st.sampled_from(("gzip", "identity", "")))
    more: dict[str, str] = draw(_odd_headers)
    return headers | more


@st.composite
def events(draw: st.DrawFn, order_id: int) -> dict[str, Any]:
    """Return a status event of the order, with fields more that do not matter."""
    more = draw(st.dictionaries(st.text(max_size=8), scalars, max_size=2))
    return {**more, **status_event(order_id)}


@st.composite
def good(draw: st.DrawFn, order_id: int) -> Envelope:
    """Return an event that must be understood, in any envelope."""
    more = draw(st.dictionaries(st.text(max_size=8), st.integers(), max_size=2))
    content = json.dumps({**more, **status_event(order_id)}).encode()
    return draw(st.sampled_from(ENVELOPES))(content)


@st.composite
def envelopes(draw: st.DrawFn, order_id: int) -> Envelope:
    """Return an event in an envelope, with something changed somewhere in them."""
    event = draw(events(order_id))
    if draw(st.booleans()):
        event = draw(mutated(event))
    content = json.dumps(event).encode()
    headers, body = draw(st.sampled_from(ENVELOPES))(content)
    return draw(_headers(headers)), draw(written(json.loads(body)))


def _about(order_id: int, text: bytes) -> bytes:
    named = rb'("order_id": ?)"%d"' % RECORDED_ORDER
    return re.sub(named, rb'\1"%d"' % order_id, text)


@st.composite
def recordings(draw: st.DrawFn, order_id: int) -> Envelope:
    """Return a recorded request about the order, with something changed."""
    headers, body = recorded(draw(st.sampled_from(RECORDED)))
    body = BASE64.sub(
        lambda found: base64.b64encode(_about(order_id, base64.b64decode(found[0]))),
        _about(order_id, body),
    )
    if body == b"" or draw(st.booleans()):
        return draw(_headers(headers)), draw(garbled(body))
    return draw(_headers(headers)), draw(written(json.loads(body)))


@st.composite
def noise(draw: st.DrawFn, _order_id: int) -> Envelope:
    """Return a body that has nothing to do with an event."""
    return draw(_headers({})), draw(anything)


KINDS = {each.__name__: each for each in (good, envelopes, recordings, noise)}


def texts(body: bytes) -> Iterator[str]:
    """Yield every text in a message, through JSON and base64, however nested."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return
    pending = [content]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, str):
            yield value
            yield from texts(value.encode(errors="replace"))
            try:
                yield from texts(base64.b64decode(value))
            except ValueError:
                continue


# What AMQP adds.
_short = st.one_of(
    st.text(max_size=40), st.sampled_from(("", "\0", "x" * 200, "a/b; c=d", *ON_BUS))
)
_amqp_values = st.recursive(
    st.one_of(
        st.sampled_from(
            [odd for odd in ODD if not isinstance(odd, float | list | dict)]
        ),
        st.integers(-(2**63), 2**63 - 1),
        st.text(max_size=20),
        st.binary(max_size=20),
        st.booleans(),
        st.datetimes(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(_short, inner, max_size=3)
    ),
    max_leaves=5,
)
_NAMED = ("cloudEvents:id", "cloudEvents:type", "cloudEvents_subject", "x-death", "CC")


@st.composite
def properties(draw: st.DrawFn) -> bytes:
    """Return a frame with a message's properties, some of which are no properties."""
    if draw(st.sampled_from((False, False, True))):
        return _frame(draw(st.binary(max_size=60)))
    names = st.one_of(st.sampled_from((*_NAMES, *_NAMED)), _short)
    fields: dict[str, Any] = {
        "headers": draw(st.dictionaries(names, _amqp_values, max_size=4)),
        "timestamp": draw(st.none() | st.integers(0, 2**63)),
    }
    for name in ("content_type", "content_encoding", "message_id", "type", "user_id"):
        fields[name] = draw(st.none() | _short)
    made = pika.BasicProperties(**fields)
    try:
        encoded = b"".join(made.encode())
    except Exception:  # noqa: BLE001 what cannot be sent need not be understood
        return _frame(b"\x20\x00\x00\x00\x00\x00")
    if draw(st.sampled_from((False, False, False, True))):
        encoded = draw(garbled(encoded))
    return _frame(encoded)


def _frame(encoded: bytes) -> bytes:
    payload = struct.pack(">HHQ", pika.spec.BasicProperties.INDEX, 0, 0) + encoded
    return (
        struct.pack(">BHL", pika.spec.FRAME_HEADER, 1, len(payload)) + payload + b"\xce"
    )


def decoded(frame: bytes, body: bytes) -> tuple[Any, Any, bytes]:
    """Return the delivery, properties and body that pika makes of frames."""
    _, header = pika.frame.decode_frame(frame)
    header.body_size = len(body)
    delivery = pika.spec.Basic.Deliver(
        delivery_tag=1, exchange="order_events", routing_key="some.key"
    )
    assembler = pika.channel.ContentFrameAssembler()
    complete = assembler.process(pika.frame.Method(1, delivery))
    complete = assembler.process(header) or complete
    for start in range(0, len(body), 50_000):
        part = pika.frame.Body(1, body[start : start + 50_000])
        complete = assembler.process(part) or complete
    method, header, content = complete
    return method.method, header.properties, content
