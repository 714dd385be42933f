"""The audit of events: bodies, their order, and what operators and retention do."""

from collections.abc import Iterator
from typing import Any

import pytest

from common.api_docs.documents import parsed
from common.database.engine import connect
from common.domain import events
from common.messaging import outbox
from tests.support.audited import Tampering

# For each type of event, an order of `tests/support/audited.py` that causes it.
CAUSED_BY = {
    events.ORDER_CREATED: "fresh",
    events.ITEM_CREATED: "fresh",
    events.STATUS_UPDATED: "approved",
    events.ORDER_APPROVED: "approved",
    events.ORDER_DELETED: "deleted",
    events.ANALYTICS_NOTIFICATION: "approved",
}
# The type is compared as the row has it.
NOT_COMPARED = {
    (type_, name) for type_ in CAUSED_BY for name in ("event", "event_type")
}
NOT_COMPARED.add((events.ANALYTICS_NOTIFICATION, "created_at"))


def members(body: Any) -> Iterator[str]:
    """Yield the name of every value in a body, as JSON spells it up to the value."""
    for name, value in body.items():
        if isinstance(value, list):
            yield from members(value[0])
        elif isinstance(value, dict):
            yield from members(value)
        else:
            yield f'"{name}":' + ('"' if isinstance(value, str) else "")


PARTS = [
    (type_, part)
    for type_, message in parsed("asyncapi")["components"]["messages"].items()
    for part in sorted({*members(message["examples"][0]["payload"])})
    if (type_, part.split('"')[1]) not in NOT_COMPARED
]


@pytest.mark.parametrize(("type_", "part"), PARTS)
def test_a_body_that_says_something_else_is_found(
    world: Tampering, type_: str, part: str
) -> None:
    name = CAUSED_BY.get(type_)
    assert name, f"add {type_} to CAUSED_BY, and to that order what causes it"
    of_type = f"order_id = {{{name}}} AND event_type = '{type_}'"
    which = f"{of_type} AND strpos(body, '{part}') > 0"
    [[count]] = world.run(f"SELECT count(*) FROM sent_events WHERE {which}")
    assert count, f"order {name!r} has no {type_} with {part}"
    world.spoil(
        f"UPDATE sent_events SET body = replace(body, '{part}', '{part}9')"
        f" WHERE {which}"
    )
    assert (name, "event-body-differs") in world.differences(), (
        f"compare {part} of {type_} in common/operations/audit_events.py (_MATCHED)"
    )


def test_a_body_that_is_cut_short_is_found(world: Tampering) -> None:
    world.spoil(
        "UPDATE sent_events SET body = right(body, -1) WHERE order_id = {approved}"
        " AND event_type = 'order.approved'"
    )
    assert world.differences() == {("approved", "event-body-differs")}


def test_a_delivered_item_that_analytics_was_not_told_of_is_found(
    world: Tampering,
) -> None:
    world.spoil(
        "UPDATE sent_events SET body = regexp_replace(body, '{{\"id\"[^}}]*}},', '')"
        " WHERE order_id = {approved} AND destination = 'analytics'"
    )
    assert world.differences() == {("approved", "event-body-differs")}


def test_an_item_that_was_never_delivered_or_ordered_is_found(
    world: Tampering,
) -> None:
    for kind, item in (
        ("analytics.order.completed", '{{"id":"9999","product_variation":"x"}}'),
        ("order.created", '{{"product_variation_id":"x","quantity":1}}'),
    ):
        world.spoil(
            f"UPDATE sent_events SET body = replace(body, ']', ',{item}]')"
            f" WHERE order_id = {{approved}} AND event_type = '{kind}'"
        )
        assert world.differences() == {("approved", "event-body-differs")}
        world.spoil(
            f"UPDATE sent_events SET body = replace(body, ',{item}]', ']')"
            " WHERE order_id = {approved}"
        )
    assert world.differences() == set()


def test_an_event_that_is_no_json_does_not_end_the_audit(world: Tampering) -> None:
    world.spoil(
        "UPDATE sent_events SET body = 'x' WHERE order_id = {fresh}",
        "UPDATE dead_letters SET body = '\\xff00' WHERE order_id = {dead}",
        "UPDATE outbox SET body = '{{' WHERE order_id = {owed}",
    )
    found = {name for name, what in world.differences() if "body" in what}
    assert found == {"fresh", "dead", "owed"}


# Items are announced side by side: one that was refused stays behind its siblings.


def refuse(world: Tampering, name: str, which: str) -> None:
    """Put the order's event back into the outbox, as if it had been refused."""
    columns = "id, destination, order_id, event_id, event_type, body"
    world.spoil(
        f"INSERT INTO outbox ({columns}) SELECT {columns} FROM sent_events"
        f" WHERE order_id = {{{name}}} AND {which}",
        f"DELETE FROM sent_events WHERE order_id = {{{name}}} AND {which}",
    )


