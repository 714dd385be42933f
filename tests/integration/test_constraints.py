"""What the database itself refuses, whatever the code above it does."""

import pytest

from tests.support.database import connect, execute

USER = "'00000000-0000-4000-8000-000000000001'"
VARIATION = "'a0000000-0000-4000-8000-000000000001'"


def add_order(url: str, **values: object) -> int:
    names = ", ".join(["user_id", *values])
    given = ", ".join([USER, *map(str, values.values())])
    statement = f"INSERT INTO orders ({names}) VALUES ({given}) RETURNING id"
    return int(str(execute(url, statement)[0][0]))


def add_item(url: str, **changes: object) -> int:
    values: dict[str, object] = {
        "order_id": 1,
        "user_id": USER,
        "product_variation": VARIATION,
        "quantity": 1,
        "price": 0,
    }
    values |= changes
    names, given = ", ".join(values), ", ".join(map(str, values.values()))
    statement = f"INSERT INTO order_items ({names}) VALUES ({given}) RETURNING id"
    return int(str(execute(url, statement)[0][0]))


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"quantity": 0}, "order_items_quantity_check"),
        ({"quantity": -1}, "order_items_quantity_check"),
        ({"quantity": 10_001}, "order_items_quantity_check"),
        ({"price": -1}, "order_items_price_check"),
        ({"status": 0}, "order_items_status_check"),
        ({"status": 5}, "order_items_status_check"),
        ({"version": 0}, "order_items_version_check"),
        ({"order_id": 99}, "order_items_order_id_fkey"),
        ({"product_variation": "NULL"}, "not-null"),
        ({"user_id": "NULL"}, "not-null"),
    ],
)
def test_an_item_out_of_bounds_is_refused(
    database_url: str, changes: dict[str, object], constraint: str
) -> None:
    add_order(database_url)
    with pytest.raises(Exception, match=constraint):
        add_item(database_url, **changes)


@pytest.mark.parametrize("quantity", [1, 10_000])
def test_an_item_within_bounds_is_taken(database_url: str, quantity: int) -> None:
    add_order(database_url)
    assert add_item(database_url, quantity=quantity, price=2**53)


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"metadata": "'[]'"}, "orders_metadata_check"),
        ({"version": 0}, "orders_version_check"),
        ({"is_complete": "true", "is_approved": "true"}, "orders_approved_at_check"),
        ({"is_complete": "true", "approved_at": "now()"}, "orders_approved_at_check"),
        (
            {"is_approved": "true", "approved_at": "now()"},
            "orders_approved_is_complete_check",
        ),
    ],
)
def test_an_order_that_contradicts_itself_is_refused(
    database_url: str, values: dict[str, object], constraint: str
) -> None:
    with pytest.raises(Exception, match=constraint):
        add_order(database_url, **values)


def test_ids_have_64_bits(database_url: str) -> None:
    largest = 2**63 - 1
    assert add_order(database_url, id=largest) == largest
    assert add_item(database_url, id=largest, order_id=largest) == largest
    too_narrow = execute(
        database_url,
        "SELECT table_name FROM information_schema.columns WHERE table_schema ="
        " 'public' AND column_name IN ('id', 'order_id', 'item_id')"
        " AND data_type <> 'bigint'",
    )
    assert too_narrow == []


def add_history(database_url: str, kind: str, item: int | str, step: str) -> None:
    execute(
        database_url,
        "INSERT INTO order_history (order_id, kind, item_id, from_status, to_status)"
        f" VALUES (1, '{kind}', {item}, {step})",
    )


def test_history_can_be_added_to_but_not_changed(database_url: str) -> None:
    add_history(database_url, "item.created", 1, "NULL, 1")
    add_history(database_url, "item.moved", 1, "1, 3")
    with pytest.raises(Exception, match="append-only"):
        execute(database_url, "UPDATE order_history SET to_status = 4")
    steps = "SELECT from_status, to_status FROM order_history ORDER BY id"
    assert execute(database_url, steps) == [[None, 1], [1, 3]]


@pytest.mark.parametrize("step", ["0, 1", "5, 1", "1, 0", "1, 5"])
def test_history_knows_no_other_status(database_url: str, step: str) -> None:
    with pytest.raises(Exception, match=r"order_history_(from|to)_status_check"):
        add_history(database_url, "item.moved", 1, step)


@pytest.mark.parametrize(
    ("kind", "item"),
    [("item.moved", "NULL"), ("order.approved", 1), ("item.eaten", 1)],
)
def test_history_knows_what_is_told_of_an_order_and_what_of_an_item(
    database_url: str, kind: str, item: int | str
) -> None:
    with pytest.raises(Exception, match=r"order_history_(kind|item_id)_check"):
        add_history(database_url, kind, item, "1, 2")


def test_history_outlives_its_order_and_items_do_not(database_url: str) -> None:
    order_id = add_order(database_url, id=1)
    add_item(database_url, order_id=order_id)
    add_history(database_url, "item.created", 1, "NULL, 1")
    execute(database_url, f"DELETE FROM orders WHERE id = {order_id}")
    assert execute(database_url, "SELECT count(*) FROM order_items") == [[0]]
    assert execute(database_url, "SELECT count(*) FROM order_history") == [[1]]


def test_times_are_kept_with_their_zone(database_url: str) -> None:
    naive = execute(
        database_url,
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND data_type LIKE 'timestamp without%'",
    )
    assert naive == []


def test_two_callers_may_use_one_idempotency_key_but_one_caller_only_once(
    database_url: str,
) -> None:
    columns = "user_id, scope, key, fingerprint, status, headers, body"
    other = "'00000000-0000-4000-8000-000000000002'"
    row = "'key', 'k', 'f', 201, '{}', '{}'"
    insert = f"INSERT INTO idempotency_records ({columns}) VALUES "
    connection = connect(database_url)
    try:
        connection.run(f"{insert} ({USER}, {row}), ({other}, {row})")
        with pytest.raises(Exception, match="idempotency_records_pkey"):
            connection.run(f"{insert} ({USER}, {row})")
        with pytest.raises(Exception, match="cart_has_order"):
            connection.run(f"{insert} ({USER}, 'cart', 'c', 'f', 201, '{{}}', '{{}}')")
    finally:
        connection.close()
