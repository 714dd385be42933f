"""Cloud SQL through Google's own connector, against a stand-in for what is Google's."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.db import Engine, Statement, connect, ping
from common.errors import DatabaseUnavailableError
from common.sessions import READ_TIMEOUT_SECONDS
from tests.support.cloud_sql import CloudSqlInstance
from tests.support.cloud_sql_world import PASSWORD, engine_by_name

ROOT = Path(__file__).parents[2]
TYPES = {"private": "PRIVATE", "public": "PRIMARY", "psc": "PSC"}


def value(engine: Engine, sql: str) -> object:
    with connect(engine) as connection:
        return connection.execute(Statement(sql)).scalar_one()


def loops() -> list[str]:
    """Answer the threads that run a connector's loop."""
    return [t.name for t in threading.enumerate() if t.name == "cloud-sql"]


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)


def test_an_iam_login_is_by_a_token_and_without_a_password(
    instance: CloudSqlInstance,
) -> None:
    with engine_by_name(instance) as engine:
        assert value(engine, "SELECT current_user") == instance.iam_user
    known = instance.api.known
    assert list(known.logins.values()) == [instance.account]
    assert sorted(scope.rpartition(".")[2] for scope in known.tokens.values()) == [
        "admin",
        "login",
    ]


def test_a_service_account_may_be_named_in_full(instance: CloudSqlInstance) -> None:
    with engine_by_name(instance, POSTGRES_USER=instance.account) as engine:
        assert value(engine, "SELECT current_user") == instance.iam_user


def test_a_password_login_is_without_a_login_token(instance: CloudSqlInstance) -> None:
    with engine_by_name(instance, POSTGRES_PASSWORD=PASSWORD) as engine:
        assert value(engine, "SELECT current_user") == instance.iam_user
    assert instance.api.known.logins == {}


@pytest.mark.parametrize("ip_type", TYPES)
def test_the_setting_says_which_address_is_dialled(
    instance: CloudSqlInstance, ip_type: str
) -> None:
    with engine_by_name(instance, CLOUD_SQL_IP_TYPE=ip_type) as engine:
        ping(engine)
    address = instance.addresses[TYPES[ip_type]]
    assert instance.server.served == [(address, instance.iam_user)]


def test_a_session_is_set_up_as_elsewhere(instance: CloudSqlInstance) -> None:
    with engine_by_name(instance) as engine, connect(engine) as connection:
        link = connection.link._usock
        assert link.getsockopt(6, 1), "TCP_NODELAY"
        assert link.gettimeout() == READ_TIMEOUT_SECONDS
        for setting, expected in {
            "enable_seqscan": "off",
            "lock_timeout": "2s",
            "statement_timeout": "10s",
            "application_name": "order-service",
        }.items():
            shown = connection.execute(Statement(f"SHOW {setting}"))
            assert shown.scalar_one() == expected


def test_one_connector_serves_all_threads_and_asks_once(
    instance: CloudSqlInstance,
) -> None:
    before = len(loops())
    with engine_by_name(instance) as engine:
        ping(engine)
        links = [engine.open() for _ in range(3)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: ping(engine), range(64)))
        assert len(loops()) == before + 1
        for link in links:
            link.close()
    assert len(instance.server.served) >= 4
    assert instance.api.count("connectSettings") == 1
    assert instance.api.count("generateEphemeralCert") == 1


def test_nothing_happens_before_the_first_use(instance: CloudSqlInstance) -> None:
    before = len(loops())
    with engine_by_name(instance):
        assert len(loops()) == before
    assert instance.api.asked == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no list of sockets")
def test_closing_leaves_no_thread_and_no_socket(instance: CloudSqlInstance) -> None:
    def open_here() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    wait_until(lambda: instance.server.links == 0)
    threads, files = set(threading.enumerate()), open_here()
    with engine_by_name(instance) as engine:
        ping(engine)
        assert open_here() > files
    wait_until(lambda: instance.server.links == 0)
    wait_until(lambda: open_here() <= files)
    left = set(threading.enumerate()) - threads
    assert not [t.name for t in left if t.name.startswith(("cloud-sql", "asyncio"))]


def test_an_engine_that_was_closed_makes_another_connector(
    instance: CloudSqlInstance,
) -> None:
    with engine_by_name(instance) as engine:
        ping(engine)
        engine.dispose()
        ping(engine)
    assert instance.api.count("connectSettings") == 2


def test_a_certificate_that_runs_out_is_asked_for_again(
    instance: CloudSqlInstance,
) -> None:
    instance.api.known.certificate_seconds = 60  # the connector wants four minutes
    with engine_by_name(instance) as engine:
        engine.open().close()
        engine.open().close()
        assert instance.api.count("generateEphemeralCert") == 2
        instance.api.known.certificate_seconds = 3600
        for _ in range(3):
            engine.open().close()
        assert instance.api.count("generateEphemeralCert") == 3


def test_a_certificate_that_ran_out_is_not_let_in(
    instance: CloudSqlInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the stand-in would say if the connector did not ask again.
    buffer = "google.cloud.sql.connector.lazy._refresh_buffer"
    monkeypatch.setattr(buffer, -3600)
    instance.api.known.certificate_seconds = -1
    with engine_by_name(instance) as engine, pytest.raises(DatabaseUnavailableError):
        ping(engine)


# A process as the functions framework makes it: what is imported is forked.
FORKED = """
import atexit, os, sys, threading
def look():
    left = [each.name for each in threading.enumerate() if each.name == "cloud-sql"]
    assert not left, left
atexit.register(look)  # what is registered first is done last
from common import wiring
from common.db import ping
wiring.start("DATABASE")
assert "google.cloud.sql.connector" in sys.modules, "not in somebody's request"
if sys.argv[1] == "used":
    ping(wiring.engine())
child = os.fork()
if not child:
    ping(wiring.engine())
    sys.exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
ping(wiring.engine())
wiring.engine().open().close()
if sys.argv[2] == "closed":
    wiring.close()
"""


@pytest.mark.parametrize("end", ["closed", "left"])
@pytest.mark.parametrize("parent", ["unused", "used"])
def test_a_fork_makes_a_connector_of_its_own_and_leaves_the_parents_alone(
    instance: CloudSqlInstance, parent: str, end: str
) -> None:
    environ = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), **instance.settings()}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    done = subprocess.run(
        [*command, parent, end],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert instance.api.count("connectSettings") == 2
