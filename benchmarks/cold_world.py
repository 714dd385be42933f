"""The environment of measured functions: a database with orders, siblings, a sink.

A status change and an approval change their order, so each start gets its own, made
beforehand and not measured.
"""

import contextlib
import json
import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cold_starts import Request
from common.database import migrations
from infra.local.postgres import postgres_server
from tests.support import database
from tests.support.cloud_sql import PASSWORD, cloud_sql, unix_socket
from tests.support.sandbox import running_sandbox
from tests.support.service import Service, new_user

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class World:
    """Environment variables of functions, and the first request to each."""

    environ: Mapping[str, str]
    databases: Mapping[str, Mapping[str, str]]  # variables, by how it is reached
    work: Mapping[str, Callable[[], Request]]


@contextlib.contextmanager
def own_service() -> Iterator[tuple[Service, str]]:
    """Yield a service on a new database, and that one's URL.

    It is on TEST_DATABASE_URL's server or on an embedded PostgreSQL.
    """
    with contextlib.ExitStack() as stack:
        server = os.environ.get("TEST_DATABASE_URL")
        if server is None:
            scratch = stack.enter_context(database.scratch_folder())
            server = stack.enter_context(postgres_server(scratch, durable=False))
        url = stack.enter_context(database.database(server))
        with database.plain_engine(url) as engine:
            migrations.upgrade(engine)
        sandbox = stack.enter_context(running_sandbox(deliver=False))
        with contextlib.closing(Service(url, sandbox)) as service:
            yield service, url


@contextlib.contextmanager
def world() -> Iterator[World]:
    """Yield it."""
    with contextlib.ExitStack() as stack:
        service, url = stack.enter_context(own_service())
        requests = _FirstRequests(service)
        environ = service.environ | {"LOG_LEVEL": "INFO", "THREADS": "8"}
        databases = {"url": {"DATABASE_URL": environ.pop("DATABASE_URL")}}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if sys.platform == "linux":
            instance = stack.enter_context(cloud_sql(url, folder))
            mounted = stack.enter_context(unix_socket(url, instance.name))
            by_socket = {
                "CLOUD_SQL_SOCKET_DIR": mounted.folder,
                "POSTGRES_PASSWORD": PASSWORD,
            }
            databases["socket"] = instance.settings(**by_socket)
            databases["connector"] = instance.settings()
        yield World(
            environ,
            databases,
            {
                "api_docs": lambda: Request("/openapi.json"),
                "approval_handler": requests.approve,
                "create_order_from_cart": requests.check_out,
                "item_status": requests.change_status,
                "orders_crud": requests.list_orders,
                "ops_console": lambda: Request(
                    "/ops/", headers={"X-Ops-Operator": "o@example.com"}
                ),
                "outbox_relay": lambda: Request("/", "POST"),
            },
        )


class _FirstRequests:
    """First requests that do what each function is for."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def check_out(self) -> Request:
        user = new_user()
        for _ in range(5):
            article = self._service.sandbox.add_article(amount=10)
            self._service.sandbox.add_to_cart(user, article)
        path = "/api/orders-from-shopcart/"
        return Request(path, "POST", {"X-User-ID": user}, status=201)

    def list_orders(self) -> Request:
        user = new_user()
        self._service.ordered(user, 1, 2)
        return Request("/api/orders/", headers={"X-User-ID": user})

    def change_status(self) -> Request:
        path = f"/api/order-items/{self._item()['id']}/status/"
        body = json.dumps({"status": 2})
        return Request(path, "PATCH", JSON | {"X-User-ID": new_user()}, body)

    def approve(self) -> Request:
        item = self._item()
        response = self._service.move(item["id"], 3)
        event: dict[str, Any] = {
            "event_type": "order.item.status.updated",
            "order_item_id": str(item["id"]),
            "order_id": str(item["order"]),
            "shop_id": item["shop_id"],
            "status": 3,
            "previous_status": 1,
            "occurred_at": "2025-12-01T10:00:00.000000Z",
        }
        attributes = {
            "ce-specversion": "1.0",
            "ce-id": str(uuid.uuid4()),
            "ce-type": event["event_type"],
            "ce-source": "/order-service",
        }
        assert response.status_code == 200, response.get_data(as_text=True)
        return Request("/", "POST", JSON | attributes, json.dumps(event), status=204)

    def _item(self) -> dict[str, Any]:
        item: dict[str, Any] = self._service.ordered(new_user())["items"][0]
        return item
