"""What functions find when they start: a database with orders, siblings, a sink.

A status change and an approval use their order up, so each start gets one of its own,
made beforehand and not measured.
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

from benchmarks.cold_starts import Ask
from common.database import migrations
from infra.local.postgres import postgres_server
from tests.support import database
from tests.support.cloud_sql import PASSWORD, cloud_sql, unix_socket
from tests.support.sandbox import running_sandbox
from tests.support.service import Service, new_user

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class World:
    """Where functions start: their variables, and what to ask each of them first."""

    environ: Mapping[str, str]
    ways: Mapping[str, Mapping[str, str]]  # to the database: what says so
    work: Mapping[str, Callable[[], Ask]]


@contextlib.contextmanager
def world() -> Iterator[World]:
    """Yield it, on TEST_DATABASE_URL's server or on an embedded PostgreSQL."""
    with contextlib.ExitStack() as stack:
        server = os.environ.get("TEST_DATABASE_URL")
        if server is None:
            scratch = stack.enter_context(database.scratch_folder())
            server = stack.enter_context(postgres_server(scratch, durable=False))
        url = stack.enter_context(database.database(server))
        with database.plain_engine(url) as engine:
            migrations.upgrade(engine)
        sandbox = stack.enter_context(running_sandbox(deliver=False))
        service = Service(url, sandbox)
        stack.callback(service.close)
        works = _Works(service)
        environ = service.environ | {"LOG_LEVEL": "INFO", "THREADS": "8"}
        ways = {"url": {"DATABASE_URL": environ.pop("DATABASE_URL")}}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if sys.platform == "linux":
            instance = stack.enter_context(cloud_sql(url, folder))
            mounted = stack.enter_context(unix_socket(url, instance.name))
            by_socket = {
                "CLOUD_SQL_SOCKET_DIR": mounted.folder,
                "POSTGRES_PASSWORD": PASSWORD,
            }
            ways["socket"] = instance.settings(**by_socket)
            ways["connector"] = instance.settings()
        yield World(
            environ,
            ways,
            {
                "api_docs": lambda: Ask("/openapi.json"),
                "approval_handler": works.approve,
                "create_order_from_cart": works.check_out,
                "item_status": works.change_status,
                "orders_crud": works.list_orders,
                "ops_console": lambda: Ask(
                    "/ops/", headers={"X-Ops-Operator": "o@example.com"}
                ),
                "outbox_relay": lambda: Ask("/", "POST"),
            },
        )


class _Works:
    """First requests that use what the function is there for."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def check_out(self) -> Ask:
        user = new_user()
        for _ in range(5):
            article = self._service.sandbox.add_article(amount=10)
            self._service.sandbox.add_to_cart(user, article)
        path = "/api/orders-from-shopcart/"
        return Ask(path, "POST", {"X-User-ID": user}, status=201)

    def list_orders(self) -> Ask:
        user = new_user()
        self._service.ordered(user, 1, 2)
        return Ask("/api/orders/", headers={"X-User-ID": user})

    def change_status(self) -> Ask:
        path = f"/api/order-items/{self._item()['id']}/status/"
        body = json.dumps({"status": 2})
        return Ask(path, "PATCH", JSON | {"X-User-ID": new_user()}, body)

    def approve(self) -> Ask:
        item = self._item()
        moved = self._service.move(item["id"], 3)
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
        assert moved.status_code == 200, moved.get_data(as_text=True)
        return Ask("/", "POST", JSON | attributes, json.dumps(event), status=204)

    def _item(self) -> dict[str, Any]:
        item: dict[str, Any] = self._service.ordered(new_user())["items"][0]
        return item
