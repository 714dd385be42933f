"""`orderctl users`: all that is stored of a user is handed out, or erased."""

import json
import re
import uuid
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest

from common import approval
from common.database.engine import connect as engine_connect
from common.domain import orders
from common.domain.model import INTERNAL, Actor
from common.messaging.pending import Bus
from common.operations.audit import audit
from common.store.orders import Target, change_order
from tests.support.audited import SINK, Tampering
from tests.support.database import execute
from tests.support.orderctl import orderctl
from tests.support.relaying import Recorder, relay_to

WHY = ["--reason", "request 17", "--operator", "olga@example.com"]
TRIGGER = "TRIGGER order_history_is_append_only"
DONE = (
    "approved",
    "deleted",
    "emptied",
    "replayed",
    "discarded",
    "resent",
    "confirmed",
)


def owner(world: Tampering, name: str) -> str:
    [[user]] = execute(
        world.url,
        "SELECT changed_by FROM order_history WHERE kind = 'order.created'"
        f" AND order_id = {world.orders[name]}",
    )
    return str(user)


def finish(world: Tampering, name: str) -> None:
    """Have the order's items cancelled by their shop, and all events sent."""
    shop = Actor(uuid.uuid4(), INTERNAL)
    items = execute(
        world.url,
        "SELECT id FROM order_items WHERE status < 3"
        f" AND order_id = {world.orders[name]}",
    )
    for (item_id,) in items:
        rule = partial(orders.set_status, item_id=item_id, status=4, actor=shop)
        with engine_connect(world.engine) as connection:
            change_order(connection, Target(item_id=item_id), rule, Bus((SINK,)))
    approval.sweep(world.engine, (SINK,))
    with relay_to(world.url, http=Recorder(), analytics=Recorder()) as relay:
        relay.sweep(5.0)


def found(world: Tampering, name: str) -> list[str]:
    """Return what the audit finds of an order."""
    id_ = world.orders[name]
    return [d.what for d in audit(world.engine, between=(id_, id_)).differences]


