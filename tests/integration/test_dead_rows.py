"""Dead rows of the outbox stay while somebody holds a snapshot: nothing reads them."""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest

import common.operations.lag
import common.store.save  # noqa: F401 both name their statements
from common.database.engine import STATEMENTS
from common.messaging.marks import Marks
from common.publishing.publisher import Result
from tests.support.database import connect, database, execute
from tests.support.plans import explain, nodes, prepared
from tests.support.relaying import Recorder, engine_on, hand_over, owe, relay_to

DEAD = 60_000  # some four thousand pages of the table
MOST = 1000  # pages that a statement may look at, counting again what two parts share
PUT = """
INSERT INTO outbox (destination, order_id, event_id, event_type, body, created_at,
  available_at)
SELECT 'bus', n / 4, gen_random_uuid(), 'order.created', repeat('x', 200),
  now() - interval '1 hour', now() - interval '1 hour'
FROM generate_series(1, {}) n
"""
EMPTY, STALE = "statistics of an empty table", "statistics of a full table"


@pytest.fixture(scope="module", params=[EMPTY, STALE])
def spoilt(
    request: pytest.FixtureRequest, postgres_url: str, template_database: str
) -> Iterator[str]:
    """A database whose outbox is nearly empty, and full of what nobody may remove."""
    with (
        database(postgres_url, template=template_database) as url,
        closing(connect(url)) as holder,
        closing(connect(url)) as connection,
    ):
        execute(url, f"INSERT INTO orders (user_id) VALUES ('{uuid.UUID(int=1)}')")
        holder.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
        holder.run("SELECT count(*) FROM orders")
        connection.run(PUT.format(DEAD))
        if request.param == STALE:
            connection.run("VACUUM ANALYZE outbox")
        connection.run("DELETE FROM outbox")
        if request.param == EMPTY:
            connection.run("VACUUM ANALYZE outbox")
        with engine_on(url) as engine, engine.connect() as ours:
            Marks().advance(ours, "bus")
        yield url


@pytest.fixture
def url(spoilt: str) -> Iterator[str]:
    """The same with four events of one order."""
    owe(spoilt, 1, "a", "b", "c", "d")
    yield spoilt
    execute(spoilt, "DELETE FROM outbox")


def pages(url: str, name: str, **values: object) -> int:
    """Return how many pages a statement looks at, and undo it."""
    with prepared(url, STATEMENTS[name], list(values)) as connection:
        plan = explain(connection, values, "ANALYZE, TIMING OFF, BUFFERS")
    hit: int = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    # What a CTE that changes rows has read is not always counted above it.
    parts = sum(
        node["Shared Hit Blocks"] + node["Shared Read Blocks"]
        for node in nodes(plan)
        if "Scan" in node["Node Type"]
    )
    return max(hit, parts)


CHANGE = {
    "order_id": 1,
    "version": 1,
    "user_id": str(uuid.UUID(int=1)),
    "at": "2025-12-01T10:00:00Z",
    "is_complete": False,
    "is_approved": False,
    "metadata": {},
    "actor_kind": "user",
    "changed": [],
    "added": [],
    "removed": [],
    "history": [],
    "events": [
        {"position": n, "destination": "bus", "event_id": str(uuid.UUID(int=n))}
        | {"event_type": "order.created", "body": "{}", "is_claimed": True}
        for n in range(5)
    ],
    "records": [],
}


@pytest.mark.parametrize("name", ["store.save_changed", "store.save_deleted"])
def test_a_write_looks_up_its_own_order_and_no_dead_row(url: str, name: str) -> None:
    assert pages(url, name, change=json.dumps(CHANGE)) < MOST


def test_a_claim_looks_at_no_dead_row(url: str) -> None:
    given: dict[str, object] = {"seconds": 90, "destinations": "{bus}", "order_id": 1}
    assert pages(url, "outbox.claim_order", **given) < MOST
    assert pages(url, "outbox.claim_any", seconds=90, destination="bus") < MOST
    assert pages(url, "marks.advance", destination="bus", is_blind=False) < MOST


def test_recording_results_looks_at_no_dead_row(url: str) -> None:
    ids = [int(str(id_)) for (id_,) in execute(url, "SELECT id FROM outbox ORDER BY 1")]
    results = [
        {"id": ids[1], "attempts": 0, "retry_seconds": 2.0, "reason": "no"},
        {"id": ids[2], "attempts": 0, "retry_seconds": 0.0, "is_dead": True}
        | {"reason": "no"},
    ]
    given: dict[str, object] = {"destinations": "{bus}", "order_id": 1}
    sent = f"{{{ids[0]}}}"
    assert pages(url, "outbox.record_sent", sent=sent, **given) < MOST
    decisions = json.dumps(results)
    assert (
        pages(url, "outbox.record_results", sent=sent, decisions=decisions, **given)
        < MOST
    )


