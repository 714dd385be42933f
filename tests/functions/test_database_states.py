"""A database that is there and does not do: what callers are told, and recovery."""

import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from alembic import command

from common.database import migrations, readiness
from common.database.engine import Engine, Statement, connect
from common.errors import BusyError, DatabaseUnavailableError
from tests.support.database import connect as plain_connection
from tests.support.database import differences, execute, plain_engine
from tests.support.relaying import engine_on
from tests.support.service import Service


def ready(service: Service) -> tuple[int, str]:
    """Return the status of /health/ready, and what is wrong."""
    response = service.call("orders_crud", "GET", "/health/ready")
    return response.status_code, response.get_json().get("detail", "")


def create(service: Service, user: str) -> int:
    response = service.crud("POST", "/api/orders/", user, json={})
    if response.status_code == 503:
        assert response.get_json()["type"] == "/problems/database-unavailable"
        assert int(response.headers["Retry-After"]) >= 1
    return response.status_code


# As it is after a fail-over: who is connected stays so, to what takes no writes.


@contextmanager
def read_only(service: Service) -> Iterator[None]:
    url = service.environ["DATABASE_URL"]
    name = url.rpartition("/")[2]
    setting = f'ALTER DATABASE "{name}" SET default_transaction_read_only'
    execute(url, f"{setting} = on")
    service.restart()  # whose sessions all begin read-only, and would stay so
    yield
    with closing(plain_connection(url)) as operator:
        operator.run("SET default_transaction_read_only = off")
        operator.run(f"{setting} = off")


def test_read_only_database_is_unavailable(service: Service, user: str) -> None:
    assert create(service, user) == 201
    with read_only(service):
        assert service.crud("GET", "/api/orders/", user).status_code == 200
        assert [create(service, user) for _ in range(2)] == [503, 503]
        assert ready(service) == (503, "The database takes no writes.")
    assert create(service, user) == 201
    assert ready(service)[0] == 200


def test_readiness_recovers_with_database_where_nobody_writes(service: Service) -> None:
    with read_only(service):
        assert ready(service)[0] == 503
    assert ready(service)[0] == 200


@pytest.mark.parametrize(
    ("broken", "mended", "said"),
    [
        (
            "ALTER TABLE orders RENAME TO orders_",
            "ALTER TABLE orders_ RENAME TO orders",
            "not set up",
        ),
        (
            "ALTER TABLE outbox RENAME COLUMN body TO body_",
            "ALTER TABLE outbox RENAME COLUMN body_ TO body",
            "",  # the revision says that it is there
        ),
        (
            "UPDATE alembic_version SET version_num = '0001'",
            f"UPDATE alembic_version SET version_num = '{readiness.NEEDED_REVISION}'",
            "is at 0001",
        ),
        (
            "ALTER TABLE alembic_version RENAME TO v",
            "ALTER TABLE v RENAME TO alembic_version",
            "not set up",
        ),
    ],
)
def test_a_schema_that_lacks_something_is_unavailable_until_it_is_migrated(
    service: Service, user: str, broken: str, mended: str, said: str
) -> None:
    assert create(service, user) == 201
    execute(service.environ["DATABASE_URL"], broken)
    assert create(service, user) in (503, 201 if "alembic" in broken else 503)
    if said:
        status, detail = ready(service)
        assert status == 503
        assert said in detail
    execute(service.environ["DATABASE_URL"], mended)
    assert create(service, user) == 201
    assert ready(service)[0] == 200


