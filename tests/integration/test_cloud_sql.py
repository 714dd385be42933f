"""Cloud SQL through Google's own connector, against a stand-in for what is Google's."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.database import cloud_sql, sessions
from common.database.engine import Engine, Statement, connect, ping
from common.errors import DatabaseUnavailableError
from tests.support.cloud_sql import (
    PASSWORD,
    Instance,
    engine_by_name,
    unix_socket,
)
from tests.support.tls import Authority
from tests.support.worker import eventually

ROOT = Path(__file__).parents[2]
TYPES = {"private": "PRIVATE", "public": "PRIMARY"}


@pytest.fixture
def engine(instance: Instance) -> Iterator[Engine]:
    """An engine on that instance, by its name."""
    with engine_by_name(instance.settings()) as engine:
        yield engine


def value(engine: Engine, sql: str) -> object:
    with connect(engine) as connection:
        return connection.execute(Statement(sql)).scalar_one()


def loops() -> int:
    """Return how many threads run a connector's loop."""
    return sum(t.name == "cloud-sql" for t in threading.enumerate())


@pytest.mark.parametrize(
    ("ip_type", "settings"),
    [("private", {}), ("public", {"POSTGRES_PASSWORD": PASSWORD})],
)
def test_a_login_is_by_a_token_unless_there_is_a_password(
    instance: Instance, ip_type: str, settings: dict[str, str]
) -> None:
    settings = settings | {"CLOUD_SQL_IP_TYPE": ip_type}
    with engine_by_name(instance.settings(**settings)) as engine:
        assert value(engine, "SELECT current_user") == instance.iam_user
        # A session is set up as elsewhere.
        assert value(engine, "SHOW statement_timeout") == "10s"
        assert value(engine, "SHOW application_name").startswith("order-service/4 ")
    assert bool(instance.logins) is ("POSTGRES_PASSWORD" not in settings)
    assert instance.served == [instance.addresses[TYPES[ip_type]]]


def test_one_connector_serves_all_threads_from_the_first_use_to_the_end(
    instance: Instance,
) -> None:
    before = loops()
    with engine_by_name(instance.settings()) as engine:
        assert (loops(), instance.asked) == (before, [])
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: value(engine, "SELECT pg_sleep(0.05)"), range(64)))
        assert loops() == before + 1
        assert len(instance.served) > 1
        assert instance.count("connectSettings") == 1
        engine.dispose()
        eventually(lambda: instance.links == 0)
        assert loops() == before
        ping(engine)
        assert instance.count("connectSettings") == 2
    assert loops() == before


# A process as the functions framework makes it: what is imported is forked.
FORKED = """
import os, sys
from common import wiring
from common.database.engine import ping
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
if sys.argv[2] == "closed":
    wiring.close()
"""


