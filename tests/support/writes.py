"""Every route that writes, with a valid body, for tests of what is rejected.

A body is text, so that a test can break it in ways no JSON library would.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from werkzeug.test import TestResponse

from tests.support.service import Service


@dataclass(frozen=True)
class Write:
    """One write: its path and valid body have `{order}`, `{item}`, `{variation}`."""

    name: str
    function: str
    method: str
    path: str
    valid: Mapping[str, Any]

    def send(
        self,
        service: Service,
        user: str,
        order: Mapping[str, Any],
        body: str | bytes,
        **headers: str,
    ) -> TestResponse:
        """Send `body` as JSON, about the order or its first item."""
        path = self.path.format(order=order["id"], item=order["items"][0]["id"])
        kwargs: dict[str, Any] = {"content_type": "application/json"}
        kwargs["headers"] = {k.replace("_", "-"): v for k, v in headers.items()}
        return service.call(
            self.function, self.method, path, user=user, data=body, **kwargs
        )

    def body(
        self, order: Mapping[str, Any], texts: Mapping[str, str] | None = None
    ) -> str:
        """Return the valid body, with some members replaced by these JSON texts."""
        item = order["items"][0]
        known = {
            "{order}": order["id"],
            "{variation}": item["product_variation"],
        }
        members = {
            name: json.dumps(
                known.get(value, value) if isinstance(value, str) else value
            )
            for name, value in self.valid.items()
        }
        pairs = (members | dict(texts or {})).items()
        return "{" + ",".join(f'"{name}":{text}' for name, text in pairs) + "}"


WRITES = {
    write.name: write
    for write in (
        Write("POST an order", "orders_crud", "POST", "/api/orders/", {"metadata": {}}),
        Write(
            "PATCH an order",
            "orders_crud",
            "PATCH",
            "/api/orders/{order}/",
            {"metadata": {"b": "1"}},
        ),
        Write(
            "POST an item",
            "orders_crud",
            "POST",
            "/api/order-items/",
            {"order": "{order}", "product_variation": "{variation}", "quantity": 1},
        ),
        Write(
            "PATCH an item",
            "orders_crud",
            "PATCH",
            "/api/order-items/{item}/",
            {"quantity": 3},
        ),
        Write(
            "move an item",
            "item_status",
            "PATCH",
            "/api/order-items/{item}/status/",
            {"status": 2},
        ),
    )
}