@pytest.fixture
def guest(service: Service) -> Iterator[str]:
    """A login that may connect to the service's database and no more."""
    url = service.environ["DATABASE_URL"]
    role = f"guest_{uuid.uuid4().hex}"
    execute(url, f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    service.set(DATABASE_URL=f"postgresql://{role}:secret@{url.partition('@')[2]}")
    yield role
    service.set(DATABASE_URL=url)
    for undo in ("DROP OWNED BY", "DROP ROLE"):
        execute(url, f"{undo} {role}")


def test_a_login_that_may_not_is_unavailable_until_it_is_granted(
    service: Service, user: str, database_url: str, guest: str
) -> None:
    assert create(service, user) == 503
    status, _ = ready(service)
    assert status == 503
    with engine_on(database_url) as engine:
        migrations.grant(engine, [guest])
    assert create(service, user) == 201
    assert ready(service)[0] == 200
    for right in ("INSERT ON outbox", "USAGE ON SEQUENCE orders_id_seq"):
        execute(database_url, f"REVOKE {right} FROM {guest}")
        status, detail = ready(service)
        assert (status, right.split()[-1] in detail) == (503, True)
        assert create(service, user) == 503
        execute(database_url, f"GRANT {right} TO {guest}")
    assert create(service, user) == 201


def test_a_login_that_is_made_anew_is_used_at_once(
    service: Service, user: str, database_url: str, guest: str
) -> None:
    """Sessions from before have no rights any more, whatever the new login has."""

    def grant() -> None:
        with engine_on(database_url) as engine:
            migrations.grant(engine, [guest])

    grant()
    assert create(service, user) == 201
    execute(database_url, f"DROP OWNED BY {guest}")
    execute(database_url, f"DROP ROLE {guest}")
    assert create(service, user) == 503
    execute(database_url, f"CREATE ROLE {guest} LOGIN PASSWORD 'secret'")
    grant()
    assert create(service, user) == 201
    assert ready(service)[0] == 200


def test_oldest_schema_that_is_ready_has_all_that_code_uses(database_url: str) -> None:
    """Code runs on later schemas; these may have more, and never less."""
    with plain_engine(database_url) as engine:
        with engine.begin() as connection:
            config = migrations._config(connection)
            command.downgrade(config, readiness.NEEDED_REVISION)
        missing = [
            found
            for found in differences(engine)
            if not (isinstance(found, tuple) and str(found[0]).startswith("remove_"))
        ]
    assert missing == []


# Each SQLSTATE that is not a defect of ours, as the server would raise it.


NOT_SET_UP = ("42P01", "42703", "42501", "3F000")
AWAY = ("08006", "25006", "26000", "28000", "3D000", "42P05", "53100", "53200", "55000")
AWAY += ("57P01", "57P03", "58000", "58030")
BUSY = ("53300", "55P03", "40P01", "40001", "57014")


@pytest.mark.parametrize("size", [1, 3])
def test_what_the_database_refuses_is_a_503_and_lost_connections_are_not_kept(
    database_url: str, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    execute(
        database_url,
        "CREATE FUNCTION fail(state text) RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = state; END $$",
    )
    fail = Statement("SELECT fail(:state)")
    for state in (*NOT_SET_UP, *AWAY, *BUSY):
        told = BusyError if state in BUSY else DatabaseUnavailableError
        caplog.clear()
        with engine_on(database_url, pool_size=size) as engine:
            before = backends(engine, size)
            with pytest.raises(told), connect(engine) as connection:
                connection.execute(fail, {"state": state})
            after = backends(engine, size)
        is_lost = state in (*AWAY, "42501")
        assert before.isdisjoint(after) if is_lost else before == after, state
        [line] = caplog.records
        # What is prepared anew, because it seems to be forgotten, is still there.
        logged = "42P05" if state == "26000" else state
        assert vars(line)["fields"]["sqlstate"] == logged
        assert vars(line)["fields"]["reason"]
        assert line.levelname == ("ERROR" if state in NOT_SET_UP else "WARNING")


def test_refused_connection_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"postgresql://a:secret@127.0.0.1:{server.getsockname()[1]}/b"
    with engine_on(nobody) as engine, pytest.raises(DatabaseUnavailableError):
        connect(engine)
    [line] = caplog.records
    assert "refused" in line.getMessage()


def backends(engine: Engine, size: int) -> set[int]:
    """Return the server's processes behind all connections of the pool."""
    connections = [connect(engine) for _ in range(size)]
    found = {
        connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        for connection in connections
    }
    for connection in connections:
        connection.close()
    return found


def test_what_is_not_set_up_is_an_error_line_that_says_what_to_run(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        engine_on(database_url) as engine,
        pytest.raises(DatabaseUnavailableError),
        connect(engine) as connection,
    ):
        connection.execute(Statement("SELECT 1 FROM nothing_here"))
    [line] = [each for each in caplog.records if each.levelname == "ERROR"]
    assert vars(line)["fields"]["run"] == "orderctl migrate"


@contextmanager
def locked(url: str, table: str) -> Iterator[None]:
    with closing(plain_connection(url)) as holder:
        holder.run("BEGIN")
        holder.run(f"LOCK TABLE {table}")
        yield
        holder.run("ROLLBACK")


@pytest.mark.parametrize(
    ("table", "key"),
    [("orders", None), ("order_items", "k"), ("idempotency_records", "k")],
)
def test_a_write_that_waits_for_a_table_is_busy_and_not_in_flight(
    service: Service, user: str, table: str, key: str | None
) -> None:
    article = service.sandbox.add_article(amount=9)
    service.sandbox.add_to_cart(user, article)
    named = {"Idempotency_Key": key} if key else {}
    with locked(service.environ["DATABASE_URL"], table):
        refused = service.checkout(user, **named)
    assert refused.status_code == 503
    assert refused.get_json()["type"] == "/problems/busy"
    assert service.checkout(user, **named).status_code == 201


@pytest.mark.parametrize("table", ["orders", "idempotency_records"])
def test_a_sweep_sends_events_whatever_else_is_busy(
    service: Service, user: str, table: str
) -> None:
    sink = service.environ["EVENT_SINK_URL"]
    service.set(EVENT_SINK_URL="http://127.0.0.1:1")
    service.ordered(user)
    service.set(EVENT_SINK_URL=sink)
    service.rows("UPDATE outbox SET available_at = now() - interval '1 second'")
    with locked(service.environ["DATABASE_URL"], table):
        swept = service.call("outbox_relay", "POST", "/")
    assert swept.status_code == 200, swept.get_json()
    assert swept.get_json()["events"] == {"sent": 2}


def test_a_migration_keeps_no_request_waiting_and_goes_through_at_last(
    service: Service, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report reads `order_history` for long; the migration wants it for itself."""
    monkeypatch.setattr(migrations, "LOCK_WAIT_MILLISECONDS", 200)
    monkeypatch.setattr(migrations, "PAUSE_SECONDS", (0.5, 0.5))
    url = service.environ["DATABASE_URL"]
    execute(url, "UPDATE alembic_version SET version_num = '0004'")
    execute(url, "DROP TABLE operator_actions")
    done: list[object] = []

    def migrate() -> None:
        with engine_on(url) as engine:
            done.append(migrations.upgrade(engine))

    with closing(plain_connection(url)) as report:
        report.run("BEGIN")
        report.run("SELECT count(*) FROM order_history")
        thread = threading.Thread(target=migrate)
        thread.start()
        until = time.monotonic() + 3
        slowest = 0.0
        while time.monotonic() < until:
            began = time.monotonic()
            assert create(service, user) == 201
            slowest = max(slowest, time.monotonic() - began)
        assert not done
        report.run("ROLLBACK")
    thread.join(30)
    assert done == [("0004", migrations.head())]
    assert slowest < 1.5


def test_a_migration_gives_up_where_a_table_is_never_free(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_WAIT_MILLISECONDS", 50)
    monkeypatch.setattr(migrations, "GIVE_UP_SECONDS", 0)
    execute(database_url, "UPDATE alembic_version SET version_num = '0004'")
    with (
        locked(database_url, "order_history"),
        engine_on(database_url) as engine,
        pytest.raises(BusyError),
    ):
        migrations.upgrade(engine)
