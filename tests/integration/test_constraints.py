"""What the database itself refuses, whatever the code above it does."""

import pytest

from tests.support.database import execute

USER = "'00000000-0000-4000-8000-000000000001'"
OTHER = "'00000000-0000-4000-8000-000000000002'"
VARIATION = "'a0000000-0000-4000-8000-000000000001'"
ORDER: dict[str, object] = {"user_id": USER}
ITEM: dict[str, object] = {
    "order_id": 1,
    "user_id": USER,
    "product_variation": VARIATION,
    "quantity": 1,
    "price": 0,
}
ENTRY: dict[str, object] = {
    "order_id": 1,
    "kind": "'item.moved'",
    "item_id": 1,
    "from_status": 1,
    "to_status": 3,
}
RECORD: dict[str, object] = {
    "user_id": USER,
    "scope": "'key'",
    "key": "'k'",
    "fingerprint": "'f'",
    "status": 201,
    "headers": "'{}'",
    "body": "'{}'",
}
ROWS = {
    "orders": ORDER,
    "order_items": ITEM,
    "order_history": ENTRY,
    "idempotency_records": RECORD,
}


def add(url: str, table: str, **changes: object) -> None:
    values = ROWS[table] | changes
    names, given = ", ".join(values), ", ".join(map(str, values.values()))
    execute(url, f"INSERT INTO {table} ({names}) VALUES ({given})")


@pytest.fixture
def url(database_url: str) -> str:
    """Return a database with an order, which has an item, an entry and a key."""
    for table in ROWS:
        add(database_url, table)
    return database_url


@pytest.mark.parametrize(
    ("table", "changes", "constraint"),
    [
        ("orders", {"metadata": "'[]'"}, "orders_metadata_check"),
        ("orders", {"version": 0}, "orders_version_check"),
        ("orders", {"approved_at": "now()"}, "orders_approved_at_check"),
        (
            "orders",
            {"is_complete": "true", "is_approved": "true"},
            "orders_approved_at_check",
        ),
        (
            "orders",
            {"is_approved": "true", "approved_at": "now()"},
            "orders_approved_is_complete_check",
        ),
        ("order_items", {"quantity": 0}, "order_items_quantity_check"),
        ("order_items", {"quantity": 10_001}, "order_items_quantity_check"),
        ("order_items", {"price": -1}, "order_items_price_check"),
        ("order_items", {"status": 0}, "order_items_status_check"),
        ("order_items", {"status": 5}, "order_items_status_check"),
        ("order_items", {"version": 0}, "order_items_version_check"),
        ("order_items", {"order_id": 99}, "order_items_order_id_fkey"),
        ("order_items", {"product_variation": "NULL"}, "not-null"),
        ("order_items", {"user_id": "NULL"}, "not-null"),
        ("order_history", {"from_status": 0}, "order_history_from_status_check"),
        ("order_history", {"from_status": 5}, "order_history_from_status_check"),
        ("order_history", {"to_status": 0}, "order_history_to_status_check"),
        ("order_history", {"to_status": 5}, "order_history_to_status_check"),
        ("order_history", {"item_id": "NULL"}, "order_history_item_id_check"),
        ("order_history", {"kind": "'order.approved'"}, "order_history_item_id_check"),
        ("order_history", {"kind": "'item.eaten'"}, "order_history_kind_check"),
        ("idempotency_records", {}, "idempotency_records_pkey"),
        ("idempotency_records", {"scope": "'cart'"}, "cart_has_order"),
    ],
    ids=str,
)
def test_a_row_out_of_bounds_is_refused(
    url: str, table: str, changes: dict[str, object], constraint: str
) -> None:
    with pytest.raises(Exception, match=constraint):
        add(url, table, **changes)


def test_rows_within_bounds_are_taken_and_ids_have_64_bits(url: str) -> None:
    largest = 2**63 - 1
    add(url, "orders", id=largest)
    add(url, "order_items", id=largest, order_id=largest, quantity=10_000, price=2**53)
    add(url, "order_history", kind="'item.created'", from_status="NULL")
    add(url, "idempotency_records", user_id=OTHER)
    wrong = (
        "SELECT table_name, column_name FROM information_schema.columns WHERE"
        " table_schema = 'public' AND (column_name IN ('id', 'order_id', 'item_id')"
        " AND data_type <> 'bigint' OR data_type LIKE 'timestamp without%')"
    )
    assert execute(url, wrong) == []


def test_history_cannot_be_changed_and_outlives_its_order_as_items_do_not(
    url: str,
) -> None:
    with pytest.raises(Exception, match="append-only"):
        execute(url, "UPDATE order_history SET to_status = 4")
    execute(url, "DELETE FROM orders")
    assert execute(url, "SELECT count(*) FROM order_items") == [[0]]
    assert execute(url, "SELECT to_status FROM order_history") == [[3]]
