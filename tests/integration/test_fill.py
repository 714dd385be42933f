"""The generator of large databases: what it makes is what the service leaves behind."""

from collections.abc import Iterator

import pytest

from benchmarks import fill as fill_module
from benchmarks.fill import FillError, Plan, fill
from common.operations.audit import audit
from tests.support.database import database, differences, execute, plain_engine
from tests.support.relaying import engine_on

PLAN = Plan(orders=600, days=60, pending=300)


@pytest.fixture
def url(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(fill_module, "CHUNK", 200)
    with database(postgres_url) as url:
        yield url


def counts(url: str) -> list[object]:
    tables = (table.name for table in fill_module.TABLES)
    counted = ", ".join(f"(SELECT count(*) FROM {name})" for name in tables)
    [row] = execute(url, f"SELECT {counted}")
    return row


def test_the_audit_finds_nothing_and_a_fill_that_is_interrupted_goes_on(
    url: str, postgres_url: str
) -> None:
    class StoppedError(Exception):
        pass

    def stop(_done: int, _total: int, _what: str) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        fill(url, PLAN, jobs=1, progress=stop)
    [[written]] = execute(url, "SELECT count(*) FROM orders")
    assert 0 < int(str(written)) < PLAN.orders
    with pytest.raises(FillError, match="interrupted run"):
        fill(url, Plan(orders=2000))
    fill(url, PLAN)
    with database(postgres_url) as other:
        fill(other, PLAN)
        assert counts(url) == counts(other)
    assert all(counts(url))
    with engine_on(url) as engine:
        report = audit(engine)
    assert (report.orders, report.differences) == (PLAN.orders, [])
    assert PLAN.pending <= report.pending < 1.3 * PLAN.pending
    with plain_engine(url) as engine:
        assert differences(engine) == []
    assert execute(url, f"SELECT nextval('orders_id_seq') > {PLAN.orders}") == [[True]]


def test_a_database_with_orders_in_it_is_left_alone(database_url: str) -> None:
    execute(database_url, "INSERT INTO orders (user_id) VALUES (gen_random_uuid())")
    with pytest.raises(FillError, match="orders in this database already"):
        fill(database_url, PLAN)
    with plain_engine(database_url) as engine:
        assert differences(engine) == []
