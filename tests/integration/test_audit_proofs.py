"""The audit of what no second row confirms: bodies, who acted, and what is gone."""

from collections.abc import Callable
from contextlib import closing

import pytest

from common.database import migrations, readiness
from common.operations.audit import audit
from tests.support.audited import Tampering
from tests.support.database import connect, execute
from tests.support.orderctl import orderctl
from tests.support.relaying import engine_on

TABLES = (
    *("order_history", "sent_events", "outbox", "order_items", "idempotency_records"),
    *("dead_letters", "deleted_items"),
)


def remove(world: Tampering, name: str) -> None:
    """Remove an order with all that is known of it."""
    world.spoil(
        *(f"DELETE FROM {table} WHERE order_id = {{{name}}}" for table in TABLES),
        f"DELETE FROM orders WHERE id = {{{name}}}",
    )


# A delivered item, as analytics is told of it; every part, and the order's time.
ANALYTICS = (
    *(('"quantity":', '"quantity":9'), ('"price":"', '"price":"9')),
    *(('.99"', '.98"'), ('"product_variation":"', '"product_variation":"9')),
    *(('"created_at":"2', '"created_at":"1'), ('+00:00"', 'Z"')),
)


def rewrite_analytics(world: Tampering, change: Callable[[str], str]) -> None:
    """Change what analytics was told of the approved order."""
    where = "order_id = {approved} AND destination = 'analytics'"
    [[row, body]] = world.run(f"SELECT id, body FROM sent_events WHERE {where}")
    assert change(body) != body
    with closing(connect(world.url)) as connection:
        update = "UPDATE sent_events SET body = :body WHERE id = :row"
        connection.run(update, body=change(body), row=row)


@pytest.mark.parametrize(("part", "instead"), ANALYTICS)
def test_what_analytics_was_told_is_compared_whole(
    world: Tampering, part: str, instead: str
) -> None:
    rewrite_analytics(world, lambda body: body.replace(part, instead, 1))
    assert world.differences() == {("approved", "event-body-differs")}


def test_an_item_that_was_not_delivered_is_none_of_analytics(world: Tampering) -> None:
    [[delivered], *_, [cancelled]] = world.run(
        "SELECT id FROM order_items WHERE order_id = {approved} ORDER BY status, id"
    )
    of_item = '"id":"{}","quantity'
    change = (of_item.format(delivered), of_item.format(cancelled))
    rewrite_analytics(world, lambda body: body.replace(*change))
    assert world.differences() == {("approved", "event-body-differs")}


BODIES = {
    "sent_events": "UPDATE sent_events SET body = replace(body, '{0}', '{1}')",
    "outbox": "UPDATE outbox SET body = replace(body, '{0}', '{1}')",
    "dead_letters": "UPDATE dead_letters SET body = convert_to(replace("
    "convert_from(body, 'UTF8'), '{0}', '{1}'), 'UTF8')",
}


@pytest.mark.parametrize(
    ("name", "table"),
    [
        *(("deleted", "sent_events"), ("emptied", "sent_events")),
        *(("by_hand", "sent_events"), ("owed", "outbox"), ("dead", "dead_letters")),
    ],
)
@pytest.mark.parametrize("part", ['"price":', '"product_id":"', '"quantity":'])
def test_any_change_of_a_body_is_found_also_when_its_order_is_deleted(
    world: Tampering, name: str, table: str, part: str
) -> None:
    where = f" WHERE order_id = {{{name}}} AND destination <> 'analytics'"
    there, back = (part, f"{part}1"), (f"{part}1", part)
    world.spoil(BODIES[table].format(*there) + where)
    assert world.differences() == {(name, "event-body-differs")}
    world.spoil(BODIES[table].format(*back) + where)
    assert world.differences() == set()


@pytest.mark.parametrize("name", ["shipped", "approved", "deleted", "empty", "owed"])
def test_an_order_that_is_gone_with_all_its_traces_is_named(
    world: Tampering, name: str
) -> None:
    assert world.differences() == set()
    remove(world, name)
    assert world.differences() == {(name, "order-vanished")}
    # A second look says the same, and one order can be asked for.
    said = orderctl(world.url, "audit", "--json", "--order", world.orders[name])
    assert [d["what"] for d in said.json["differences"]] == ["order-vanished"]
    assert said.status == 1


def test_the_last_and_the_only_orders_are_missed_too(world: Tampering) -> None:
    audit(world.engine)  # seals
    for name in world.orders:
        remove(world, name)
    assert world.differences() == {(name, "order-vanished") for name in world.orders}


