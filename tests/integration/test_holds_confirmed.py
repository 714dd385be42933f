"""A hold is confirmed when the last of its event's destinations has confirmed it."""

import uuid
from collections.abc import Iterator, Sequence

import pytest

from common.database.engine import Engine, connect, transaction
from common.messaging import outbox
from common.messaging.outbox import RetryDecision
from common.operations import event_log
from tests.support.database import execute
from tests.support.parallel import in_background
from tests.support.relaying import column, engine_on

ORDER = 4
DESTINATIONS = ("rabbitmq", "pubsub")


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    with engine_on(database_url) as engine:
        yield engine


def owe(
    url: str, to: Sequence[str] = DESTINATIONS, event_type: str = "order.created"
) -> str:
    """Put an event that holds something into the outbox; return its id."""
    event_id = str(uuid.uuid4())
    for destination in to:
        execute(
            url,
            "INSERT INTO outbox (destination, order_id, event_id, event_type, body)"
            f" VALUES ('{destination}', {ORDER}, '{event_id}', '{event_type}', '')",
        )
    execute(
        url,
        "INSERT INTO stock_holds (order_id, item_id, event_id, product_variation,"
        f" quantity, expected, unsent) SELECT {ORDER}, n, '{event_id}',"
        f" '{uuid.uuid4()}', 1, 9, {len(to)} FROM generate_series(1, 2) n",
    )
    return event_id


def record(engine: Engine, *sent: int) -> None:
    with connect(engine) as connection:
        outbox.record_results(connection, sent, [])


def confirmed(url: str) -> list[bool]:
    return [at is not None for at in column(url, "confirmed_at", "stock_holds")]


def test_the_last_of_two_destinations_confirms(
    database_url: str, engine: Engine
) -> None:
    owe(database_url)
    first, second = column(database_url, "id")
    record(engine, second)
    assert confirmed(database_url) == [False, False]
    record(engine, first)
    assert confirmed(database_url) == [True, True]


def test_both_at_once_confirm(database_url: str, engine: Engine) -> None:
    owe(database_url)
    record(engine, *column(database_url, "id"))
    assert confirmed(database_url) == [True, True]


def test_two_that_are_recorded_at_the_same_time_confirm(
    database_url: str, engine: Engine
) -> None:
    """Neither sees what the other has not committed yet."""
    owe(database_url)
    first, second = column(database_url, "id")
    with transaction(engine) as connection:
        outbox.record_results(connection, [first], [])
        with in_background(lambda: record(engine, second)) as other:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while execute(database_url, waiting) == [[0]]:
                assert not other.done()
            connection.exec_driver_sql("COMMIT")
        other.result()
    assert confirmed(database_url) == [True, True]


def test_the_result_of_another_event_leaves_a_hold_alone(
    database_url: str, engine: Engine
) -> None:
    owe(database_url, ["rabbitmq"])
    owe(database_url, ["rabbitmq"], "order.item.created")
    _, other = column(database_url, "id")
    record(engine, other)
    assert confirmed(database_url) == [False] * 4


def test_what_was_sent_is_confirmed_also_where_something_else_was_not(
    database_url: str, engine: Engine
) -> None:
    owe(database_url, ["rabbitmq"])
    owe(database_url, ["rabbitmq"])
    sent, failed = column(database_url, "id")
    decision = RetryDecision(failed, 0, "told so", 60.0)
    with connect(engine) as connection:
        outbox.record_results(connection, [sent], [decision])
    assert confirmed(database_url) == [True, True, False, False]


def test_a_dead_letter_of_one_destination_is_not_made_up_for_by_the_other(
    database_url: str, engine: Engine
) -> None:
    owe(database_url)
    dead, sent = column(database_url, "id")
    decision = RetryDecision(dead, 0, "told so", is_dead=True)
    with connect(engine) as connection:
        outbox.record_results(connection, [], [decision])
    record(engine, sent)
    assert confirmed(database_url) == [False, False]


def test_an_operator_who_knows_that_it_arrived_confirms(
    database_url: str, engine: Engine
) -> None:
    event_id = owe(database_url, ["rabbitmq"])
    execute(database_url, "UPDATE outbox SET held_since = now()")
    event_log.confirm(engine, uuid.UUID(event_id), ORDER, "rabbitmq")
    assert confirmed(database_url) == [True, True]


def test_a_second_sending_does_not_move_the_moment(
    database_url: str, engine: Engine
) -> None:
    event_id = owe(database_url, ["rabbitmq"])
    record(engine, *column(database_url, "id"))
    before = column(database_url, "confirmed_at", "stock_holds")
    event_log.resend(engine, uuid.UUID(event_id), ORDER)
    record(engine, *column(database_url, "id"))
    assert column(database_url, "confirmed_at", "stock_holds") == before
