"""`compose.yaml` tried without containers: its commands tell the story of an order."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from infra.local import demo
from tests.support import database, image
from tests.support.composed import Composed, environment, services
from tests.support.image import ROOT
from tests.support.rabbitmq_node import OwnBroker, needed_broker

FOLDER = "/etc/rabbitmq/definitions.d"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBroker]:
    """A new broker with the files that its container would find."""
    home = tmp_path_factory.mktemp("broker")
    definitions = home / "definitions.d"
    definitions.mkdir()
    conf = ""
    for volume in services()["rabbitmq"]["volumes"]:
        source, target, *_ = volume.split(":")
        if target == "/etc/rabbitmq/rabbitmq.conf":
            conf = (ROOT / source).read_text()
        elif target.startswith(FOLDER):
            shutil.copy(ROOT / source, definitions / Path(target).name)
    assert FOLDER in conf
    with needed_broker(home, conf=conf.replace(FOLDER, str(definitions))) as node:
        yield node


@pytest.fixture(scope="module")
def composed(
    node: OwnBroker, postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Composed]:
    """Everything of ours, on a database that knows nothing yet."""
    built = image.build(tmp_path_factory.mktemp("image"))
    with database.database(postgres_url) as url:
        where = urlsplit(url)
        postgres = {
            "POSTGRES_HOST": where.hostname or "",
            "POSTGRES_PORT": str(where.port),
            "POSTGRES_DB": where.path.strip("/"),
            "POSTGRES_USER": where.username or "",
            "POSTGRES_PASSWORD": where.password or "",
        }
        broker = {"RABBITMQ_HOST": "127.0.0.1", "RABBITMQ_PORT": str(node.port)}
        made = Composed(
            built,
            tmp_path_factory.mktemp("containers"),
            {"POSTGRES_HOST": postgres, "RABBITMQ_HOST": broker},
        )
        try:
            made.up()
            yield made
        finally:
            made.down()


def test_the_gateway_tells_the_whole_story_of_an_order(
    composed: Composed, capsys: pytest.CaptureFixture[str]
) -> None:
    status = demo.main(["--url", composed.url("gateway")])
    said = capsys.readouterr()
    assert status == 0, said.out + said.err + composed.said("gateway")


def test_the_gateway_passes_on_prefixes_queries_and_what_it_is_answered(
    composed: Composed,
) -> None:
    url = composed.url("gateway")
    with requests.Session() as session:
        session.trust_env = False
        caller = {"X-User-ID": "d0d0d0d0-0000-4000-8000-000000000001"}
        made = session.post(f"{url}/order/api/orders/", headers=caller, json={})
        assert made.status_code == 201
        assert made.headers["Location"].startswith("/order/api/orders/")
        listed = session.get(f"{url}/api/orders/?limit=0", headers=caller)
        assert listed.status_code == 400
        assert "limit" in listed.json()["errors"]
        assert session.head(f"{url}/api/orders/", headers=caller).status_code == 200
        page = session.get(f"{url}/order/api/schema/swagger-ui/")
        assert page.status_code == 200
        assert "text/html" in page.headers["Content-Type"]
        assert "order service" in session.get(f"{url}/").text.lower()


def test_the_console_is_behind_the_gateway(composed: Composed) -> None:
    with requests.Session() as session:
        session.trust_env = False
        page = session.get(f"{composed.url('gateway')}/ops/")
        assert page.status_code == 200
        assert "operator@localhost" in page.text


def test_a_function_that_is_away_is_a_502_and_harms_no_other(
    composed: Composed,
) -> None:
    url = composed.url("gateway")
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(f"{url}/openapi.json").status_code == 200
        composed.stop("api-docs")
        answer = session.get(f"{url}/openapi.json")
        assert answer.status_code == 502
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert composed.url("api-docs") in answer.json()["detail"]
        assert session.get(f"{url}/health/ready").status_code == 200


def test_the_broker_s_users_may_do_what_they_need_and_no_more(node: OwnBroker) -> None:
    users = {environment(each).get("RABBITMQ_USER") for each in services().values()}
    listed = node.ctl("list_permissions", "--no-table-headers")
    allowed = dict(line.split("\t", 1) for line in listed.splitlines())
    assert users - {None} <= allowed.keys()
    assert allowed["orders"].split() == ["^order_"] * 3