ITEMS = "event_type = 'order.item.created'"
FIRST = f"id = (SELECT min(id) FROM sent_events WHERE order_id = {{%s}} AND {ITEMS})"


def test_an_item_may_stay_behind_the_items_announced_with_it(world: Tampering) -> None:
    refuse(world, "fresh", "event_type = 'order.created'")
    assert world.differences() == set()
    refuse(world, "fresh", FIRST % "fresh")
    assert world.differences() == set()


def test_nothing_else_may_overtake_an_item(world: Tampering) -> None:
    refuse(world, "fresh", FIRST % "fresh")
    assert world.differences() == {("fresh", "event-overtaken")}


def test_an_item_that_was_added_later_may_not_overtake_one(world: Tampering) -> None:
    refuse(world, "by_hand", "event_type = 'order.item.status.updated'")
    assert world.differences() == set()
    world.spoil(
        "UPDATE outbox SET id = -id WHERE order_id = {by_hand}",
        "UPDATE sent_events SET id = id - 100000 WHERE order_id = {by_hand}"
        f" AND {FIRST % 'by_hand'}",
    )
    assert ("by_hand", "event-overtaken") in world.differences()


# What operators do leaves no difference, and hides none.


def test_an_event_that_was_replayed_and_is_gone_is_lost(world: Tampering) -> None:
    world.spoil("DELETE FROM sent_events WHERE order_id = {replayed} AND is_resend")
    assert world.differences() == {("replayed", "event-lost")}


def test_a_resend_that_died_is_no_difference(world: Tampering) -> None:
    columns = "order_id, event_id, event_type, destination, body"
    values = "order_id, event_id, event_type, destination, convert_to(body, 'UTF8')"
    letter = (
        f"INSERT INTO dead_letters (source, reason, {columns})"
        f" SELECT 'outbox', 'told so', {values} FROM sent_events"
        " WHERE order_id = {resent} AND NOT is_resend"
    )
    world.spoil(letter)
    assert world.differences() == set()
    world.spoil("UPDATE sent_events SET sent_at = now() WHERE order_id = {resent}")
    assert {what for _, what in world.differences()} == {"event-doubled"}


@pytest.mark.parametrize(
    ("name", "later"), [("replayed", 0), ("discarded", 1), ("dead", 1)]
)
def test_a_second_letter_that_nothing_explains_is_found(
    world: Tampering, name: str, later: int
) -> None:
    """Of one that was replayed a second may come later, if the resend died too."""
    columns = "source, reason, destination, order_id, event_id, body, settled_as"
    second = (
        f"INSERT INTO dead_letters ({columns}, settled_at, event_type, created_at)"
        f" SELECT {columns}, settled_at, event_type, created_at + interval '{later} s'"
        f" FROM dead_letters WHERE order_id = {{{name}}} ORDER BY id LIMIT 1"
    )
    world.spoil(second)
    assert world.differences() == {(name, "event-doubled")}


def test_a_second_open_letter_of_a_resend_is_found(world: Tampering) -> None:
    """Whoever sends it again is told to replay the first."""
    columns = "order_id, event_id, event_type, destination"
    letter = (
        f"INSERT INTO dead_letters (source, reason, {columns}, body)"
        f" SELECT 'outbox', 'told so', {columns}, convert_to(body, 'UTF8')"
        " FROM sent_events WHERE order_id = {resent} AND NOT is_resend LIMIT 1"
    )
    world.spoil(letter, letter)
    assert world.differences() == {("resent", "event-doubled")}


def test_what_retention_deleted_is_no_difference(world: Tampering) -> None:
    """Times move to before, but for those that bodies tell."""
    long_ago = "{0} = {0} - interval '40 days'"
    world.spoil(
        f"UPDATE dead_letters SET {long_ago.format('settled_at')}",
        f"UPDATE sent_events SET {long_ago.format('sent_at')}",
        f"UPDATE order_history SET {long_ago.format('changed_at')}",
        f"UPDATE orders SET {long_ago.format('created_at')},"
        f" {long_ago.format('approved_at')}",
        "UPDATE outbox SET body = replace(body, '_at\":\"', '')",
    )
    with connect(world.engine) as connection:
        outbox.purge(connection, 30, 5000)
    assert world.run("SELECT count(*) FROM sent_events") == [[0]]
    assert world.run(
        "SELECT count(*) FROM dead_letters WHERE settled_as IS NOT NULL"
    ) == [[0]]
    assert world.differences() <= {("owed", "event-body-differs")}
