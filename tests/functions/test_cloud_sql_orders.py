"""An order's life where the database is in Cloud SQL, with a function's own rights."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.database import cloud_sql as connector
from tests.support.cloud_sql import PASSWORD, Instance, cloud_sql, unix_socket
from tests.support.sandbox import Sandbox
from tests.support.service import Service
from tests.support.serving import environment, send, served


@pytest.fixture
def instance(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Instance]:
    with cloud_sql(database_url, tmp_path) as found:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(found.key_file))
        yield found


@pytest.fixture
def service(instance: Instance, sandbox: Sandbox) -> Iterator[Service]:
    running = Service("", sandbox)
    running.set(**instance.settings(RUNNING_ON_CLOUDRUN="true"))
    running.set(IDENTITY_SOURCE="header")
    yield running
    running.close()


@pytest.mark.parametrize("way", ["connector", "socket"])
def test_everything_that_a_customer_does_is_within_a_functions_rights(
    service: Service, instance: Instance, postgres_url: str, user: str, way: str
) -> None:
    with unix_socket(postgres_url, instance.name) as mounted:
        if way == "socket":
            service.set(CLOUD_SQL_SOCKET_DIR=mounted.folder, POSTGRES_PASSWORD=PASSWORD)
        order = service.ordered(user, 2, 1)
        for item in order["items"]:
            assert service.move(item["id"], 3).status_code == 200
        service.trigger_approval(order["id"])
        service.sweep()
        read = service.crud("GET", f"/api/orders/{order['id']}/", user)
        assert read.get_json()["is_approved"]
        line = {
            "product_variation": service.sandbox.add_article(amount=10),
            "quantity": 2,
        }
        key = {"Idempotency-Key": "k"}
        body = {"items": [line]}
        for _ in range(2):
            made = service.crud("POST", "/api/orders/", user, json=body, headers=key)
            assert made.status_code == 201
        path = f"/api/orders/{made.get_json()['id']}/"
        metadata = {"metadata": {"note": "ring"}}
        for method, given in (("PATCH", metadata), ("GET", None), ("DELETE", None)):
            done = service.crud(method, path, user, json=given)
            assert done.status_code in (200, 204), done.get_data(as_text=True)
        assert service.crud("GET", "/api/order-items/", user).status_code == 200
        service.restart()
    assert instance.count("connectSettings") == (way == "connector")


def test_a_function_is_ready_as_long_as_the_instance_is(
    service: Service, instance: Instance, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "PAUSE_SECONDS", 0)
    instance.refusal = 403
    assert service.call("orders_crud", "GET", "/health/start").status_code == 503
    for path, who in (("/health/ready", None), ("/api/orders/", user)):
        refused = service.call("orders_crud", "GET", path, user=who)
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.get_json()["type"] == "/problems/database-unavailable"
        told = refused.get_data(as_text=True)
        assert not [word for word in ("403", "length", instance.name) if word in told]
    instance.refusal = None
    assert service.call("orders_crud", "GET", "/health/start").status_code == 200
    for path, who in (("/health/ready", None), ("/api/orders/", user)):
        assert service.call("orders_crud", "GET", path, user=who).status_code == 200


def test_a_served_function_makes_its_connector_in_its_worker_and_ends_without_a_word(
    service: Service, instance: Instance, user: str, tmp_path: Path
) -> None:
    settings = {**service.environ, "THREADS": "4"}
    settings.pop("DATABASE_URL")
    log = tmp_path / "said"
    with served("orders_crud", environment(**settings), log) as url:
        assert instance.asked == [], "not when it is loaded"
        headers = {"X-User-ID": user}
        made = send("POST", f"{url}/api/orders/", json={}, headers=headers)
        assert made.status_code == 201
        with ThreadPoolExecutor(4) as pool:
            found = pool.map(
                lambda _: send("GET", f"{url}/api/orders/", headers=headers), range(12)
            )
        assert [each.json() for each in found] == [[made.json()]] * 12
    assert instance.count("connectSettings") == 1
    said = log.read_text()
    for word in ("Unclosed", "Traceback", "Error", "Warning", "never retrieved"):
        assert word not in said, said
