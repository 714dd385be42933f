"""Moving from the older service: its statements bring orders over that then live on."""

import re
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
import sqlalchemy

from tests.support import database, pages
from tests.support.orderctl import orderctl
from tests.support.pages import ROOT
from tests.support.sandbox import Sandbox
from tests.support.service import Service

PAGE = ROOT / "docs" / "moving.md"
STAGING, FINDING, LOADING = pages.blocks(PAGE, "sql")
OWNER = UUID("d0d0d0d0-0000-4000-8000-000000000001")
VARIATION = UUID("a0000000-0000-4000-8000-000000000001")
# Order: approved, and its items' statuses.
OLDER = {7: (True, [3, 4]), 8: (False, [1]), 9: (False, [2, 3]), 10: (False, [])}
COMPLETE = 12


@pytest.fixture
def engine(database_url: str) -> Iterator[sqlalchemy.Engine]:
    """A database of this release, with older orders laid out as the page says."""
    with database.plain_engine(database_url) as engine:
        run(engine, STAGING)
        with engine.begin() as connection:
            for order_id, (is_approved, statuses) in OLDER.items():
                add(connection, order_id, is_approved, statuses)
        yield engine


def run(engine: sqlalchemy.Engine, script: str) -> list[tuple[object, ...]]:
    """Run statements as psql would; return the last one's rows."""
    bare = re.sub(r"--.*", "", script)
    rows: list[tuple[object, ...]] = []
    with engine.begin() as connection:
        for statement in bare.split(";"):
            if statement.strip() in ("", "BEGIN", "COMMIT"):
                continue
            done = connection.exec_driver_sql(statement)
            rows = [tuple(row) for row in done] if done.returns_rows else []
    return rows


def add(
    connection: sqlalchemy.Connection,
    order_id: int,
    is_approved: bool,  # noqa: FBT001 a column
    statuses: list[int],
) -> None:
    connection.exec_driver_sql(
        "INSERT INTO older.orders VALUES (%s, %s, '2024-05-01T10:00:00Z', %s)",
        (order_id, OWNER, is_approved),
    )
    for number, status in enumerate(statuses):
        connection.exec_driver_sql(
            "INSERT INTO older.items VALUES (%s, %s, %s, 2, %s, %s, %s, 1999)",
            (10 * order_id + number, order_id, status, VARIATION, uuid4(), uuid4()),
        )


def test_what_is_brought_over_is_whole_and_lives_on(
    engine: sqlalchemy.Engine, database_url: str, sandbox: Sandbox
) -> None:
    with engine.begin() as connection:
        add(connection, COMPLETE, is_approved=False, statuses=[3])
    assert run(engine, FINDING) == []
    run(engine, LOADING)
    said = orderctl(database_url, "audit")
    assert said.status == 0
    assert said.out.startswith("5 orders, 0 events: no differences (0 pending")
    owner = str(OWNER)
    service = Service(database_url, sandbox)
    try:
        listed = service.crud("GET", "/api/orders/", owner).json
        assert [order["id"] for order in listed] == [12, 10, 9, 8, 7]
        told = service.crud("GET", "/api/orders/7/timeline/", owner).json
        assert [step["to_status"] for step in told if step["item"] == 70] == [1, 3]
        made = service.crud("POST", "/api/orders/", owner, json={})
        assert made.status_code == 201
        assert made.json["id"] > COMPLETE
        assert service.move(80, 3).status_code == 200
        service.trigger_approval(8)
        service.sweep()
        approved = {
            order["id"]: order["is_approved"]
            for order in service.crud("GET", "/api/orders/", owner).json
        }
    finally:
        service.close()
    assert approved.pop(made.json["id"]) is False
    assert approved == {7: True, 8: True, 9: False, 10: False, COMPLETE: True}
    assert orderctl(database_url, "audit").status == 0


def test_what_cannot_be_brought_over_is_named(engine: sqlalchemy.Engine) -> None:
    with engine.begin() as connection:
        add(connection, 20, is_approved=True, statuses=[3, 1])
        add(connection, 21, is_approved=True, statuses=[])
        add(connection, 22, is_approved=False, statuses=[5])
        connection.exec_driver_sql(
            "INSERT INTO older.orders VALUES (23, %s, now() + interval '1 day', false)",
            (OWNER,),
        )
    found = run(engine, FINDING)
    assert sorted(order_id for _, order_id in found) == [20, 21, 22, 23]
