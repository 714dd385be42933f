"""The generator of large databases: what it makes is what the service leaves behind."""

from collections.abc import Iterator

import pytest

from benchmarks import fill as fill_module
from benchmarks.fill import FillError, Plan, fill
from common import migrations
from common.audit import audit
from tests.support.database import database, execute, plain_engine
from tests.support.relaying import engine_on

PLAN = Plan(orders=1500, days=60, pending=800)


@pytest.fixture
def url(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(fill_module, "CHUNK", 500)
    with database(postgres_url) as url:
        yield url


def counts(url: str) -> list[object]:
    tables = (table.name for table in fill_module.TABLES)
    counted = ", ".join(f"(SELECT count(*) FROM {name})" for name in tables)
    [row] = execute(url, f"SELECT {counted}")
    return row


def test_the_audit_finds_nothing_and_the_schema_is_whole(url: str) -> None:
    fill(url, PLAN)
    with engine_on(url) as engine:
        report = audit(engine)
    assert (report.orders, report.found, report.differences) == (1500, 0, [])
    assert 800 <= report.pending < 1000
    assert all(counts(url))
    with plain_engine(url) as engine:
        assert migrations.differences(engine) == []
    assert execute(url, "SELECT nextval('orders_id_seq') > 1500") == [[True]]


def test_a_fill_that_is_interrupted_goes_on_where_it_ended(
    url: str, postgres_url: str
) -> None:
    class StoppedError(Exception):
        pass

    def stop(_done: int, _total: int, _what: str) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        fill(url, PLAN, jobs=1, progress=stop)
    [[written]] = execute(url, "SELECT count(*) FROM orders")
    assert 0 < int(str(written)) < 1500
    with pytest.raises(FillError, match="interrupted run"):
        fill(url, Plan(orders=2000))
    fill(url, PLAN)
    with database(postgres_url) as other:
        fill(other, PLAN)
        assert counts(url) == counts(other)
    with engine_on(url) as engine:
        assert audit(engine).found == 0


def test_a_database_with_orders_in_it_is_left_alone(database_url: str) -> None:
    execute(database_url, "INSERT INTO orders (user_id) VALUES (gen_random_uuid())")
    with pytest.raises(FillError, match="orders in this database already"):
        fill(database_url, PLAN)
    with plain_engine(database_url) as engine:
        assert migrations.differences(engine) == []
