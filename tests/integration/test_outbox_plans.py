"""A long outbox: worked off by index, and without looking at all of it."""

from collections.abc import Iterator

import pytest

from common.database.engine import STATEMENTS
from common.messaging import outbox
from common.messaging.outbox import BATCH
from common.publishing.publisher import Result
from tests.support.database import database, execute
from tests.support.plans import explain, prepared, rows_read
from tests.support.relaying import Recorder, hand_over, owe, relay_to

# Two destinations, five events an order.
ORDERS = 2000
BACKLOG = f"""
INSERT INTO outbox (destination, order_id, event_id, event_type, body,
  created_at, available_at)
SELECT destination, order_id, gen_random_uuid(), 'order.approved', repeat('x', 200),
  due, due + make_interval(secs => CASE WHEN order_id % 10 = 0 THEN 86400 ELSE 0 END)
FROM generate_series(1, {ORDERS}) order_id, generate_series(1, 5) event,
  unnest(ARRAY['bus', 'other']) destination,
  LATERAL (
    SELECT now() - interval '1 hour' + make_interval(secs => 0.1 * order_id) AS due) t
ORDER BY order_id, event
"""
VALUES: dict[str, dict[str, object]] = {
    "outbox.claim_any": {"seconds": 60, "destination": "bus"},
    "outbox.claim_order": {
        "seconds": 60,
        "destinations": "{bus,other}",
        "order_id": 77,
    },
}


@pytest.fixture(scope="module")
def long_outbox(postgres_url: str, template_database: str) -> Iterator[str]:
    """A database with a long outbox, to be cloned, not used."""
    with database(postgres_url, template=template_database) as url:
        execute(url, BACKLOG)
        yield url


@pytest.fixture
def url(
    postgres_url: str, long_outbox: str, request: pytest.FixtureRequest
) -> Iterator[str]:
    """A clone of it."""
    with database(postgres_url, template=long_outbox) as url:
        if getattr(request, "param", True):
            execute(url, "ANALYZE")
        yield url


def cost_of_a_claim(url: str, name: str = "outbox.claim_any") -> int:
    values = VALUES[name]
    with prepared(url, STATEMENTS[name], list(values)) as connection:
        plan = explain(connection, values, "ANALYZE, TIMING OFF")
    return rows_read(plan, "outbox")


@pytest.mark.parametrize("url", [True, False], indirect=True, ids=["analysed", "new"])
@pytest.mark.parametrize("name", VALUES)
def test_a_claim_stops_looking_when_its_batch_is_full(url: str, name: str) -> None:
    assert cost_of_a_claim(url, name) < 6 * BATCH


def test_an_order_with_a_long_history_is_claimed_as_cheaply(
    url: str,
) -> None:
    execute(url, "UPDATE outbox SET order_id = 77 WHERE order_id < 800")
    execute(url, "ANALYZE outbox")
    assert cost_of_a_claim(url, "outbox.claim_order") < 6 * BATCH


def test_a_claim_does_not_look_at_what_backs_off(url: str) -> None:
    execute(url, "UPDATE outbox SET available_at = now() + interval '1 minute'")
    execute(url, "UPDATE outbox SET available_at = now() WHERE order_id > 1995")
    assert cost_of_a_claim(url) < 6 * BATCH


@pytest.mark.parametrize(
    "result", [Result.REFUSED, Result.DEFERRED, Result.UNCONFIRMED]
)
def test_a_claim_does_not_look_at_what_waits_behind_something_that_backs_off(
    url: str, result: Result
) -> None:
    """The oldest rows of all are those behind it: every claim would wade through."""
    execute(
        url,
        "UPDATE outbox SET order_id = 1, created_at = now() - interval '1 day',"
        " available_at = now() - interval '1 day'"
        " WHERE destination = 'bus' AND order_id <= 800",
    )
    bus = Recorder(lambda _: result)
    with relay_to(url, bus=bus) as relay:
        hand_over(relay, 1)
    assert len(bus.tried) == 1
    assert cost_of_a_claim(url) < 6 * BATCH


def test_what_waited_behind_a_backoff_goes_out_with_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BATCH", 3)
    answers = [Result.REFUSED]
    bus = Recorder(lambda _: answers.pop() if answers else Result.SENT)
    owe(database_url, 4, *"abcdefgh")
    with relay_to(database_url, bus=bus) as relay:
        hand_over(relay, 4)
        assert bus.bodies == []
        relay.sweep(1)
        assert bus.bodies == []
        # Only the first one's time comes; that of the others has come with it.
        execute(
            database_url,
            "UPDATE outbox SET available_at = available_at - interval '2 seconds'",
        )
        relay.sweep(5)
    assert bus.bodies == list("abcdefgh")


def test_what_is_recorded_behind_a_backoff_waits_for_it_and_keeps_its_place(
    database_url: str,
) -> None:
    answers = [Result.REFUSED]
    bus = Recorder(lambda _: answers.pop() if answers else Result.SENT)
    owe(database_url, 4, "a")
    with relay_to(database_url, bus=bus) as relay:
        hand_over(relay, 4)
        owe(database_url, 4, "b")
        hand_over(relay, 4)
        assert bus.bodies == []
        execute(database_url, "UPDATE outbox SET available_at = now() WHERE body = 'a'")
        relay.sweep(5)
    assert bus.bodies == ["a", "b"]


def test_what_goes_nowhere_for_now_keeps_its_time(database_url: str) -> None:
    """A destination that is away costs its events nothing, not even their place."""
    bus = Recorder(lambda _: Result.UNAVAILABLE)
    owe(database_url, 4, "a", "b")
    with relay_to(database_url, bus=bus) as relay:
        hand_over(relay, 4)
    late = "SELECT count(*) FROM outbox WHERE available_at <> created_at"
    assert execute(database_url, late) == [[0]]


def test_a_backoff_puts_off_its_own_order_and_all_of_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BATCH", 4)
    answers = iter([Result.REFUSED, Result.UNAVAILABLE])
    owe(database_url, 4, "a", "b")
    owe(database_url, 5, "c", "d", "e")
    execute(database_url, "UPDATE outbox SET attempts = 9")  # to wait long
    with relay_to(database_url, bus=Recorder(lambda _: next(answers))) as relay:
        relay.sweep(5)
    late = "SELECT body FROM outbox WHERE available_at > now() ORDER BY id"
    assert execute(database_url, late) == [["a"], ["b"]]


def test_a_backoff_puts_off_what_no_batch_has_reached(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BATCH", 2)
    owe(database_url, 4, *"abcd")
    execute(database_url, "UPDATE outbox SET attempts = 9")
    with relay_to(database_url, bus=Recorder(lambda _: Result.REFUSED)) as relay:
        hand_over(relay, 4)
    late = "SELECT count(*) FROM outbox WHERE available_at > now()"
    assert execute(database_url, late) == [[4]]