def test_what_is_measured_each_minute_looks_at_no_dead_row(url: str) -> None:
    assert pages(url, "signals.measure") < MOST
    assert pages(url, "signals.backlog") < MOST


def test_a_search_looks_at_a_part_at_a_time(url: str) -> None:
    last = int(str(execute(url, "SELECT max(id) FROM outbox")[0][0]))
    assert pages(url, "marks.search", low=last - 1000, high=last) < MOST


def test_what_was_committed_late_is_found(url: str) -> None:
    """Its times are older than anything that a claim would look at."""
    execute(
        url,
        "UPDATE outbox SET available_at = now() - interval '2 hours',"
        " created_at = now() - interval '2 hours'",
    )
    bus = Recorder()
    with relay_to(url, bus=bus) as relay:
        relay.sweep(5)
    assert bus.bodies == ["a", "b", "c", "d"]


def test_what_was_recorded_before_the_clock_went_back_does_not_wait(url: str) -> None:
    execute(
        url,
        "UPDATE outbox SET available_at = now() + interval '90 seconds',"
        " created_at = now() + interval '90 seconds'",
    )
    bus = Recorder()
    with relay_to(url, bus=bus) as relay:
        relay.sweep(5)
    assert bus.bodies == ["a", "b", "c", "d"]


@pytest.mark.parametrize("until", ["now() + interval '2 hours'", "'infinity'"])
def test_what_was_postponed_before_the_clock_went_back_does_not_wait(
    url: str, until: str
) -> None:
    """It happened long before, so only the time until which it waits is odd."""
    execute(
        url,
        f"UPDATE outbox SET available_at = {until},"
        " created_at = now() - interval '1 day'",
    )
    bus = Recorder()
    with relay_to(url, bus=bus) as relay:
        relay.sweep(5)
    assert bus.bodies == ["a", "b", "c", "d"]


def test_a_claim_from_before_the_clock_went_back_expires_as_any_other(
    url: str,
) -> None:
    execute(
        url,
        "UPDATE outbox SET available_at = now() + interval '2 hours',"
        " sending_since = now() + interval '2 hours',"
        " created_at = now() - interval '1 day'",
    )
    with relay_to(url, bus=Recorder()) as relay:
        relay.sweep(5)
    longest = "max(available_at) - now() <= interval '90 seconds'"
    assert execute(url, f"SELECT {longest} FROM outbox") == [[True]]


def test_what_is_recorded_after_the_clock_went_back_does_not_wait(url: str) -> None:
    """The mark was made by the clock as it was."""
    execute(url, "UPDATE outbox_marks SET due_from = now() + interval '90 seconds'")
    bus = Recorder()
    with relay_to(url, bus=bus) as relay:
        relay.sweep(5)
    assert bus.bodies == ["a", "b", "c", "d"]


def test_an_event_that_goes_nowhere_for_now_is_found_again(url: str) -> None:
    """It goes back to the time at which it happened, and marks have moved on."""
    execute(url, "UPDATE outbox SET created_at = now() - interval '1 day'")
    is_away = [True]
    bus = Recorder(lambda _: Result.UNAVAILABLE if is_away else Result.SENT)
    with relay_to(url, bus=bus) as relay:
        hand_over(relay, 1)
    is_away.clear()
    with relay_to(url, bus=bus) as relay:
        relay._marks._search_at = float("inf")  # it would find them, too
        relay.sweep(5)
    assert bus.bodies == ["a", "b", "c", "d"]


def test_a_first_mark_is_set_where_the_oldest_event_is_not_found_in_time(
    url: str,
) -> None:
    execute(url, "DELETE FROM outbox_marks")
    execute(url, "UPDATE outbox SET available_at = now() - interval '2 hours'")
    bus = Recorder()
    with relay_to(url, bus=bus) as relay, closing(connect(url)) as other:
        other.run("BEGIN")
        other.run("INSERT INTO outbox_marks VALUES ('bus', now())")
        gone = threading.Timer(2.5, other.run, ["ROLLBACK"])  # past the lock's time-out
        gone.start()
        relay.sweep(5)
        gone.join()
        relay.sweep(5)
    assert bus.bodies == ["a", "b", "c", "d"]
