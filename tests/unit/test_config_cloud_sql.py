"""Settings for Cloud SQL: what each means, its default, and what a bad one is told."""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.config.endpoints import CloudSql, Database
from common.config.environment import ConfigError
from common.config.settings import load
from tests.support.environs import CLOUD_SQL, DATABASE_URL, POSTGRES


def database(**environ: str) -> Database | CloudSql | None:
    return load(environ, needs=("DATABASE",)).database


def refusal(**environ: str) -> str:
    with pytest.raises(ConfigError) as raised:
        database(**environ)
    return str(raised.value)


def test_an_instance_is_reached_privately_and_by_iam_login_unless_said_otherwise() -> (
    None
):
    assert database(**CLOUD_SQL) == CloudSql(
        instance="shop-42:europe-west1:orders",
        name="shop",
        user="orders@shop-42.iam",
        password=None,
        ip_type="private",
        api_endpoint=None,
    )


@pytest.mark.parametrize("running", [{}, {"RUNNING_ON_CLOUDRUN": "true"}], ids=str)
def test_instance_is_meant_on_cloud_run_and_elsewhere(running: dict[str, str]) -> None:
    both = POSTGRES | CLOUD_SQL | running | {"IDENTITY_SOURCE": "header"}
    found = database(**both)
    assert isinstance(found, CloudSql)
    assert (found.password, found.has_iam_login) == ("s3cret", False)


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """A socket as the platform mounts it, in a folder whose name is short enough."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CLOUD_SQL["CLOUD_SQL_CONNECTION_NAME"] / ".s.PGSQL.5432"
        path.parent.mkdir()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            yield path


@pytest.mark.parametrize(
    ("said", "is_socket"),
    [
        ({}, True),
        ({"CLOUD_SQL_CONNECT": "socket"}, True),
        ({"CLOUD_SQL_CONNECT": "connector"}, False),
        ({"CLOUD_SQL_IAM_AUTH": "true"}, False),
    ],
    ids=str,
)
def test_a_socket_is_taken_where_there_is_one_unless_the_connector_is_asked_for(
    socket_path: Path, said: dict[str, str], *, is_socket: bool
) -> None:
    folder = {"CLOUD_SQL_SOCKET_DIR": str(socket_path.parents[1])}
    found = database(**CLOUD_SQL, **folder, **said, POSTGRES_PASSWORD="s3cret")
    assert isinstance(found, Database) is is_socket
    assert not is_socket or found.socket == str(socket_path)


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        (
            {"CLOUD_SQL_SOCKET_DIR": "/x" * 3000},
            "CLOUD_SQL_CONNECTION_NAME: no socket is at /x",
        ),
        ({}, "CLOUD_SQL_CONNECT is socket, but there is none at /cloudsql/shop-42:"),
        ({"CLOUD_SQL_IAM_AUTH": "true"}, "CLOUD_SQL_IAM_AUTH=true needs "),
    ],
)
def test_socket_that_is_unfit_is_refused(said: dict[str, str], refused: str) -> None:
    environ = {"CLOUD_SQL_CONNECT": "socket", "POSTGRES_PASSWORD": "s3cret", **said}
    assert refusal(**CLOUD_SQL, **environ).startswith(refused)


def test_a_url_wins_over_an_instance() -> None:
    found = database(**CLOUD_SQL, DATABASE_URL=DATABASE_URL)
    assert isinstance(found, Database)
    assert found.host == "db"


@pytest.mark.parametrize("ip_type", ["private", "public", "psc", "PSC"])
def test_the_kind_of_address_is_a_setting(ip_type: str) -> None:
    found = database(**CLOUD_SQL, CLOUD_SQL_IP_TYPE=ip_type)
    assert isinstance(found, CloudSql)
    assert found.ip_type == ip_type.lower()


def test_iam_login_goes_without_the_password_where_it_is_demanded() -> None:
    environ = CLOUD_SQL | {"POSTGRES_PASSWORD": "s3cret", "CLOUD_SQL_IAM_AUTH": "true"}
    found = database(**environ)
    assert isinstance(found, CloudSql)
    assert (found.password, found.has_iam_login) == (None, True)


def test_the_api_may_be_elsewhere() -> None:
    found = database(**CLOUD_SQL, CLOUD_SQL_API_ENDPOINT="https://api.example/")
    assert isinstance(found, CloudSql)
    assert found.api_endpoint == "https://api.example"


@pytest.mark.parametrize(
    "instance", ["example.com:shop-42:europe-west1:orders", "shop-42:us-central1:o"]
)
def test_an_instance_may_belong_to_a_project_of_a_domain(instance: str) -> None:
    found = database(**CLOUD_SQL | {"CLOUD_SQL_CONNECTION_NAME": instance})
    assert isinstance(found, CloudSql)
    assert found.instance == instance


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("CLOUD_SQL_CONNECTION_NAME", value)
            for value in ("orders", "shop-42:orders", "a:b:c:d:e", "p:r:/i", "P:r:i")
        ),
        ("CLOUD_SQL_IP_TYPE", "any"),
        ("CLOUD_SQL_CONNECT", "proxy"),
        ("CLOUD_SQL_IAM_AUTH", "yes"),
        ("CLOUD_SQL_API_ENDPOINT", "sqladmin.example"),
    ],
)
def test_a_malformed_setting_is_named_in_one_line(name: str, value: str) -> None:
    said = refusal(**CLOUD_SQL | {name: value})
    assert said.startswith(name)
    assert "\n" not in said


@pytest.mark.parametrize("missing", ["POSTGRES_DB", "POSTGRES_USER"])
def test_what_an_instance_needs_is_named_when_missing(missing: str) -> None:
    said = refusal(**{k: v for k, v in CLOUD_SQL.items() if k != missing})
    assert said == f"{missing} is not set, but CLOUD_SQL_CONNECTION_NAME is"


def test_a_login_without_iam_needs_a_password() -> None:
    said = refusal(**CLOUD_SQL, CLOUD_SQL_IAM_AUTH="false")
    assert said == "POSTGRES_PASSWORD is not set, but CLOUD_SQL_IAM_AUTH=false"


def test_a_password_is_not_shown() -> None:
    assert "s3cret" not in repr(database(**CLOUD_SQL, POSTGRES_PASSWORD="s3cret"))