def test_sweeps_seal_orders(database_url: str) -> None:
    insert = (
        "INSERT INTO order_history (order_id, kind) SELECT n, 'order.created'"
        " FROM unnest(ARRAY[{}]) n"
    )
    with engine_on(database_url) as engine:
        for ids in ("1, 1023, 1024, 1025, 500000", "2, 9223372036854775807", "3"):
            execute(database_url, insert.format(ids))
            assert orderctl(database_url, "relay", "--once").status == 0
        execute(database_url, "ALTER TABLE order_history DISABLE TRIGGER USER")
        execute(database_url, "DELETE FROM order_history WHERE order_id <> 1023")
        gone = [d.order_id for d in audit(engine).differences if "vanished" in d.what]
    assert gone == [1, 1024, 1025, 500000, 9223372036854775807]


def test_gaps_of_ids_are_no_difference(world: Tampering) -> None:
    world.run("SELECT nextval('orders_id_seq') FROM generate_series(1, 5000)")
    assert world.differences() == set()


ACTORS = {
    "changed_by = NULL": "actor-missing",
    "actor_kind = NULL": "actor-missing",
    "actor_kind = 'system', changed_by = NULL": "actor-differs",
    "actor_kind = 'operator'": "actor-differs",
}


@pytest.mark.parametrize("change", ACTORS)
@pytest.mark.parametrize("kind", ["order.created", "item.created", "item.moved"])
def test_who_acted_is_recorded_and_possible(
    world: Tampering, kind: str, change: str
) -> None:
    world.spoil(
        f"UPDATE order_history SET {change} WHERE id = (SELECT min(id)"
        f" FROM order_history WHERE order_id = {{shipped}} AND kind = '{kind}')"
    )
    assert ("shipped", ACTORS[change]) in world.differences()


def test_an_approval_needs_no_person_but_no_stranger(world: Tampering) -> None:
    set_it = (
        "UPDATE order_history SET actor_kind = '{}', changed_by = gen_random_uuid()"
        " WHERE order_id = {{approved}} AND kind = 'order.approved'"
    )
    for kind in ("user", "shop", "internal", "system", "operator"):
        world.spoil(set_it.format(kind))
        assert world.differences() == {("approved", "actor-differs")}


def test_what_older_releases_recorded_names_nobody(world: Tampering) -> None:
    world.spoil(
        "UPDATE order_history SET actor_kind = NULL, event_digest = NULL",
        "UPDATE retention SET kept_from = now() WHERE table_name = 'order_history'",
    )
    assert world.differences() == set()


@pytest.mark.parametrize("until", ["infinity", "2999-01-01"])
def test_an_event_that_is_never_due_is_found_and_can_be_made_due(
    world: Tampering, until: str
) -> None:
    world.spoil(f"UPDATE outbox SET available_at = '{until}' WHERE order_id = {{owed}}")
    assert world.differences() == {("owed", "event-never-due")}
    listed = orderctl(world.url, "events", "list", "--order", world.orders["owed"])
    assert listed.status == 0, listed.err
    assert orderctl(world.url, "doctor", "--json").json["backlog"]
    for (event_id,) in world.run("SELECT event_id FROM outbox WHERE order_id = {owed}"):
        order = ("--order", world.orders["owed"])
        shown = orderctl(world.url, "events", "show", event_id, *order)
        assert shown.status == 0, shown.err
        orderctl(world.url, "events", "resend", event_id, *order, "--yes")
    assert world.differences() == set()


def test_items_may_be_sent_in_any_order_among_themselves(world: Tampering) -> None:
    of_items = "order_id = {fresh} AND event_type = 'order.item.created'"
    world.spoil(
        "UPDATE sent_events SET sent_at = sent_at - interval '1 minute' WHERE id ="
        f" (SELECT max(id) FROM sent_events WHERE {of_items})"
    )
    assert world.differences() == set()


def test_the_newest_revision_is_that_of_the_newest_migration() -> None:
    assert migrations.head() == readiness.NEWEST_REVISION


def test_a_later_releases_schema_is_no_difference(world: Tampering) -> None:
    world.spoil(
        "UPDATE alembic_version SET version_num = '9999'",
        "UPDATE order_items SET quantity = 7 WHERE order_id = {fresh}",
    )
    said = orderctl(world.url, "audit")
    assert (said.status, said.out) == (2, "")
    assert "the schema is at 9999" in said.err
    doctor = orderctl(world.url, "doctor")
    assert "The schema is at 9999, a later release's" in doctor.out
    schema = orderctl(world.url, "doctor", "--json").json["schema"]
    assert schema == {"at": "9999", "head": migrations.head()}
