"""`orderctl doctor`: its findings, its repairs, and what it leaves alone."""

import time
from contextlib import closing

import pytest

from common.database import migrations
from common.database.engine import ping
from common.database.snapshots import Snapshot
from common.operations.diagnosis import GRACE_SECONDS
from tests.support.audited import SINK, Tampering
from tests.support.database import connect, database, execute, plain_engine
from tests.support.orderctl import orderctl
from tests.support.parallel import in_background
from tests.support.relaying import column, engine_on, owe
from tests.support.sandbox import Sandbox

OLD = f"now() - interval '{GRACE_SECONDS + 60} seconds'"
USER = "00000000-0000-4000-8000-000000000001"


def findings(url: str, *arguments: object, **settings: str) -> list[str]:
    said = orderctl(url, "doctor", "--json", *arguments, **settings)
    found: list[str] = said.json["complaints"]
    assert said.status == (1 if found else 0), said.err
    assert said.json["is_well"] == (not found)
    return found


def complete_order(url: str) -> None:
    execute(
        url,
        f"WITH o AS (INSERT INTO orders (user_id, is_complete, created_at) VALUES"
        f" ('{USER}', true, {OLD}) RETURNING id)"
        " INSERT INTO order_items (order_id, user_id, product_variation, quantity,"
        f" price, status) SELECT id, '{USER}', '{USER}', 1, 5, 4 FROM o",
    )


def test_all_is_well_where_nothing_waits(database_url: str) -> None:
    said = orderctl(database_url, "doctor")
    assert (said.status, said.out, said.err) == (0, "all is well\n", "")
    assert findings(database_url) == []


def test_recent_events_and_orders_count_as_in_progress(database_url: str) -> None:
    owe(database_url, 4, "{}", to=SINK)
    complete_order(database_url)
    execute(database_url, "UPDATE orders SET created_at = now()")
    assert findings(database_url) == []
    found = orderctl(database_url, "doctor", "--json").json
    [waiting] = found["backlog"]
    assert (waiting["destination"], waiting["pending"]) == (SINK, 1)
    assert not waiting["is_served"]


def test_an_event_pending_for_longer_than_the_grace_period_is_reported_with_its_age(
    database_url: str,
) -> None:
    owe(database_url, 4, "{}", "{}", to=SINK)
    execute(database_url, f"UPDATE outbox SET created_at = {OLD} WHERE id = 1")
    assert findings(database_url, "--patience", 600) == []
    [said] = findings(database_url)
    assert said.startswith("http: 2 pending, the oldest for 18")
    assert "no relay has ever served it; is a relay running" in said
    said = orderctl(database_url, "doctor")
    assert "http         2        3m" in said.out


def test_a_held_snapshot_is_reported_with_who_holds_it_and_how_to_end_it(
    database_url: str,
) -> None:
    with closing(connect(database_url)) as holder:
        holder.run("SET application_name = 'nightly report'")
        holder.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
        [[process, login]] = holder.run("SELECT pg_backend_pid(), current_user")
        assert findings(database_url) == []  # not for long yet
        time.sleep(1.1)
        [said] = findings(database_url, "--patience", 1)
        assert f"process {process} of {login} (nightly report" in said
        assert "idle in transaction" in said
        assert f"pg_terminate_backend({process})" in said
        [held] = orderctl(database_url, "doctor", "--json", "--patience", 1).json[
            "snapshots"
        ]
        assert held["seconds"] >= 1
    assert findings(database_url, "--patience", 1) == []


def test_processes_that_may_open_more_connections_than_there_are_are_reported(
    database_url: str,
) -> None:
    [[allowed]] = execute(
        database_url,
        "SELECT current_setting('max_connections')::int"
        " - current_setting('superuser_reserved_connections')::int"
        " - coalesce(current_setting('reserved_connections', true)::int, 0)",
    )
    half = allowed // 2
    with engine_on(database_url, half) as first, engine_on(database_url, half) as other:
        for engine in (first, first, other):
            ping(engine)
        assert findings(database_url) == []
        with engine_on(database_url, 2) as one_more:
            ping(one_more)
            [said] = findings(database_url)
    assert f"may open {2 * half + 2} connections" in said
    assert f"allows them {allowed}" in said
    assert findings(database_url) == []


