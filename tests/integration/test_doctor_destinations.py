"""`orderctl doctor` on destinations: why events wait, and who serves each of them."""

import logging
from typing import Any

import pytest

from common.messaging import dead_letters
from common.messaging.dead_letters import DeadLetter
from common.operations.diagnosis import GRACE_SECONDS
from common.operations.lookup.destinations import SERVED_SECONDS
from common.publishing.publisher import Message, Outcome, Result
from tests.support.database import execute
from tests.support.orderctl import orderctl
from tests.support.relaying import Recorder, column, engine_on, hand_over, owe, relay_to

OLD = f"now() - interval '{GRACE_SECONDS + 60} seconds'"
NOWHERE = {"EVENT_BUS": "", "EVENT_SINK_URL": ""}  # only DATABASE_URL is set
GONE = "530 vhost not found"


class Broken:
    """A destination that always ends an attempt in the same way."""

    def __init__(self, result: Result, reason: str) -> None:
        self.end = (result, reason)

    def publish(self, messages: list[Message], _deadline: float) -> list[Outcome]:
        return [Outcome(message.id, *self.end) for message in messages]

    def close(self) -> None:
        """Nothing is open."""


def swept(url: str, **publishers: Any) -> None:
    with relay_to(url, **publishers) as relay:
        relay.sweep(1.0, served_by="a relay")


def doctor(url: str) -> Any:
    return orderctl(url, "doctor", "--json", **NOWHERE).json


def test_a_broker_that_is_gone_is_found_at_once_with_its_own_words(
    database_url: str,
) -> None:
    owe(database_url, 4, "{}", to="rabbitmq")
    swept(database_url, rabbitmq=Broken(Result.UNAVAILABLE, GONE))
    [said] = doctor(database_url)["complaints"]
    assert said.startswith("rabbitmq: 1 pending, the oldest for ")
    assert f": {GONE}, next try at " in said
    assert ", served by a relay on " in said
    [found] = doctor(database_url)["backlog"]
    assert (found["last_error"], found["is_served"]) == (GONE, True)
    assert found["failed_at"]
    assert found["next_try_at"]
    shown = orderctl(database_url, "doctor", **NOWHERE)
    assert shown.status == 1
    assert GONE in shown.out
    assert "a relay on" in shown.out


def test_two_broken_destinations_are_both_found_however_many_events_wait(
    database_url: str,
) -> None:
    for order_id in range(1, 41):
        owe(database_url, order_id, "{}", to="http")
    owe(database_url, 4, "{}", to="rabbitmq")
    swept(
        database_url,
        http=Broken(Result.REFUSED, "answered 422"),
        rabbitmq=Broken(Result.UNAVAILABLE, GONE),
    )
    execute(database_url, "UPDATE outbox SET attempts = 5 WHERE destination = 'http'")
    http, rabbitmq, *_ = doctor(database_url)["complaints"]
    assert http.startswith("http: 40 pending")
    assert "answered 422" in http
    assert rabbitmq.startswith("rabbitmq: 1 pending")
    assert GONE in rabbitmq


def test_events_are_grouped_by_why_they_wait(database_url: str) -> None:
    owe(database_url, 4, *["{}"] * 3, to="http")
    execute(
        database_url,
        "UPDATE outbox SET last_error = CASE WHEN id < 3 THEN 'answered 500'"
        " ELSE 'answered 422' END, failed_at = now() - interval '1 minute' * id",
    )
    causes = doctor(database_url)["causes"]
    assert [(each["reason"], each["events"]) for each in causes] == [
        ("answered 500", 2),
        ("answered 422", 1),
    ]
    [found] = doctor(database_url)["backlog"]
    assert found["last_error"] == "answered 500"  # the newest


def test_an_error_that_only_a_request_has_met_is_found_too(database_url: str) -> None:
    owe(database_url, 4, "{}", to="http")
    with relay_to(
        database_url, http=Broken(Result.UNAVAILABLE, "no route to host")
    ) as relay:
        hand_over(relay, 4)
    [said] = doctor(database_url)["complaints"]
    assert "no route to host" in said
    assert "no relay has ever served it" in said
    assert column(database_url, "failed_at") != [None]


def test_who_serves_is_read_from_the_database_and_not_from_own_settings(
    database_url: str,
) -> None:
    swept(database_url, http=Recorder(), analytics=Recorder())
    assert doctor(database_url)["complaints"] == []
    found = {each["destination"]: each for each in doctor(database_url)["backlog"]}
    assert found.keys() == {"analytics", "http"}
    assert all(each["is_served"] for each in found.values())
    assert all(each["served_by"].startswith("a relay on ") for each in found.values())


def test_a_destination_that_is_no_longer_served_is_found_once_events_wait(
    database_url: str,
) -> None:
    swept(database_url, http=Recorder())
    owe(database_url, 4, "{}", to="http")
    execute(database_url, f"UPDATE outbox SET created_at = {OLD}")
    [said] = doctor(database_url)["complaints"]
    assert ", served by a relay on " in said
    gone = f"served_at = now() - interval '{SERVED_SECONDS + 1} seconds'"
    execute(database_url, f"UPDATE destination_reports SET {gone}")
    [said] = doctor(database_url)["complaints"]
    assert ", no relay has served it since " in said
    assert "is a relay running, and does its EVENT_BUS name it?" in said


def test_an_error_is_forgotten_once_events_arrive_again(database_url: str) -> None:
    owe(database_url, 4, "{}", to="http")
    swept(database_url, http=Broken(Result.UNAVAILABLE, GONE))
    execute(database_url, "UPDATE outbox SET available_at = now()")
    swept(database_url, http=Recorder())
    [found] = doctor(database_url)["backlog"]
    assert (found["pending"], found["last_error"]) == (0, None)
    assert doctor(database_url)["complaints"] == []


@pytest.mark.parametrize("result", [Result.UNROUTABLE, Result.REFUSED])
def test_an_event_that_is_given_up_is_an_error_in_the_log_with_its_id(
    database_url: str, caplog: pytest.LogCaptureFixture, result: Result
) -> None:
    owe(database_url, 4, "{}", to="rabbitmq")
    execute(database_url, "UPDATE outbox SET attempts = 19")
    [event_id] = column(database_url, "event_id")
    with caplog.at_level(logging.ERROR):
        swept(database_url, rabbitmq=Broken(result, "no queue is bound"))
    [line] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert line.getMessage() == "an event became a dead letter"
    assert line.fields["event_id"] == str(event_id)  # type: ignore[attr-defined]
    assert line.fields["reason"] == "no queue is bound"  # type: ignore[attr-defined]
    assert column(database_url, "event_id", "dead_letters") == [str(event_id)]


def test_a_message_that_is_given_up_is_an_error_in_the_log_with_its_id(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    letter = DeadLetter("approval", "not JSON", b"x", {}, event_id="e-7")
    with (
        caplog.at_level(logging.ERROR),
        engine_on(database_url) as engine,
        engine.connect() as connection,
    ):
        dead_letters.keep(connection, letter)
    [line] = caplog.records
    assert line.fields["event_id"] == "e-7"  # type: ignore[attr-defined]
