"""Thousands of malformed deliveries over HTTP, with good ones in between.

A recording spoiled at random may stay readable; whether it did, `envelopes.read`
decides.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from common import wiring
from common.messaging import envelopes
from common.operations.lookup import letters
from tests.support.approvals import ENVELOPES, kept, sendable, spoiled
from tests.support.bodies import status_event
from tests.support.books import audited
from tests.support.crash.nursery import Nursery
from tests.support.crash.world import settle
from tests.support.load import end_all, start_group
from tests.support.many import Delivery, completed_orders, post_all
from tests.support.sandbox import running_sandbox
from tests.support.service import Service

JUNK, SPOILED, GOOD = 700, 700, 100
SEED = 20251206
PATHS = ("/", "/", "/any/path", "/dead-letters")
# What no HTTP client can put into a header.
UNSENDABLE = dict.fromkeys(map(ord, "\r\n\0"), " ")


@pytest.fixture
def service(database_url: str) -> Iterator[Service]:
    with running_sandbox(deliver=False) as sandbox:
        service = Service(database_url, sandbox)
        yield service
        service.close()


class Poisoner:
    """Makes deliveries that can never be understood, always the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def delivery(self) -> Delivery:
        kinds = (self._noise, self._torn, self._no_object, self._bad_event, self._push)
        body = self._random.choice(kinds)()
        return Delivery(self._headers(), body, self._random.choice(PATHS))

    def _noise(self) -> bytes:
        longest = self._random.choice((1, 10, 1000, 300_000))
        return b"\xff" + self._random.randbytes(self._random.randrange(longest))

    def _torn(self) -> bytes:
        _, body = self._random.choice(ENVELOPES)(json.dumps(status_event(4)).encode())
        return body[: self._random.randrange(len(body))]

    def _no_object(self) -> bytes:
        deep = self._random.choice((1, 100, 50_000))
        texts = (
            "",
            "null",
            "7",
            '"x"',
            "[]",
            "[{}]",
            "1e999",
            "[" * deep,
            '{"a":' * deep,
        )
        return self._random.choice(texts).encode()

    def _bad_event(self) -> bytes:
        """Return an event whose type or order is none; NaN is none to JSON either."""
        nothing = [None, 7, [], {}, True, "", "\0", "\ud800", "x" * 5000, float("nan")]
        name = self._random.choice(("event_type", "order_id"))
        event = status_event(4, **{name: self._random.choice(nothing)})
        if self._random.random() < 0.1:
            del event[name]
        return json.dumps(event).encode()

    def _push(self) -> bytes:
        data = self._random.choice((None, 7, "", "%%%", "e30=", "bnVsbA==", "/w==", []))
        attributes = self._random.choice((None, [], {"event_type": "x"}, {"a": {}}))
        return json.dumps(
            {"message": {"data": data, "attributes": attributes}}
        ).encode()

    def _headers(self) -> dict[str, str]:
        pick = self._random.choice
        names = ("ce-type", "ce-id", "ce-subject", "content-type", "content-encoding")
        names += (
            "traceparent",
            "x-request-id",
            "authorization",
            "x-goog-pubsub-message-id",
        )
        values = (
            "",
            "x",
            "order.item.status.updated",
            "\xff\xfe",
            "a/b; c=d",
            "4" * 500,
        )
        values += ("gzip", "application/cloudevents-batch+json", "00-zz-zz-01")
        return {pick(names): pick(values) for _ in range(pick((0, 1, 2, 5)))}


def readable(delivery: Delivery) -> bool:
    if delivery.path.startswith("/dead-letters"):
        return False
    headers = {k.lower(): v.strip() for k, v in delivery.headers.items()}
    try:
        envelopes.read(headers, delivery.body)
    except envelopes.UnreadableError:
        return False
    return True


def sendable_spoiled(seed: int, count: int) -> Iterator[Delivery]:
    for headers, body in spoiled(seed, count):
        yield Delivery(
            {k: v.translate(UNSENDABLE) for k, v in sendable(headers).items()}, body
        )


def test_poison_is_kept_once_each_and_keeps_no_good_delivery_from_its_order(
    service: Service, forks: Nursery
) -> None:
    orders = completed_orders(service, GOOD, items=1)
    poisoner = Poisoner(SEED)
    junk = [poisoner.delivery() for _ in range(JUNK)]
    maimed = list(sendable_spoiled(SEED, SPOILED))
    poison = junk + [delivery for delivery in maimed if not readable(delivery)]
    chance = random.Random(SEED)
    good = [
        Delivery(*chance.choice(ENVELOPES)(json.dumps(status_event(order)).encode()))
        for order in orders
    ]
    deliveries = [*junk, *maimed, *good]
    chance.shuffle(deliveries)
    group = start_group(forks, service.environ, ["approval_handler"])
    handler = group["approval_handler"]
    statuses = post_all(handler.port, deliveries)
    assert Counter(statuses) == {204: len(deliveries)}
    assert forks.wait(handler, 0) is None, "the process has ended"
    assert "Traceback" not in handler.log.read_text()
    end_all(forks, group)
    rows = service.rows("SELECT body FROM dead_letters")
    found = Counter(bytes(row["body"]) for row in rows)
    assert found == Counter(kept(delivery.body) for delivery in poison)
    assert len(letters.open_ids(wiring.engine())) == len(poison) > JUNK
    approved = service.rows("SELECT id FROM orders WHERE is_approved ORDER BY id")
    assert [row["id"] for row in approved] == orders
    settle(service)
    heard = service.sandbox.events_of("order.approved")
    announced = [int(event.json["order_id"]) for event in heard]
    assert sorted(announced) == orders
    audited(service)