@pytest.mark.parametrize(
    "changes",
    [
        "created_at = now() + interval '90 s', available_at = now() + interval '90 s'",
        "available_at = now() + interval '2 hours'",
        "available_at = now() + interval '1 hour', sending_since = now()",
    ],
)
def test_events_recorded_before_the_clock_went_back_are_reported_and_sent(
    database_url: str, changes: str
) -> None:
    owe(database_url, 4, "{}", to="analytics")
    execute(database_url, f"UPDATE outbox SET {changes}")
    said = findings(database_url, ANALYTIC_SERVICE="http://127.0.0.1:9")
    assert [line for line in said if "clock went back" in line]


def test_a_resend_does_not_count_as_old_as_its_event(
    database_url: str,
) -> None:
    for to in (SINK, "analytics"):
        owe(database_url, 4, "{}", to=to)
    execute(database_url, f"UPDATE outbox SET created_at = {OLD}, is_resend = true")
    settings = {"ANALYTIC_SERVICE": "http://127.0.0.1:1"}
    assert findings(database_url, **settings) == []


def test_a_failing_event_that_blocks_its_order_is_reported(database_url: str) -> None:
    owe(database_url, 4, "{}", "{}", to=SINK)
    owe(database_url, 5, "{}", to=SINK)
    execute(
        database_url,
        "UPDATE outbox SET attempts = 3, last_error = 'answered 422',"
        " available_at = now() + interval '1 hour' WHERE id = 1",
    )
    execute(database_url, "UPDATE outbox SET attempts = 9 WHERE id = 2")
    execute(database_url, "UPDATE outbox SET attempts = 2 WHERE id = 3")
    why, said = findings(database_url)
    assert "last error: answered 422" in why
    assert said.startswith("failing events that block their orders: 1;")
    [stuck] = orderctl(database_url, "doctor", "--json").json["stuck"]
    assert (stuck["order_id"], stuck["attempts"]) == (4, 3)
    assert stuck["reason"] == "answered 422"


def test_a_complete_order_not_approved_since_its_last_change_is_reported(
    database_url: str,
) -> None:
    complete_order(database_url)
    [said] = findings(database_url)
    assert said.startswith("complete orders that are not approved: 1;")
    [unapproved] = orderctl(database_url, "doctor", "--json").json["unapproved"]
    assert unapproved["order_id"] == 1
    assert unapproved["seconds"] > GRACE_SECONDS
    execute(
        database_url,
        "INSERT INTO order_history (order_id, kind, item_id) VALUES"
        " (1, 'item.moved', 1)",
    )
    assert findings(database_url) == []


def test_an_approval_that_analytics_was_not_notified_of_is_reported(
    database_url: str,
) -> None:
    owe(database_url, 4, "{}", to="analytics", event_type="analytics.order.completed")
    execute(database_url, f"UPDATE outbox SET created_at = {OLD}")
    settings = {"ANALYTIC_SERVICE": "http://127.0.0.1:1"}
    _, *said = findings(database_url, **settings)
    assert said[0].startswith(
        "approved orders that analytics has not been notified of: 1;"
    )
    [pending] = orderctl(database_url, "doctor", "--json", **settings).json["analytics"]
    assert pending["order_id"] == 4
    assert pending["seconds"] > GRACE_SECONDS


def test_held_events_and_open_dead_letters_are_reported(world: Tampering) -> None:
    world.run("UPDATE outbox SET created_at = now()")
    why, held, letters = findings(world.url, "--patience", 86_400)
    assert why.startswith("http: ")
    assert held.startswith("held events: 1;")
    assert letters.startswith("open dead letters: 2;")
    found = orderctl(world.url, "doctor", "--json").json
    assert [event["order_id"] for event in found["held"]] == [world.orders["held"]]
    assert {le["order_id"] for le in found["dead_letters"]} == {world.orders["dead"]}
    assert found["open_dead_letters"] == 2


# What --fix does.


def test_fix_approves_sends_and_reports_what_it_did(
    database_url: str, sandbox: Sandbox
) -> None:
    complete_order(database_url)
    owe(database_url, 7, '{"a":1}', to=SINK)
    execute(database_url, f"UPDATE outbox SET created_at = {OLD}")
    said = orderctl(database_url, "doctor", "--fix", **sandbox.environ)
    assert said.status == 0, said.err
    assert said.out.splitlines() == [
        "approved 1 orders: 1",
        "released no expired leases",
        "events: 3 sent",
        "",
        "all is well",
    ]
    assert execute(database_url, "SELECT is_approved FROM orders") == [[True]]
    assert len(sandbox.completed_orders) == 1


