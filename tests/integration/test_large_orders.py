"""What an order of many lines costs: no more than its lines do."""

import cProfile
import pstats
import uuid
from collections.abc import Iterator

import pytest

from common.database.engine import Engine
from common.domain import orders
from common.domain.model import Line
from common.json import encode
from common.messaging.pending import Bus
from common.messaging.relay import Relay
from common.store import idempotency
from common.store.idempotency import StoredResponse
from common.store.orders import create_order
from tests.support.relaying import Recorder, engine_on

LINES = 500
BUS = Bus(("sink",), available_destinations=lambda: ("sink",))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    with engine_on(database_url) as running:
        yield running


def calls_to_order(engine: Engine, count: int) -> int:
    """Write an order of so many lines, send its events; return how many calls it took.

    They say how the work grows, which time does not where others work, too.
    """
    user = uuid.uuid4()
    lines = [
        Line(uuid.uuid4(), 1, uuid.uuid4(), uuid.uuid4(), 1999) for _ in range(count)
    ]
    sink = Recorder()
    profile = cProfile.Profile()
    profile.enable()
    claims = [idempotency.by_cart(user, 7, [])]
    ids = idempotency.begin(engine, claims, count)
    change = orders.new_order(user, lines, ids, cart_id=7)
    answer = StoredResponse(201, {}, encode(change.order))
    pending = create_order(engine, change, BUS, claims, answer)
    Relay(engine, {"sink": sink}).send(pending)
    profile.disable()
    assert len(sink.sent) == count + 1
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


def test_twice_the_lines_take_about_twice_the_work(engine: Engine) -> None:
    calls_to_order(engine, 10)  # connects, prepares
    one, two = (calls_to_order(engine, count) for count in (LINES, 2 * LINES))
    assert 1.5 * one < two < 2.5 * one