def everything(url: str) -> str:
    """Return all rows of all tables as one text."""
    tables = execute(
        url, "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    )
    parts = []
    for (table,) in tables:
        rows = execute(url, f"SELECT CAST(t AS text) FROM {table} t")
        parts += [str(row) for (row,) in rows]
    bodies = execute(url, "SELECT encode(body, 'escape') FROM dead_letters")
    return "\n".join([*parts, *(str(body) for (body,) in bodies)])


def erase(world: Tampering, user: str) -> Any:
    world.run(f"ALTER TABLE order_history ENABLE {TRIGGER}")
    said = orderctl(world.url, "users", "erase", user, "--yes", "--json", *WHY)
    assert said.status == 0, said.err
    return said.json


@pytest.mark.parametrize("name", DONE)
def test_nothing_names_an_erased_user_and_the_audit_stays_clean(
    world: Tampering, name: str
) -> None:
    user = owner(world, name)
    finish(world, name)
    assert user in everything(world.url)
    figures = (
        "SELECT id, created_at, quantity, price, status, product_variation FROM"
        f" order_items JOIN orders USING (id) WHERE order_id = {world.orders[name]}"
    )
    before = execute(world.url, figures)
    known = found(world, name)
    done = erase(world, user)
    left = everything(world.url)
    assert user not in left
    assert done["erased"] in left or name in ("deleted", "emptied")
    assert execute(world.url, figures) == before
    assert found(world, name) == known == []


def test_metadata_and_what_operators_entered_is_erased(world: Tampering) -> None:
    user, secret = owner(world, "approved"), f"secret {uuid.uuid4()}"
    finish(world, "approved")
    order_id = world.orders["approved"]
    execute(
        world.url,
        f"UPDATE orders SET metadata = jsonb_build_object('a', '{secret}')"
        f" WHERE id = {order_id}",
    )
    execute(
        world.url,
        "INSERT INTO operator_actions (form_id, operator, action, order_id, given,"
        " reason) VALUES (gen_random_uuid(), 'o@x', 'set-metadata',"
        f" {order_id}, jsonb_build_object('key', 'a', 'value', '{secret}'), 'r')",
    )
    erase(world, user)
    assert secret not in everything(world.url)


def test_it_is_recorded_without_the_user(world: Tampering) -> None:
    user = owner(world, "approved")
    done = erase(world, user)
    [[operator, reason, given, outcome]] = execute(
        world.url,
        "SELECT operator, reason, given, outcome FROM operator_actions"
        " WHERE action = 'erase-user'",
    )
    assert (operator, reason) == ("olga@example.com", "request 17")
    assert given["as"] == done["erased"]
    assert outcome.startswith("erased in 1 orders")
    assert "analytics" in done["elsewhere"]
    assert done["destinations"]


@pytest.mark.parametrize("name", ["fresh", "shipped", "owed", "dead", "held"])
def test_what_is_under_way_is_in_the_way(world: Tampering, name: str) -> None:
    user = owner(world, name)
    said = orderctl(world.url, "users", "erase", user, "--yes", *WHY)
    assert said.status == 2
    assert said.err.startswith(f"orderctl: not yet: order {world.orders[name]} has ")
    assert user in everything(world.url)


def test_it_is_done_only_where_somebody_says_yes_after_a_preview(
    world: Tampering,
) -> None:
    user = owner(world, "approved")
    said = orderctl(world.url, "users", "erase", user, *WHY, answer="n")
    assert said.status == 2
    assert "1 orders" in said.err
    assert re.search(
        rf"\d to analytics, \d to {SINK}|\d to {SINK}, \d to analytics", said.err
    )
    assert user in everything(world.url)
    assert orderctl(world.url, "users", "erase", user, "--yes").status == 2
    assert orderctl(world.url, "users", "erase", "x", *WHY).status == 2


def test_who_else_knows_the_user_is_listed_with_what_to_do(world: Tampering) -> None:
    user = owner(world, "approved")
    said = orderctl(world.url, "users", "erase", user, "--yes", *WHY)
    [line] = [each for each in said.out.splitlines() if each.startswith("not erased")]
    for name in ("accounts", "shopcart", "product", "shop", "analytics"):
        assert re.search(rf"\b{name}\b", line), name
    assert "erase them there" in line


def test_log_lines_name_is_told(world: Tampering) -> None:
    user = owner(world, "approved")
    settings = {"LOG_USER_IDS": "hashed", "LOG_USER_ID_KEY": "k" * 16}
    said = orderctl(
        world.url, "users", "erase", user, "--yes", "--json", *WHY, **settings
    )
    assert len(said.json["log_name"]) == 32
    assert user not in said.out


@pytest.mark.parametrize("name", ["approved", "deleted", "by_hand", "discarded"])
def test_all_that_is_stored_is_handed_out(world: Tampering, name: str) -> None:
    user, order_id = owner(world, name), world.orders[name]
    said = orderctl(world.url, "users", "export", user)
    assert said.status == 0, said.err
    first, *keys = [json.loads(line) for line in said.out.splitlines()]
    assert first["order_id"] == order_id
    assert (first["order"] is None) == (name == "deleted")
    assert first["history"][0]["kind"] == "item.created"
    assert any(user in (event["body"] or "") for event in first["events"])
    assert bool(keys) == (name not in ("deleted", "by_hand"))


def test_of_a_stranger_there_is_nothing(world: Tampering) -> None:
    stranger = str(uuid.uuid4())
    said = orderctl(world.url, "users", "export", stranger)
    assert (said.status, said.out) == (0, "")
    said = orderctl(world.url, "users", "erase", stranger, "--yes", *WHY)
    assert (said.status, said.err.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    "change", ["changed_by = NULL", "kind = kind", "event_digest = NULL"]
)
def test_history_is_changed_by_nothing_else(world: Tampering, change: str) -> None:
    world.run(f"ALTER TABLE order_history ENABLE {TRIGGER}")
    with pytest.raises(Exception, match="append-only"):
        world.run(f"UPDATE order_history SET {change} WHERE order_id = {{approved}}")
    with pytest.raises(Exception, match="append-only"):
        world.run(
            "WITH s AS (SELECT set_config('orders.erasing', '{approved}', true))"
            " UPDATE order_history SET to_quantity = 9 FROM s"
            " WHERE order_id = {approved}"
        )


def test_only_the_tables_owner_may_erase(world: Tampering) -> None:
    user, login = owner(world, "approved"), f"o{uuid.uuid4().hex}"
    world.run(f"CREATE ROLE {login} LOGIN PASSWORD 'x'")
    try:
        migrate = orderctl(world.url, "migrate", "--grant-to", f"orderctl={login}")
        assert migrate.status == 0, migrate.err
        parts = urlsplit(world.url)
        netloc = f"{login}:x@{parts.hostname}:{parts.port}"
        url = parts._replace(netloc=netloc).geturl()
        said = orderctl(url, "users", "erase", user, "--yes", *WHY)
        assert (said.status, said.out) == (2, "")
        assert "not yet: only the tables' owner may erase" in said.err
        assert orderctl(url, "users", "export", user).status == 0
    finally:
        world.run(f"DROP OWNED BY {login}; DROP ROLE {login}")
    assert user in everything(world.url)
