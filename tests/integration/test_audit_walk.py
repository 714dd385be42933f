"""The audit's way through all orders: before the ledger, ranges, chunks, limits."""

from typing import Any
from unittest import mock

import pytest

from common.database.engine import Engine, Statement, transaction
from common.errors import BusyError
from common.operations import audit as audit_module
from common.operations import audit_checks
from common.operations.audit import audit
from tests.support.audited import Tampering

# Before there was a ledger.


def test_history_from_before_the_ledger_lacks_nothing(world: Tampering) -> None:
    old = "UPDATE {table} SET {column} = {column} - interval '1 year'"
    tables = ("order_history", "changed_at"), ("orders", "created_at")
    world.spoil(
        *(old.replace("{table}", t).replace("{column}", c) for t, c in tables),
        "UPDATE orders SET approved_at = approved_at - interval '1 year',"
        " cart_id = NULL",
        "UPDATE order_history SET event_id = NULL, destinations = '{{}}'",
        "TRUNCATE sent_events, outbox, dead_letters",
        # A removed item left a cancellation behind, a deleted order only its items.
        "UPDATE order_history SET kind = 'item.moved' WHERE kind = 'item.removed'",
        "DELETE FROM order_history WHERE order_id = {deleted} AND kind LIKE 'order.%'",
        # What was pending then has no entry that knows of it.
        "INSERT INTO outbox (destination, order_id, event_id, event_type, body,"
        " created_at) VALUES ('http', {fresh}, gen_random_uuid(), 'order.created',"
        " '{{}}', now() - interval '1 year')",
    )
    assert world.differences() == set()
    assert audit(world.engine).orders == len(world.orders)


def test_an_order_that_is_older_than_the_ledger_is_compared_from_then_on(
    world: Tampering,
) -> None:
    world.spoil(
        "UPDATE order_history SET event_id = NULL, destinations = '{{}}',"
        " changed_at = changed_at - interval '1 year'"
        " WHERE order_id = {shipped} AND kind <> 'item.moved'",
        "UPDATE orders SET created_at = created_at - interval '1 year',"
        " cart_id = NULL WHERE id = {shipped}",
        "DELETE FROM sent_events WHERE order_id = {shipped}"
        " AND event_type <> 'order.item.status.updated'",
    )
    assert world.differences() == set()
    world.spoil(
        "UPDATE order_history SET event_id = NULL, destinations = '{{}}'"
        " WHERE order_id = {shipped}",
        "DELETE FROM sent_events WHERE order_id = {shipped}",
    )
    assert world.differences() == {("shipped", "untold")}


# How it goes through many orders.


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_chunks_change_nothing_but_the_pace(world: Tampering, chunk: int) -> None:
    world.spoil("DELETE FROM sent_events WHERE order_id IN ({fresh}, {approved})")
    whole, seen = audit(world.engine), []
    parts = audit(
        world.engine, chunk=chunk, progress=lambda done, last: seen.append((done, last))
    )
    assert parts == whole
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (max(world.orders.values()), max(world.orders.values()))


def test_gaps_between_ids_cost_nothing(world: Tampering) -> None:
    far = 2**62
    world.spoil(
        f"INSERT INTO orders (id, user_id) VALUES ({far}, gen_random_uuid())",
        "INSERT INTO outbox (destination, order_id, event_id, event_type, body)"
        f" VALUES ('http', {far // 2}, gen_random_uuid(), 'order.created', '{{{{}}}}')",
    )
    assert world.differences() == {
        (str(far), "order-unrecorded"),
        (str(far // 2), "event-unknown"),
    }


def test_a_range_and_a_limit_bound_what_is_looked_at_and_listed(
    world: Tampering,
) -> None:
    world.spoil("DELETE FROM sent_events")
    low, high = world.orders["shipped"], world.orders["approved"]
    report = audit(world.engine, between=(low, high))
    assert {d.order_id for d in report.differences} == set(range(low, high + 1))
    assert report.orders == high - low + 1
    assert audit(world.engine, between=(10**9, 2 * 10**9)).orders == 0
    whole = audit(world.engine)
    report = audit(world.engine, limit=2, chunk=3)
    assert report.found == whole.found > 2
    assert report.differences == whole.differences[:2]


def test_a_chunk_that_takes_too_long_is_tried_in_smaller_ones(
    world: Tampering, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare, sizes = audit_module._compare, []

    def slow(engine: Engine, low: int, high: int, *rest: Any) -> None:
        sizes.append(high - low + 1)
        if high - low >= 2:
            raise BusyError
        compare(engine, low, high, *rest)

    monkeypatch.setattr(audit_module, "_compare", slow)
    whole = len(world.orders)
    assert audit(world.engine, chunk=whole).orders == whole
    assert sizes[0] == whole
    assert set(sizes[-5:]) <= {1, 2}
    monkeypatch.setattr(audit_module, "_compare", mock.Mock(side_effect=BusyError))
    with pytest.raises(BusyError):
        audit(world.engine)


def test_a_chunk_is_seen_as_of_one_moment_and_is_only_read(world: Tampering) -> None:
    with transaction(world.engine) as connection:
        connection.execute(audit_checks.BEGIN)
        for name, value in (
            ("transaction_isolation", "repeatable read"),
            ("transaction_read_only", "on"),
        ):
            assert connection.execute(Statement(f"SHOW {name}")).scalar_one() == value


def test_an_empty_database_has_no_difference(world: Tampering) -> None:
    world.spoil(
        "TRUNCATE orders, order_items, order_history, outbox, sent_events,"
        " dead_letters, idempotency_records, ledger_seals, ordered_lines, stock_holds"
    )
    report = audit(world.engine)
    assert (report.orders, report.events, report.found) == (0, 0, 0)
