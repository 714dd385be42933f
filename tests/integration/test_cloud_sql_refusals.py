"""Cloud SQL that lets nobody in, for a setting or a right that is wrong: which one."""

import threading
from pathlib import Path

import pytest

from common import cloud_sql
from common.db import Engine, ping
from common.errors import DatabaseUnavailableError
from tests.support.cloud_sql import CloudSqlInstance
from tests.support.cloud_sql_said import reason
from tests.support.cloud_sql_world import engine_by_name

pytestmark = pytest.mark.usefixtures("at_once")


def test_a_wrong_password_is_said_and_not_shown(
    instance: CloudSqlInstance, caplog: pytest.LogCaptureFixture
) -> None:
    with engine_by_name(instance, POSTGRES_PASSWORD="not-it") as engine:
        said = reason(caplog, engine)
    assert said.endswith("check POSTGRES_USER and POSTGRES_PASSWORD")
    assert "not-it" not in said


def test_another_accounts_user_is_refused_with_what_an_iam_user_needs(
    instance: CloudSqlInstance, caplog: pytest.LogCaptureFixture
) -> None:
    with engine_by_name(instance, POSTGRES_USER="postgres") as engine:
        assert "roles/cloudsql.instanceUser" in reason(caplog, engine)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"POSTGRES_DB": "elsewhere"}, "has no database elsewhere: check POSTGRES_DB"),
        ({"CLOUD_SQL_CONNECTION_NAME": "a:b:c"}, "answers 404 for a:b:c"),
    ],
    ids=["database", "instance"],
)
def test_a_wrong_name_is_said(
    instance: CloudSqlInstance,
    caplog: pytest.LogCaptureFixture,
    change: dict[str, str],
    hint: str,
) -> None:
    with engine_by_name(instance, **change) as engine:
        assert hint in reason(caplog, engine)


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("region", "us-central1", "is in another region"),
        ("version", "MYSQL_8_0", "is not PostgreSQL"),
    ],
)
def test_an_instance_that_is_another_one_is_said(
    instance: CloudSqlInstance,
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    *,
    field: str,
    value: str,
    hint: str,
) -> None:
    setattr(instance.api.known, field, value)
    assert hint in reason(caplog, engine)


@pytest.mark.parametrize("kind", ["absent", "unknown"])
def test_credentials_that_are_no_good_are_said_and_no_thread_is_left(
    instance: CloudSqlInstance,
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    tmp_path: Path,
    kind: str,
) -> None:
    hints = {"absent": "there are no Google credentials", "unknown": "gives no token"}
    before = threading.active_count()
    if kind == "absent":
        missing = str(tmp_path / "missing.json")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", missing)
    else:
        instance.api.known.account = "somebody@shop-42.iam.gserviceaccount.com"
    assert hints[kind] in reason(caplog, engine)
    if kind == "absent":
        assert threading.active_count() == before
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", instance.key_file)
    instance.api.known.account = instance.account
    ping(engine)


def test_a_reason_is_not_logged_again_and_again_nor_the_api_asked(
    instance: CloudSqlInstance,
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cloud_sql, "PAUSE_SECONDS", 60)
    instance.api.refusal = (403, "no")
    for _ in range(5):
        with pytest.raises(DatabaseUnavailableError):
            ping(engine)
    lines = [r for r in caplog.records if r.name == "orders.cloud_sql"]
    assert len(lines) == 1
    assert instance.api.count("connectSettings") == 1
