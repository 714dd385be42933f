"""The functions under test behind test clients, with the sandbox as siblings.

A function is loaded once a process, and started by each service with the settings of
that moment, so change them before asking for its client.
"""

import contextlib
import os
import sys
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import functions_framework
import pg8000.exceptions
import pg8000.native
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from common import startup, wiring
from infra.local.gateway import function_of
from tests.support import database
from tests.support.bodies import status_event
from tests.support.documented import documented, operation_for
from tests.support.published import published_to_sandbox
from tests.support.sandbox import Sandbox

FUNCTIONS = Path(__file__).parents[2] / "functions"
VARIABLES = (
    "DATABASE_URL",
    "EVENT_BUS",
    "EVENT_SINK_URL",
    "SHOPCART_SERVICE",
    "PRODUCT_SERVICE",
    "SHOP_SERVICE",
    "ANALYTIC_SERVICE",
    "THREADS",
    "OPS_IDENTITY",
)


class _Loaded(NamedTuple):
    """A function as the framework has loaded it, and what it asked to have at start."""

    app: Flask
    module: ModuleType
    needs: tuple[str, ...]


_loaded: dict[str, _Loaded] = {}


def _load(function: str) -> _Loaded:
    needs: list[str] = []
    start = wiring.start

    def started(*named: str) -> None:
        needs.extend(named)
        start(*named)

    source = FUNCTIONS / function / "main.py"
    with mock.patch.object(wiring, "start", started):
        app: Flask = functions_framework.create_app(  # type: ignore[no-untyped-call]
            function, str(source)
        )
    # The framework adds the source's folder to the path each time.
    sys.path[:] = dict.fromkeys(sys.path)
    return _Loaded(app, sys.modules["main"], tuple(needs))


def new_user() -> str:
    """Return a user that nobody has heard of."""
    return str(uuid.uuid4())


