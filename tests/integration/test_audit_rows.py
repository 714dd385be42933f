"""Every row of the books, taken away, doubled and exchanged: the audit must see it."""

import random
from typing import NamedTuple

import pytest

from common.operations.audit import audit
from tests.support.audited import Tampering

# Of each table. All were seen when this was written; it takes two minutes.
ROWS, PAIRS = 8, 2


class Table(NamedTuple):
    """A table: which of its rows the audit answers for, and what of them."""

    name: str
    order: str = "order_id"
    rows: str = "true"
    # The columns that make a copy another row.
    fresh: str = "id = id + 1000"
    # Columns that are exchanged together, and between which rows (a, b).
    swaps: tuple[tuple[str, str], ...] = ()


# An operator's own resends are counted, not accounted for.
BY_THE_BOOK = "order_id NOT IN ({resent}, {released}, {replayed})"
SAME_EVENT = "a.event_id = b.event_id"
# Two entries of one moment of which nobody is told have no order that matters.
APART = (
    "(a.changed_at <> b.changed_at"
    " OR (a.event_id IS NOT NULL AND b.event_id IS NOT NULL))"
)
SAME_LINE = "a.order_id = b.order_id AND a.destination = b.destination"
EVENT_SWAPS = (
    ("order_id", "true"),
    ("event_id", "true"),
    ("event_type", "true"),
    ("body", "true"),
)
QUEUE_SWAPS = (("id", SAME_LINE), ("destination", SAME_EVENT), *EVENT_SWAPS)
TABLES = {
    table.name: table
    for table in (
        Table(
            "orders",
            order="id",
            swaps=(
                ("id", "true"),
                ("user_id", "true"),
                ("created_at", "true"),
                ("is_complete", "NOT a.is_approved AND NOT b.is_approved"),
                ("is_approved, approved_at, is_complete", "true"),
                ("cart_id", "true"),
            ),
        ),
        Table(
            "order_items",
            swaps=(
                ("id", "true"),
                ("order_id", "true"),
                ("user_id", "true"),
                ("status", "true"),
                ("shop_id", "true"),
                ("product_id", "true"),
                ("product_variation", "true"),
                ("price", "true"),
            ),
        ),
        Table(
            "order_history",
            swaps=(
                ("id", f"a.order_id = b.order_id AND {APART}"),
                ("order_id", "true"),
                ("kind", "(a.item_id IS NULL) = (b.item_id IS NULL)"),
                ("item_id", "a.item_id IS NOT NULL AND b.item_id IS NOT NULL"),
                ("from_status, to_status", "true"),
                ("changed_at", "a.order_id = b.order_id"),
                ("event_id, destinations", "true"),
            ),
        ),
        Table("sent_events", rows=BY_THE_BOOK, swaps=QUEUE_SWAPS),
        Table("outbox", swaps=(QUEUE_SWAPS[0], *EVENT_SWAPS)),
        Table("dead_letters", rows=BY_THE_BOOK, swaps=EVENT_SWAPS),
        Table(
            "idempotency_records",
            rows="scope = 'cart'",
            fresh="key = key || 'x'",
            swaps=(("order_id", "true"), ("user_id", "true"), ("body", "true")),
        ),
    )
}


def keep(world: Tampering, table: Table) -> None:
    """Copy the rows to `kept`, so that each has the same place in both."""
    world.spoil(
        f"CREATE TABLE kept AS SELECT * FROM {table.name}",
        f"ALTER TABLE {table.name} DROP CONSTRAINT {table.name}_pkey CASCADE",
    )
    restore(world, table)


def restore(world: Tampering, table: Table) -> None:
    name = table.name
    world.spoil(f"TRUNCATE {name}", f"INSERT INTO {name} SELECT * FROM kept")


def rows_of(world: Tampering, table: Table) -> list[tuple[str, int]]:
    """Return each row that is answered for: its place, and its order."""
    found = world.run(
        f"SELECT CAST(ctid AS text), {table.order} FROM {table.name}"
        f" WHERE {table.rows} ORDER BY ctid"
    )
    assert len(found) > 1
    rows = [(str(place), int(order_id)) for place, order_id in found]
    return random.Random(table.name).sample(rows, min(ROWS, len(rows)))


def named(world: Tampering) -> set[int]:
    return {difference.order_id for difference in audit(world.engine).differences}


@pytest.mark.parametrize("name", TABLES)
def test_a_row_that_is_gone_or_there_twice_is_seen(world: Tampering, name: str) -> None:
    table = TABLES[name]
    keep(world, table)
    for place, order_id in rows_of(world, table):
        row = f"SELECT * FROM kept WHERE ctid = '{place}'"
        world.spoil(f"DELETE FROM {name} WHERE ctid = '{place}'")
        assert order_id in named(world), place
        world.spoil(
            f"INSERT INTO {name} {row}",
            f"CREATE TABLE copy AS {row}",
            f"UPDATE copy SET {table.fresh}",
            f"INSERT INTO {name} SELECT * FROM copy",
            "DROP TABLE copy",
        )
        # A second order is a second id, and that is the one nobody knows of.
        expected = order_id + 1000 if name == "orders" else order_id
        assert expected in named(world), place
        restore(world, table)
    assert named(world) == set()


def test_an_order_that_is_gone_with_all_its_rows_is_missed(world: Tampering) -> None:
    for name in ("fresh", "empty", "by_hand", "approved"):
        world.run(f"DELETE FROM orders WHERE id = {{{name}}}")
        assert (name, "order-missing") in world.differences()


@pytest.mark.parametrize(
    ("name", "columns", "between"),
    [(name, *swap) for name, table in TABLES.items() for swap in table.swaps],
    ids=lambda value: value if len(value) < 25 else "",
)
def test_what_two_rows_exchanged_is_seen(
    world: Tampering, name: str, columns: str, between: str
) -> None:
    table = TABLES[name]
    keep(world, table)
    columns_ = [column.strip() for column in columns.split(",")]
    differs = " OR ".join(f"a.{n} IS DISTINCT FROM b.{n}" for n in columns_)
    pairs = world.run(
        f"SELECT CAST(a.ctid AS text), CAST(b.ctid AS text), a.{table.order},"
        f" b.{table.order} FROM (SELECT ctid, * FROM kept WHERE {table.rows}) a,"
        f" (SELECT ctid, * FROM kept WHERE {table.rows}) b"
        f" WHERE a.ctid < b.ctid AND ({between}) AND ({differs}) ORDER BY 1, 2"
    )
    assert pairs
    exchange = ", ".join(f"{n} = b.{n}" for n in columns_)
    few = random.Random(columns).sample(pairs, min(PAIRS, len(pairs)))
    for one, other, *orders in few:
        world.spoil(
            f"UPDATE {name} a SET {exchange} FROM kept b WHERE"
            f" (a.ctid = '{one}' AND b.ctid = '{other}')"
            f" OR (a.ctid = '{other}' AND b.ctid = '{one}')"
        )
        assert named(world).intersection(orders), (one, other)
        restore(world, table)
