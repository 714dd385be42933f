"""Cloud SQL out of reach: said why and what to do, in time, and over by itself."""

import time

import pytest

from common import cloud_sql, sessions
from common.db import Engine, connect, ping
from common.errors import BusyError, DatabaseUnavailableError
from tests.support.cloud_sql import CloudSqlInstance
from tests.support.cloud_sql_keys import Authority
from tests.support.cloud_sql_said import reason
from tests.support.cloud_sql_world import engine_by_name

pytestmark = pytest.mark.usefixtures("at_once")


def test_an_api_that_is_away_is_said_and_over_when_it_is_back(
    instance: CloudSqlInstance, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    instance.api.go_away()
    try:
        said = reason(caplog, engine)
    finally:
        instance.api.come_back()
    assert said.startswith("no token could be had")
    ping(engine)


def test_an_api_that_goes_away_later_costs_nothing_until_it_is_needed(
    instance: CloudSqlInstance, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    ping(engine)
    instance.api.go_away()
    try:
        engine.open().close()
        instance.server.is_mute = True
        instance.server.cut()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sessions, "CONNECT_TIMEOUT_SECONDS", 0.3)
            assert "does not answer at" in reason(caplog, engine)
        instance.server.is_mute = False
        assert "Admin API failed (ClientConnectorError)" in reason(caplog, engine)
    finally:
        instance.api.come_back()
    ping(engine)


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "check the service account and its key"),
        (403, "roles/cloudsql.client"),
        (404, "check CLOUD_SQL_CONNECTION_NAME"),
        (429, "asked too often"),
    ],
)
def test_an_api_that_refuses_is_quoted_with_what_to_do(
    instance: CloudSqlInstance,
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    status: int,
    hint: str,
) -> None:
    instance.api.refusal = (status, "no, said at length")
    said = reason(caplog, engine)
    assert f"answers {status} for {instance.name}" in said
    assert hint in said
    assert "at length" not in said
    instance.api.refusal = None
    ping(engine)


@pytest.mark.parametrize("is_refusing", [False, True], ids=["mute", "failing"])
def test_an_api_without_an_answer_is_given_up_in_time(
    instance: CloudSqlInstance,
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_refusing: bool,
) -> None:
    ping(engine)  # with a token at hand
    engine.dispose()
    if is_refusing:  # the connector tries it five times over
        instance.api.refusal = (503, "later")
    else:
        instance.api.hold()
    monkeypatch.setattr(sessions, "CONNECT_TIMEOUT_SECONDS", 0.5)
    began = time.monotonic()
    assert "did not answer in time" in reason(caplog, engine)
    assert time.monotonic() - began < 3
    monkeypatch.undo()
    instance.api.refusal = None
    instance.api.resume()
    ping(engine)


def test_tokens_that_do_not_come_hold_up_nobody_for_long_and_no_end(
    instance: CloudSqlInstance,
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The connector waits for them where nothing else can be waited for meanwhile.
    monkeypatch.setattr(sessions, "CONNECT_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(cloud_sql, "SAME_REASON_SECONDS", 0)
    for end in (instance.api.release, engine.dispose):
        instance.api.hold(tokens=True)
        began = time.monotonic()
        assert "did not answer in time" in reason(caplog, engine)
        end()
        assert time.monotonic() - began < 5
        instance.api.release()
        with monkeypatch.context() as patch:
            patch.setattr(sessions, "CONNECT_TIMEOUT_SECONDS", 5)
            ping(engine)
        engine.dispose()


@pytest.mark.parametrize(
    ("setting", "kind"), [("private", "PRIVATE"), ("public", "PRIMARY"), ("psc", "PSC")]
)
def test_an_instance_without_such_an_address_says_so_until_it_has_one(
    instance: CloudSqlInstance,
    caplog: pytest.LogCaptureFixture,
    setting: str,
    kind: str,
) -> None:
    address = instance.api.known.addresses.pop(kind)
    with engine_by_name(instance, CLOUD_SQL_IP_TYPE=setting) as engine:
        said = reason(caplog, engine)
        assert f"{instance.name} has no {setting} address" in said
        assert "CLOUD_SQL_IP_TYPE" in said
        instance.api.known.addresses[kind] = address
        ping(engine)


def test_a_server_with_somebody_elses_certificate_is_not_believed(
    instance: CloudSqlInstance, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    instance.server.show(Authority("somebody"))
    said = reason(caplog, engine)
    assert f"is not the instance {instance.name}" in said
    assert instance.server.served == []
    instance.server.show(instance.own)
    ping(engine)


def test_an_instance_with_a_new_authority_is_asked_about_again(
    instance: CloudSqlInstance, engine: Engine
) -> None:
    ping(engine)
    engine.pool.dispose()
    renewed = Authority("instance, renewed")
    instance.server.show(renewed)
    instance.api.known.server_ca = renewed.pem
    with pytest.raises(DatabaseUnavailableError):
        ping(engine)
    ping(engine)


def test_a_client_certificate_that_is_not_taken_is_replaced(
    instance: CloudSqlInstance, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    ping(engine)
    engine.pool.dispose()
    renewed = Authority("clients, renewed")
    instance.api.known.clients = instance.server.clients = renewed
    instance.server.show(instance.own)
    assert "does not take the certificate" in reason(caplog, engine)
    ping(engine)


def test_a_server_that_says_nothing_is_given_up_in_time(
    instance: CloudSqlInstance,
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ping(engine)
    engine.pool.dispose()
    instance.server.is_mute = True
    monkeypatch.setattr(sessions, "CONNECT_TIMEOUT_SECONDS", 0.5)
    began = time.monotonic()
    said = reason(caplog, engine)
    assert time.monotonic() - began < 3
    assert f"does not answer at {instance.addresses['PRIVATE']}" in said
    assert "VPC" in said
    monkeypatch.undo()
    instance.server.is_mute = False
    ping(engine)


def test_a_server_without_a_connection_left_is_full_and_not_away(
    instance: CloudSqlInstance, engine: Engine
) -> None:
    with connect(engine):
        instance.server.refusal = ("53300", "sorry, too many clients already")
        with pytest.raises(BusyError):
            ping(engine)
    ping(engine)
