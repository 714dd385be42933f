"""Each function works with the rights of its own login, and has no others."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing

import pg8000.exceptions
import pytest

from common.database import migrations, readiness, tables
from tests.support.console import Console
from tests.support.database import connect, execute, plain_engine
from tests.support.orderctl import orderctl
from tests.support.service import Service, new_user

DENIED = "42501"


@pytest.fixture
def roles(service: Service) -> Iterator[dict[str, str]]:
    """A login for each function, with its rights."""
    url = service.environ["DATABASE_URL"]
    made = {name: f"{name}_{uuid.uuid4().hex[:12]}" for name in readiness.RIGHTS}
    for role in made.values():
        execute(url, f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    with plain_engine(url) as engine:
        migrations.grant(engine, [f"{name}={role}" for name, role in made.items()])
    yield made
    service.set(DATABASE_URL=url)
    for role in made.values():
        execute(url, f"DROP OWNED BY {role}")
        execute(url, f"DROP ROLE {role}")


As = Callable[[str], str]


@pytest.fixture
def become(service: Service, roles: dict[str, str]) -> As:
    """Have the service log in as a function does; returns the address."""
    owner = service.environ["DATABASE_URL"]

    def log_in(function: str) -> str:
        address = owner.partition("@")[2]
        url = f"postgresql://{roles[function]}:secret@{address}"
        service.set(DATABASE_URL=url)
        return url

    return log_in


def is_ready(service: Service, function: str) -> bool:
    response = service.client(function).get("/health/ready")
    return response.status_code == 200


def test_each_function_does_its_work_with_its_own_rights(
    service: Service, become: As
) -> None:
    user = new_user()
    service.fill_cart(user, lines=2)
    become("create_order_from_cart")
    assert is_ready(service, "create_order_from_cart")
    for key in ("one", "one", "two"):  # done, replayed, found by the cart
        made = service.checkout(user, Idempotency_Key=key)
        assert made.status_code in (200, 201), made.get_json()
    order = made.get_json()["order"]
    path, [first, second] = f"/api/orders/{order['id']}/", order["items"]

    become("orders_crud")
    assert is_ready(service, "orders_crud")
    for method, where, body, expected in (
        ("GET", "/api/orders/?is_approved=false", None, 200),
        ("GET", path, None, 200),
        ("GET", f"{path}timeline/", None, 200),
        ("GET", "/api/order-items/", None, 200),
        ("PATCH", path, {"metadata": {"a": "b"}}, 200),
        ("PATCH", f"/api/order-items/{first['id']}/", {"quantity": 2}, 200),
        ("DELETE", f"/api/order-items/{second['id']}/", None, 204),
        ("POST", "/api/orders/", {}, 201),
    ):
        given = {"json": body} if body is not None else {}
        reply = service.crud(method, where, user, **given)
        assert reply.status_code == expected, (method, where, reply.get_json())
    empty = reply.get_json()
    added = {
        "order": empty["id"],
        "product_variation": service.sandbox.add_article(amount=9),
        "quantity": 1,
    }
    headers = {"Idempotency-Key": "added"}
    for _ in range(2):
        reply = service.crud(
            "POST", "/api/order-items/", user, json=added, headers=headers
        )
        assert reply.status_code == 201, reply.get_json()
    reply = service.crud("DELETE", f"/api/orders/{empty['id']}/", user)
    assert reply.status_code == 204

    become("item_status")
    assert is_ready(service, "item_status")
    for status in (2, 3):
        assert service.move(first["id"], status).status_code == 200
    assert service.move(second["id"], 4).status_code == 200  # it is deleted

    become("approval_handler")
    assert is_ready(service, "approval_handler")
    assert service.trigger_approval(order["id"]).status_code == 204
    unreadable = service.call("approval_handler", "POST", "/", data=b"?")
    assert unreadable.status_code == 204  # a dead letter
    assert service.crud("GET", path, user).get_json()["is_approved"] is True


def test_the_relay_does_its_work_with_its_own_rights(
    service: Service, become: As
) -> None:
    owner = service.environ["DATABASE_URL"]
    sink = service.environ["EVENT_SINK_URL"]
    service.set(EVENT_SINK_URL="http://127.0.0.1:1")
    order = service.ordered(new_user(), 1)
    service.set(EVENT_SINK_URL=sink)
    execute(owner, "UPDATE outbox SET available_at = now() - interval '1 second'")
    execute(owner, "UPDATE sent_events SET sent_at = now() - interval '90 days'")
    execute(
        owner,
        "INSERT INTO idempotency_records (user_id, scope, key, fingerprint, status,"
        " headers, body, expires_at) VALUES (gen_random_uuid(), 'key', 'k', '', 200,"
        " '{}', '', now() - interval '1 day')",
    )
    execute(owner, "UPDATE order_items SET status = 3")
    execute(owner, "UPDATE orders SET is_complete = true")
    become("outbox_relay")
    assert is_ready(service, "outbox_relay")
    swept = service.sweep()
    assert order["id"] in swept["approved"]
    assert swept["events"]["sent"] >= 2
    assert swept["purged_keys"] >= 1
    assert execute(owner, "SELECT count(*) FROM outbox") == [[0]]


def test_the_console_does_its_work_with_its_own_rights(
    service: Service, become: As
) -> None:
    owner = service.environ["DATABASE_URL"]
    order = service.ordered(new_user(), 2, 2)
    deleted = service.ordered(new_user(), 1)["id"]
    path, items = f"orders/{order['id']}/", [item["id"] for item in order["items"]]
    [[event]] = execute(
        owner,
        "SELECT event_id FROM sent_events WHERE event_type = 'order.created'"
        f" AND order_id = {order['id']} LIMIT 1",
    )
    letters = [
        execute(
            owner,
            "INSERT INTO dead_letters (source, reason, destination, order_id, event_id,"
            " event_type, body) SELECT 'outbox', 'a test', destination, order_id,"
            " CAST(event_id AS text), event_type, convert_to(body, 'UTF8')"
            f" FROM sent_events WHERE order_id = {order['id']} LIMIT 1 RETURNING id",
        )[0][0]
        for _ in range(2)
    ]
    become("ops_console")
    assert is_ready(service, "ops_console")
    console = Console(service)
    for page in ("", "orders/", path, "events/", "events/?place=sent", "letters/"):
        assert console.get(page).status_code == 200, page
    of_order = {"order": order["id"]}
    for action, values in (
        ("move-item", of_order | {"version": 1, "item": items[0], "status": 3}),
        ("set-quantity", of_order | {"version": 2, "item": items[1], "quantity": 1}),
        ("set-metadata", of_order | {"version": 3, "key": "a", "value": "b"}),
        ("remove-item", of_order | {"version": 4, "item": items[1]}),
        ("approve", of_order | {"version": 5}),
        ("delete-order", {"order": deleted, "version": 1}),
        ("resend-event", of_order | {"event": event, "destination": "http"}),
        ("replay-letter", {"letter": letters[0]}),
        ("discard-letter", {"letter": letters[1]}),
    ):
        done = console.act(action, **values)
        assert done.status_code == 303, (action, done.get_data(as_text=True))
    assert console.get("actions/").status_code == 200
    execute(owner, "UPDATE outbox SET held_since = now(), sending_since = now()")
    held = of_order | {"event": event, "destination": "http"}
    done = console.act("confirm-event", **held)
    assert done.status_code == 303, done.get_data(as_text=True)


def test_orderctl_does_its_work_with_its_own_rights(
    service: Service, become: As
) -> None:
    service.ordered(new_user(), 1)
    url = become("orderctl")
    for arguments in (
        ("doctor", "--fix"),
        ("audit",),
        ("relay", "--once"),
        ("events", "list"),
        ("dead-letters", "list"),
        ("after-restore", "--yes"),
    ):
        said = orderctl(url, *arguments)
        assert DENIED not in said.err, said
        assert "lacks rights" not in said.err
        assert said.status in (0, 1), (arguments, said)


WRITES = {
    "a": "INSERT INTO {0} DEFAULT VALUES",
    "w": "UPDATE {0} SET {1} = {1}",
    "d": "DELETE FROM {0}",
    "r": "SELECT {1} FROM {0}",
}


def refusals(url: str, statements: dict[str, str]) -> set[str]:
    """Return the names of the statements that this login may not run."""
    denied = set()
    with closing(connect(url)) as connection:
        for name, statement in statements.items():
            connection.run("BEGIN")
            try:
                connection.run(statement)
            except pg8000.exceptions.DatabaseError as error:
                if error.args[0]["C"] == DENIED:
                    denied.add(name)
            connection.run("ROLLBACK")
    return denied


@pytest.mark.parametrize("function", readiness.RIGHTS)
def test_a_function_may_do_nothing_else(become: As, function: str) -> None:
    url = become(function)
    for table in tables.metadata.sorted_tables:
        column = next(iter(table.primary_key)).name
        columns = readiness.COLUMNS.get((table.name, "w"), ())
        every = {x: text.format(table.name, column) for x, text in WRITES.items()}
        letters = set(readiness.RIGHTS[function].get(table.name, ""))
        if columns:  # of which this is none
            letters -= {"w"}
        assert refusals(url, every) == set("rawd") - letters, table.name
    others = {
        "schema": "CREATE TABLE mine (id int)",
        "drop": "DROP TABLE orders",
        "alter": "ALTER TABLE order_history DISABLE TRIGGER ALL",
        "truncate": "TRUNCATE order_history",
        "revision": "UPDATE alembic_version SET version_num = '0000'",
    }
    assert refusals(url, others) == others.keys()


@pytest.mark.parametrize("function", [*readiness.RIGHTS, None])
def test_history_and_what_operators_did_only_grow(
    service: Service, become: As, roles: dict[str, str], function: str | None
) -> None:
    owner = service.environ["DATABASE_URL"]
    execute(
        owner,
        "INSERT INTO operator_actions (form_id, operator, action, order_id, reason,"
        " outcome) VALUES (gen_random_uuid(), 'a', 'approve', 1, 'why', 'done')",
    )
    url = become(function or "item_status")
    if function is None:  # one login for all functions
        with plain_engine(owner) as engine:
            migrations.grant(engine, [roles["item_status"]])
    changes = {
        "history changed": "UPDATE order_history SET changed_by = NULL",
        "history deleted": "DELETE FROM order_history",
        "reason changed": "UPDATE operator_actions SET reason = 'another'",
        "operator changed": "UPDATE operator_actions SET operator = 'another'",
        "outcome changed": "UPDATE operator_actions SET outcome = 'another'",
        "order changed": "UPDATE operator_actions SET order_id = 2",
        "action deleted": "DELETE FROM operator_actions",
        "deleted item deleted": "DELETE FROM deleted_items",
        "event changed": "UPDATE sent_events SET body = ''",
    }
    assert refusals(url, changes) == changes.keys()


@pytest.mark.parametrize("function", readiness.FUNCTIONS)
def test_a_function_is_not_ready_without_each_of_its_rights(
    service: Service, become: As, roles: dict[str, str], function: str
) -> None:
    owner = service.environ["DATABASE_URL"]
    become(function)
    assert is_ready(service, function)
    lost = [
        (f"{readiness.NAMES[letter]} ON {table}", table)
        for table, letters in readiness.RIGHTS[function].items()
        for letter in letters
        if table not in ("user_requests", "alembic_version")
        and (table, letter) not in readiness.COLUMNS
    ]
    lost += [
        (f"USAGE ON SEQUENCE {n}", n) for n in readiness.SEQUENCES.get(function, {})
    ]
    for right, named in lost:
        execute(owner, f"REVOKE {right} FROM {roles[function]}")
        response = service.client(function).get("/health/ready")
        assert response.status_code == 503, right
        assert named in response.get_json()["detail"]
        execute(owner, f"GRANT {right} TO {roles[function]}")
    assert is_ready(service, function)


def test_what_a_login_had_beyond_its_rights_is_revoked(
    service: Service, become: As, roles: dict[str, str]
) -> None:
    owner = service.environ["DATABASE_URL"]
    url = become("item_status")
    everything = f"ALL ON ALL TABLES IN SCHEMA public TO {roles['item_status']}"
    execute(owner, f"GRANT {everything}")
    asked = {"trail": "DELETE FROM operator_actions", "orders": "SELECT FROM orders"}
    assert refusals(url, asked) == set()
    said = orderctl(
        owner, "migrate", "--grant-to", f"item_status={roles['item_status']}"
    )
    assert (said.status, said.err) == (0, "")
    assert refusals(url, asked) == {"trail"}


def test_a_function_that_does_not_exist_is_said(service: Service) -> None:
    url = service.environ["DATABASE_URL"]
    said = orderctl(url, "migrate", "--grant-to", "no_such=postgres")
    assert said.status == 2
    assert "'no_such' is no function" in said.err


def test_every_table_has_its_rights() -> None:
    known = {table.name for table in tables.metadata.sorted_tables}
    assert readiness.on_tables(readiness.RIGHTS).keys() == known | {"alembic_version"}