@pytest.mark.parametrize(("parent", "end"), [("unused", "left"), ("used", "closed")])
def test_a_fork_makes_a_connector_of_its_own_and_leaves_the_parents_alone(
    instance: Instance, parent: str, end: str
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
    assert instance.count("connectSettings") == 2


# What cannot be reached is said, in time, and is over by itself.


@pytest.fixture
def at_once(
    instance: Instance,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """What fails is tried again at once; nobody's log names a secret."""
    monkeypatch.setattr(cloud_sql, "PAUSE_SECONDS", 0)
    for name in ("", "orders", "google"):
        caplog.set_level(logging.DEBUG, logger=name)
    yield
    key = json.loads(instance.key_file.read_text())["private_key"]
    said = "\n".join(f"{r.getMessage()} {r.__dict__}" for r in caplog.records)
    for secret in (PASSWORD, key[100:140], *instance.tokens):
        assert secret not in said


def reason(caplog: pytest.LogCaptureFixture, engine: Engine) -> str:
    """Return what is logged when a connection is wanted that cannot be had."""
    caplog.clear()
    with pytest.raises(DatabaseUnavailableError):
        ping(engine)
    [line] = [r for r in caplog.records if r.name == "orders.cloud_sql"]
    told: str = line.__dict__["fields"]["reason"]
    return told


@pytest.mark.usefixtures("at_once")
def test_a_setting_that_is_wrong_is_named(
    instance: Instance, caplog: pytest.LogCaptureFixture
) -> None:
    for settings, hint in (
        ({"POSTGRES_DB": "elsewhere"}, "has no database elsewhere"),
        ({"POSTGRES_USER": "nobody@shop-42.iam"}, "refuses nobody@shop-42.iam"),
        ({"CLOUD_SQL_CONNECTION_NAME": "a:b:c"}, "answers 404"),
    ):
        with engine_by_name(instance.settings(**settings)) as engine:
            said = reason(caplog, engine)
        assert hint in said
        assert "CLOUD_SQL_CONNECTION_NAME" in said or "POSTGRES_" in said


@pytest.mark.usefixtures("at_once")
def test_an_instance_that_is_not_what_was_meant_is_said_until_it_is(
    instance: Instance, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    for field, wrong, hint in (
        ("refusal", 403, "the Cloud SQL Admin API answers 403: enable sqladmin"),
        ("refusal", 404, "the Cloud SQL Admin API answers 404: check CLOUD_SQL"),
        ("refusal", 429, "the Cloud SQL Admin API answers 429"),
        ("region", "us-central1", "is in another region"),
        ("version", "MYSQL_8_0", "is not PostgreSQL"),
        ("addresses", {"PRIMARY": "127.0.0.1"}, "has no private address"),
    ):
        before = getattr(instance, field)
        setattr(instance, field, wrong)
        said = reason(caplog, engine)
        assert hint in said
        assert "at length" not in said
        setattr(instance, field, before)
    ping(engine)


@pytest.mark.usefixtures("at_once")
def test_absent_credentials_are_said_and_leave_no_thread(
    instance: Instance,
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = loops()
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/at/all")
    assert "no Google credentials" in reason(caplog, engine)
    assert loops() == before
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(instance.key_file))
    ping(engine)


# A socket given up during its handshake is closed by garbage collection only.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("mute", ["is_mute", "is_asleep"])
def test_who_says_nothing_is_given_up_in_time(
    instance: Instance,
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    mute: str,
) -> None:
    setattr(instance, mute, True)
    with monkeypatch.context() as patch:
        patch.setattr(sessions, "CONNECT_TIMEOUT_SECONDS", 0.5)
        began = time.monotonic()
        assert "cannot be reached (TimeoutError)" in reason(caplog, engine)
        assert time.monotonic() - began < 3
    setattr(instance, mute, False)
    instance.released.set()
    ping(engine)


@pytest.mark.usefixtures("at_once")
def test_an_instance_with_another_certificate_is_not_believed_until_the_api_names_it(
    instance: Instance, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    ping(engine)
    engine.pool.dispose()
    instance.own = Authority()  # the connector knows the one before
    assert "is not the instance" in reason(caplog, engine)
    ping(engine)


def test_a_reason_is_not_logged_again_and_again_nor_the_api_asked(
    instance: Instance,
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cloud_sql, "PAUSE_SECONDS", 60)
    instance.refusal = 403
    for _ in range(5):
        with pytest.raises(DatabaseUnavailableError):
            ping(engine)
    said = {r.created for r in caplog.records if r.name == "orders.cloud_sql"}
    assert len(said) == 1
    assert instance.count("connectSettings") == 1


# The socket that the platform mounts.


def test_a_socket_of_the_instance_is_taken_where_there_is_one(
    instance: Instance, postgres_url: str
) -> None:
    with unix_socket(postgres_url, instance.name) as mounted:
        folder = {"CLOUD_SQL_SOCKET_DIR": mounted.folder}
        settings = instance.settings(POSTGRES_PASSWORD=PASSWORD, **folder)
        with engine_by_name(settings) as engine:
            assert value(engine, "SELECT current_user") == instance.iam_user
            assert value(engine, "SHOW statement_timeout") == "10s"
            mounted.cut()
            ping(engine)
            mounted.close()
            with pytest.raises(DatabaseUnavailableError):
                ping(engine)
    assert (instance.asked, instance.served) == ([], [])