def test_an_unfinished_attempt_is_reported_once_its_lease_expired_and_fix_releases_it(
    database_url: str,
) -> None:
    for order_id in (4, 5, 6):
        owe(database_url, order_id, "{}", to=SINK)
    execute(
        database_url,
        "UPDATE outbox SET sending_since = now() - interval '70 seconds',"
        " available_at = now() + interval '1 minute' * (2 * id - 3) WHERE id < 3",
    )
    [said] = findings(database_url)
    assert said.startswith("unfinished attempts: 1;")
    [leased] = orderctl(database_url, "doctor", "--json").json["leased"]
    assert leased["order_id"] == 4
    execute(database_url, "UPDATE outbox SET destination = 'rabbitmq'")  # sent nothing
    said = orderctl(database_url, "doctor", "--fix", "--json")
    assert said.json["repairs"] == {"approved": [], "released": 1, "events": {}}
    assert column(database_url, "doubts") == [1, 0, 0]
    assert [bool(at) for at in column(database_url, "sending_since")] == [0, 1, 0]


def test_fix_leaves_what_a_relay_has_claimed_meanwhile(database_url: str) -> None:
    owe(database_url, 4, "{}", to="rabbitmq")
    execute(
        database_url,
        "UPDATE outbox SET sending_since = now() - interval '70 seconds',"
        " available_at = now() - interval '10 seconds'",
    )
    with closing(connect(database_url)) as relay:
        relay.run("BEGIN")
        relay.run(
            "UPDATE outbox SET doubts = doubts + 1, sending_since = now(),"
            " available_at = now() + interval '1 minute'"
        )
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        )
        with in_background(lambda: orderctl(database_url, "doctor", "--fix")) as fixed:
            while not execute(database_url, waiting)[0][0]:
                assert not fixed.done()
            relay.run("COMMIT")
        assert "released no expired leases" in fixed.result().out
    assert column(database_url, "doubts") == [1]
    assert column(database_url, "sending_since") != [None]


def test_fix_leaves_held_events_and_dead_letters_to_operators(
    world: Tampering, sandbox: Sandbox
) -> None:
    world.run("UPDATE outbox SET created_at = now()")
    world.run(  # what backs off would be sent later
        "UPDATE outbox SET available_at = now()"
        " WHERE available_at > now() AND sending_since IS NULL AND held_since IS NULL"
    )
    kept = "SELECT CAST(x AS text) FROM {0} x WHERE {1} ORDER BY id"
    held = kept.format("outbox", "held_since IS NOT NULL")
    letters = kept.format("dead_letters", "true")
    before = world.run(held), world.run(letters)
    said = orderctl(world.url, "doctor", "--fix", **sandbox.environ)
    assert said.status == 1
    assert before == (world.run(held), world.run(letters))
    told = [line for line in said.out.splitlines() if line.startswith("! ")]
    assert [line.partition(":")[0] for line in told] == [
        "! held events",
        "! open dead letters",
    ]


def test_fix_needs_to_know_where_events_go(database_url: str) -> None:
    settings = {"EVENT_BUS": "", "EVENT_SINK_URL": ""}
    said = orderctl(database_url, "doctor", "--fix", **settings)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("orderctl: EVENT_BUS is not set")


# The schema.


@pytest.mark.parametrize("revision", ["0001", None])
def test_a_schema_that_is_behind_is_the_only_finding(
    postgres_url: str, revision: str | None
) -> None:
    with database(postgres_url) as url:
        if revision:
            with plain_engine(url) as engine:
                migrations.upgrade(engine, revision)
        [said] = findings(url)
        found = orderctl(url, "doctor", "--json").json
    assert "run orderctl migrate" in said
    assert found["schema"] == {"at": revision or "empty", "head": migrations.head()}


def test_the_schema_of_a_later_release_is_no_finding(world: Tampering) -> None:
    world.run("UPDATE alembic_version SET version_num = '9999'")
    world.run("TRUNCATE outbox, dead_letters")
    world.run("UPDATE orders SET is_complete = false WHERE NOT is_approved")
    assert findings(world.url) == []


def test_lists_are_bounded_and_say_so(database_url: str) -> None:
    owe(database_url, 1, *["{}"] * 25, to=SINK)
    execute(database_url, "UPDATE outbox SET attempts = 4, order_id = id")
    [said] = findings(database_url)
    assert said.startswith("failing events that block their orders: 20 or more;")


def test_a_prepared_transaction_is_named_by_what_is_known_of_it() -> None:
    prepared = Snapshot("prepared", "batch", "bob", None, None, None, 3)
    assert prepared.owner == "prepared transaction batch of bob"
