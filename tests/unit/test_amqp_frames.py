"""A message's bytes on the wire, held against pika's own encoding."""

import pika
import pytest
from msgspec import structs
from pika import frame, spec

from common.publishing.amqp_frames import Encoder, Publication

EXCHANGE, APP_ID, CHANNEL = "order_events", "order-service", 7
PUBLICATION = Publication(
    type="order.created",
    body=b'{"a": 1}',
    headers={"cloudEvents:id": "e1", "traceparent": "00-1-1-01"},
    message_id="e0000000-0000-4000-8000-000000000001",
    timestamp=1_764_583_200,
    is_mandatory=True,
)


def by_pika(told: Publication, frame_max: int) -> bytes:
    method = spec.Basic.Publish(
        exchange=EXCHANGE, routing_key=told.type, mandatory=told.is_mandatory
    )
    properties = pika.BasicProperties(
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=pika.DeliveryMode.Persistent.value,
        message_id=told.message_id,
        timestamp=told.timestamp,
        type=told.type,
        app_id=APP_ID,
        headers=dict(told.headers),
    )
    size = frame_max - spec.FRAME_HEADER_SIZE - spec.FRAME_END_SIZE
    bodies = [told.body[n : n + size] for n in range(0, len(told.body), size)]
    frames = [
        frame.Method(CHANNEL, method),
        frame.Header(CHANNEL, len(told.body), properties),
        *(frame.Body(CHANNEL, body) for body in bodies),
    ]
    return b"".join(each.marshal() for each in frames)


@pytest.mark.parametrize(
    "told",
    [
        PUBLICATION,
        structs.replace(PUBLICATION, type="order.approved", is_mandatory=False),
        structs.replace(PUBLICATION, headers={}),
        structs.replace(PUBLICATION, headers={"Größe": "groß 🛒"}, message_id="ä"),
        structs.replace(PUBLICATION, body="ü€🛒".encode() * 100),
        structs.replace(PUBLICATION, body=b""),
    ],
)
def test_a_message_is_encoded_as_pika_does_it(told: Publication) -> None:
    found = Encoder(EXCHANGE, APP_ID, CHANNEL, 131_072).encode(told)
    assert found == by_pika(told, 131_072)


@pytest.mark.parametrize("size", [4087, 4088, 4089, 8176, 8177, 20_000])
def test_a_long_body_goes_in_frames_as_large_as_agreed(size: int) -> None:
    told = structs.replace(PUBLICATION, body=bytes(range(256)) * 100)
    told = structs.replace(told, body=told.body[:size])
    found = Encoder(EXCHANGE, APP_ID, CHANNEL, 4096).encode(told)
    assert found == by_pika(told, 4096)