class Service:
    """All functions on one database and one sandbox; settings as in `environ`."""

    def __init__(self, database_url: str, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        operation_for("GET", "/")  # the document is read before any race begins
        # Set by tests that put rows of their own into the outbox.
        self.has_made_up_events = False
        self._clients: dict[str, FlaskClient] = {}
        # Starting reads the environment, which a process has only one of.
        self._starting = threading.Lock()
        self._idle: list[pg8000.native.Connection] = []
        self.environ = {
            "DATABASE_URL": database_url,
            "LOG_LEVEL": "WARNING",
            "THREADS": "24",
            "OPS_IDENTITY": "header",
            **sandbox.environ,
        }

    def set(self, **settings: str | None) -> None:
        """Change settings; None unsets. Functions are started anew with them.

        On Cloud Run the console's own setting is not the one of one machine.
        """
        if settings.keys() & {"K_SERVICE", "RUNNING_ON_CLOUDRUN"}:
            self.environ.pop("OPS_IDENTITY", None)
        for name, value in settings.items():
            if value is None:
                self.environ.pop(name, None)
            else:
                self.environ[name] = value
        self.restart()

    def restart(self) -> None:
        """Start over as a new instance would: no pools, no memory of faults."""
        self._let_go()
        self._clients.clear()

    def close(self) -> None:
        """Close what the functions opened; what they published must be documented."""
        self._let_go()
        published_to_sandbox(self.sandbox, is_made_up=self.has_made_up_events)

    def _let_go(self) -> None:
        wiring.close()
        while self._idle:
            _hang_up(self._idle.pop())

    def client(self, function: str) -> FlaskClient:
        """Return the client of one function, loaded as the framework loads it."""
        with self._starting:
            if function not in self._clients:
                self._clients[function] = self._start(function)
            return self._clients[function]

    def _start(self, function: str) -> FlaskClient:
        inherited = {k: v for k, v in os.environ.items() if k not in VARIABLES}
        with mock.patch.dict(os.environ, inherited | self.environ, clear=True):
            if function in _loaded:
                wiring.start(*_loaded[function].needs)
            else:
                _loaded[function] = _load(function)
            startup.settings()
        sys.modules["main"] = _loaded[function].module
        return _loaded[function].app.test_client()

    # One caller's requests.

    def call(
        self,
        function: str,
        method: str,
        path: str,
        *,
        user: str | None = None,
        headers: Mapping[str, str] | None = None,
        **body: Any,
    ) -> TestResponse:
        """Send one request as `user`; `json=` or `data=` as Flask's client takes.

        Whatever comes back must be as the API document has it.
        """
        given = {"X-User-ID": user} if user else {}
        reply = self.client(function).open(
            path, method=method, headers=given | dict(headers or {}), **body
        )
        return documented(reply) if function_of(path) == function else reply

    def checkout(self, user: str, **headers: str) -> TestResponse:
        """POST the checkout; `Idempotency_Key="k"` becomes the header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        path = "/api/orders-from-shopcart/"
        return self.call(
            "create_order_from_cart", "POST", path, user=user, headers=named
        )

    def crud(self, method: str, path: str, user: str, **kwargs: Any) -> TestResponse:
        """Send a request to `orders_crud`."""
        return self.call("orders_crud", method, path, user=user, **kwargs)

    def move(self, item_id: int, status: object, **kwargs: Any) -> TestResponse:
        """PATCH an item's status as the shop service does."""
        path = f"/api/order-items/{item_id}/status/"
        kwargs = {"user": new_user(), "json": {"status": status}} | kwargs
        return self.call("item_status", "PATCH", path, **kwargs)

    def trigger_approval(self, order_id: int, **kwargs: Any) -> TestResponse:
        """Deliver a status event of the order, as a binary CloudEvent."""
        body = status_event(order_id)
        headers = {
            "ce-specversion": "1.0",
            "ce-id": str(uuid.uuid4()),
            "ce-type": body["event_type"],
            "ce-source": "/order-service",
        }
        kwargs = {"json": body, "headers": headers} | kwargs
        return self.call("approval_handler", "POST", "/", **kwargs)

    def sweep(self) -> dict[str, Any]:
        """Call the relay as the scheduler does; return what it says."""
        response = self.call("outbox_relay", "POST", "/")
        assert response.status_code == 200, response.get_data(as_text=True)
        swept: dict[str, Any] = response.get_json()
        return swept

    # Short cuts to a state.

    def fill_cart(self, user: str, lines: int = 1) -> None:
        """Put so many new articles into the user's cart."""
        for _ in range(lines):
            self.sandbox.add_to_cart(user, self.sandbox.add_article())

    def ordered(self, user: str, *quantities: int) -> dict[str, Any]:
        """Check out a cart of new articles with these quantities; return the order."""
        self.sandbox.empty_cart(user)
        for quantity in quantities or (1,):
            article = self.sandbox.add_article(amount=10_000)
            self.sandbox.add_to_cart(user, article, quantity)
        response = self.checkout(user)
        assert response.status_code == 201, response.get_data(as_text=True)
        order: dict[str, Any] = response.get_json()["order"]
        return order

    def age_holds(self, seconds: float = 6) -> None:
        """Have everything that was held been held, confirmed and released earlier."""
        earlier = ", ".join(
            f"{name} = {name} - make_interval(secs => CAST(:seconds AS float8))"
            for name in ("created_at", "confirmed_at", "released_at", "seen_at")
        )
        self.rows(f"UPDATE stock_holds SET {earlier}", seconds=seconds)

    def rows(self, statement: str, **parameters: object) -> list[dict[str, Any]]:
        """Run one SQL statement on a connection of the test's own; return its rows.

        None of the service's limits hold there, such as its statement time-out.
        """
        connection = self._connection()
        try:
            found = connection.run(statement, **parameters) or []
            names = [column["name"] for column in connection.columns or []]
        except BaseException:
            _hang_up(connection)
            raise
        self._idle.append(connection)
        return [dict(zip(names, row, strict=True)) for row in found]

    def _connection(self) -> pg8000.native.Connection:
        while self._idle:
            connection = self._idle.pop()
            with contextlib.suppress(pg8000.exceptions.Error, OSError):
                connection.run("SELECT 1")
                return connection
            _hang_up(connection)
        return database.connect(self.environ["DATABASE_URL"])


def _hang_up(connection: pg8000.native.Connection) -> None:
    with contextlib.suppress(pg8000.exceptions.Error, OSError):
        connection.close()
