"""Generated messages to approval: each is understood, ignored, or one dead letter."""

import io
from collections.abc import Iterator
from typing import Any

import pika.channel
import pika.spec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.events import ON_BUS
from common.messaging.envelopes import MAX_EVENT_BYTES
from common.publishing import rabbitmq_received
from common.publishing.rabbitmq_received import copied, received
from tests.support.approvals import DELIVERED, completed, kept, next_order_is
from tests.support.fuzzed_messages import KINDS, decoded, properties, texts
from tests.support.fuzzing import MESSAGES, Tally, batches, no_traceback, tried
from tests.support.service import Service, new_user
from tests.support.worker import worker_module

BATCHES = batches(MESSAGES, len(KINDS) + 2)
FIRST, UNKNOWN = 1_000_000_000, 9_999_999_999
pytestmark = pytest.mark.timeout(900)

_SEEN = """
SELECT (SELECT is_approved FROM orders WHERE id = :complete) AS is_approved,
    (SELECT count(*) FROM orders WHERE is_approved AND NOT is_complete) AS wrong,
    (SELECT count(*) FROM dead_letters WHERE id > :last) AS letters,
    (SELECT max(id) FROM dead_letters) AS last,
    (SELECT body FROM dead_letters ORDER BY id DESC LIMIT 1) AS body
"""


class Orders:
    """An order that is due for approval, and one that is not."""

    def __init__(self, service: Service) -> None:
        self.service = service
        # Ids of one length, so that what is drawn does not depend on them.
        next_order_is(service, FIRST)
        self.open = service.ordered(new_user(), 1)["id"]
        self.last_letter = 0
        self.complete = 0
        self.renew()

    def renew(self) -> None:
        self.complete = completed(self.service, new_user(), DELIVERED)["id"]

    def choose(self, draw: Any) -> int:
        """Return the id of the order that a message is about."""
        which = draw(st.sampled_from(("complete", "complete", "open", "unknown")))
        return {"complete": self.complete, "open": self.open}.get(which, UNKNOWN)

    def outcome(self, body: bytes, headers: object) -> str:
        """Return what has become of a message; fail unless that is allowed."""
        [row] = self.service.rows(_SEEN, complete=self.complete, last=self.last_letter)
        self.last_letter = row["last"] or 0
        assert row["wrong"] == 0, "an order was approved that is not complete"
        assert row["letters"] <= 1
        if row["is_approved"]:
            self.renew()
            assert row["letters"] == 0
            return "approved"
        if row["letters"]:
            assert bytes(row["body"]) == kept(body)
            return "dead letter"
        assert ON_BUS & set(texts(body)), ("lost", headers, body)
        return "nothing to do"


@pytest.fixture(scope="module")
def orders(service: Service) -> Orders:
    return Orders(service)


@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_message_is_understood_ignored_or_one_dead_letter(
    orders: Orders, kind: str, batch: tuple[int, int], tally: Tally
) -> None:
    tally.kind = f"message: {kind}"

    @tried(tally.kind, *batch)
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        order_id = orders.choose(data.draw)
        headers, body = data.draw(KINDS[kind](order_id))
        with no_traceback():
            response = post(orders.service, "/", headers, body)
        assert (response.status_code, response.data) == (204, b"")
        outcome = orders.outcome(body, headers)
        if kind == "good":
            is_due = order_id not in (orders.open, UNKNOWN)
            assert outcome == ("approved" if is_due else "nothing to do")
        tally.outcomes[outcome] += 1

    attempt()


@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_message_that_was_given_up_is_one_dead_letter(
    orders: Orders, batch: tuple[int, int], tally: Tally
) -> None:
    tally.kind = "message: given up"

    @tried(tally.kind, *batch)
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        kind = data.draw(st.sampled_from(sorted(KINDS)))
        headers, body = data.draw(KINDS[kind](orders.complete))
        with no_traceback():
            response = post(orders.service, "/dead-letters", headers, body)
        assert (response.status_code, response.data) == (204, b"")
        assert orders.outcome(body, headers) == "dead letter"
        tally.outcomes["dead letter"] += 1

    attempt()


def post(service: Service, path: str, headers: dict[str, str], body: bytes) -> Any:
    length = {"Content-Length": str(len(body))}
    return service.call(
        "approval_handler",
        "POST",
        path,
        headers=headers | length,
        input_stream=io.BytesIO(body),  # as it is: the client would write a form anew
    )


class _Channel:
    """A channel of the worker's: what it did with its messages."""

    is_open = True
    consumer_tags = ("tag",)

    def __init__(self) -> None:
        self.done: list[str] = []

    def channel(self) -> "_Channel":
        return self

    def basic_qos(self, **_: object) -> None: ...
    def basic_consume(self, *_: object) -> None: ...

    def basic_ack(self, _tag: int) -> None:
        self.done.append("acknowledged")


@pytest.fixture
def _pika() -> Iterator[None]:
    """What the worker changes of pika, undone afterwards."""
    index = pika.BasicProperties.INDEX
    before = pika.spec.props[index], pika.channel.ContentFrameAssembler
    rabbitmq_received.install(MAX_EVENT_BYTES)
    yield
    pika.spec.props[index], pika.channel.ContentFrameAssembler = before


@pytest.mark.usefixtures("_pika")
@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_message_from_rabbitmq_is_acknowledged_and_kept_if_it_is_no_event(
    orders: Orders, batch: tuple[int, int], tally: Tally
) -> None:
    tally.kind = "message: RabbitMQ"
    orders.service.client("approval_handler")
    module = worker_module()
    source = module._Source("queue", "exchange", module.approve, 1)

    @tried(tally.kind, *batch)
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        kind = data.draw(st.sampled_from(sorted(KINDS)))
        _, body = data.draw(KINDS[kind](orders.choose(data.draw)))
        delivery, properties_, content = decoded(data.draw(properties()), body)
        check_copy(delivery, properties_, content)
        channel = _Channel()
        consumer = module._Consumer(channel, source)
        consumer._receive(channel, delivery, properties_, content)
        with no_traceback():
            assert consumer.work()
        assert channel.done == ["acknowledged"]
        tally.outcomes[orders.outcome(body, properties_)] += 1

    attempt()


def check_copy(delivery: Any, given_: Any, body: bytes) -> None:
    """Fail unless a copy is the same message, if it can be encoded at all."""
    message = received(delivery, given_, body)
    before = dict(message.headers)
    frame = pika.frame.Header(1, len(body), copied(message))
    try:
        encoded = frame.marshal()
    except Exception:  # noqa: BLE001 it is returned to the broker as it is
        return
    again = received(*decoded(encoded, body))
    assert again.body == message.body
    dropped = {"cc", "x-delivery-count", "x-acquired-count"}
    assert again.headers == {k: v for k, v in before.items() if k not in dropped}
