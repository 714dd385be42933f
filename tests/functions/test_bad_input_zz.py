"""Hundreds of random requests: whatever is sent, nothing ever breaks."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.service import Service, new_user
from tests.support.shared import shared_service

SEED = 6
REQUESTS = 1500
USER = new_user()
METHODS = ["GET", *["POST"] * 4, *["PATCH"] * 6, "DELETE", "HEAD", "OPTIONS", "BREW"]
FUNCTIONS = ["orders_crud", "item_status", "create_order_from_cart"]
IDS = [*"123456789" * 3, "0", "-1", "x", "9" * 19, str(2**63), "%00", "%ff", "٣", ""]
NUMBERS = [0, 1, 2, 3, 4, -1, 5, 10_000, 10_001, 2**31, 2**63, 2**70, 1.5, 3.0, 1e308]
TEXTS = ["", "1", "x", "\x00", "ä😀", "' OR 1=1 --", "%s", "{}", "null", "k" * 600]
MEMBERS = [
    "id",
    "order",
    "status",
    "quantity",
    "product_variation",
    "product_id",
    "shop_id",
    "price",
    "user_id",
    "metadata",
    "items",
    "is_approved",
    "created_at",
    "\x00",
    "",
]
# The variations are those of the user's items.
SANE: dict[str, list[Any]] = {
    "order": [1, 2, 3],
    "quantity": [1, 2],
    "status": [2, 3, 4],
    "metadata": [{}, {"a": "b"}],
    "product_variation": [],
}
PARAMETERS = [
    "limit",
    "cursor",
    "order",
    "status",
    "shop_id",
    "product_variation",
    "is_approved",
    "created_after",
    "created_before",
    "%ff",
    "",
]
VALUES = [
    *IDS,
    "true",
    "false",
    "AAAAAAAAAAI",
    "AAAAAAAAAAA",
    "2025-12-01T10:00:00Z",
    "2025-12-01T10:00:00+02:00",
    "0001-01-01T00:00:00%2B14:00",
    "9999-12-31T23:59:59-12:00",
    USER,
    "a&a=b",
    "%E2%82",
]
HEADERS: dict[str, list[str]] = {
    "If-Match": ['"1"', 'W/"1"', "*", "", '"', '"1", "2"', "é", ",", "a" * 5000],
    "If-None-Match": ['"1"', "*", "x", "", ", ,", '"' * 99],
    "Idempotency-Key": ["a", "", "é", "a" * 256, "\x7f"],
    "X-Request-ID": ["a", "", "é", "a" * 500, "{}"],
    "X-Forwarded-Prefix": ["/order", "//x", "/../..", "é"],
    "traceparent": ["x", f"00-{'a' * 32}-{'b' * 16}-01", "é"],
    "Authorization": ["", "Bearer", "Bearer a.b.c", "Basic é"],
    "X-Apigateway-Api-Userinfo": ["", "é", "e30"],
    "Accept": ["", "é", "image/png;q=x"],
    "Content-Encoding": ["gzip", "é"],
}
MEDIA_TYPES = ["application/json"] * 8 + ["", "text/plain", "multipart/form-data", "é"]


@pytest.fixture(scope="module")
def service(postgres_url: str, template_database: str) -> Iterator[Service]:
    with shared_service(postgres_url, template_database) as running:
        for _ in range(9):
            running.ordered(USER, 2, 1)
        yield running


class Chaos:
    """Random requests, the same for the same seed."""

    def __init__(self, seed: int, variations: list[str]) -> None:
        self.random = random.Random(seed)
        self.uuids = [USER, *variations, new_user(), "a0", USER.upper()]
        SANE["product_variation"] = variations

    def pick(self, choices: list[Any]) -> Any:
        return self.random.choice(choices)

    def some(self, choices: list[Any], most: int) -> list[Any]:
        return self.random.sample(choices, self.random.randint(0, most))

    def value(self, depth: int = 0) -> Any:
        kinds = ["number", "text", "uuid", "bool", "null"]
        kind = self.pick(kinds + ["list", "object"] * (depth < 3))
        if kind == "list":
            return [self.value(depth + 1) for _ in range(self.random.randint(0, 3))]
        if kind == "object":
            return self.object(depth + 1)
        return {
            "number": self.pick(NUMBERS),
            "text": self.pick(TEXTS),
            "uuid": self.pick(self.uuids),
            "bool": self.pick([True, False]),
            "null": None,
        }[kind]

    def object(self, depth: int = 0) -> dict[str, Any]:
        members = {name: self.value(depth) for name in self.some(MEMBERS, 4)}
        return members | {name: self.pick(SANE[name]) for name in self.some([*SANE], 3)}

    def body(self) -> bytes:
        content = json.dumps(self.pick([self.object(), self.object(), self.value()]))
        encoded = bytearray(content.encode())
        if encoded and self.random.random() < 0.2:  # break it somewhere
            encoded[self.random.randrange(len(encoded))] = self.random.randrange(256)
        return bytes(encoded)

    def target(self) -> tuple[str, str]:
        """Answer a function and a path, most often one that it has."""
        base = self.pick(["/api/orders", "/api/order-items"])
        function, path = self.pick(
            [
                ("orders_crud", base),
                ("orders_crud", f"{base}/{self.pick(IDS)}"),
                ("orders_crud", f"{base}/{self.pick(IDS)}"),
                ("item_status", f"/api/order-items/{self.pick(IDS)}/status"),
                ("create_order_from_cart", "/api/orders-from-shopcart"),
                (self.pick(FUNCTIONS), f"{base}/{self.pick(IDS)}/status"),
                (self.pick(FUNCTIONS), "/health/ready"),
                (self.pick(FUNCTIONS), f"/api/{self.pick(IDS)}"),
            ]
        )
        path += self.pick(["", "/", "/", "//"])
        query = "&".join(
            f"{name}={self.pick(VALUES)}" for name in self.some(PARAMETERS, 3)
        )
        return function, f"{path}?{query}" if query else path

    def headers(self) -> dict[str, str]:
        chosen = {name: self.pick(HEADERS[name]) for name in self.some([*HEADERS], 2)}
        user = self.pick([USER] * 8 + [new_user(), "", "é"])
        chosen |= {"X-User-ID": user, "Content-Type": self.pick(MEDIA_TYPES)}
        return chosen


def test_no_request_whatever_yields_a_5xx_or_a_redirect(service: Service) -> None:
    owned = service.crud("GET", "/api/order-items/", USER).get_json()
    chaos = Chaos(SEED, [item["product_variation"] for item in owned])
    seen: dict[int, int] = {}
    for _ in range(REQUESTS):
        method, (function, path) = chaos.pick(METHODS), chaos.target()
        headers, body = chaos.headers(), chaos.body()
        response = service.call(function, method, path, headers=headers, data=body)
        status = response.status_code
        shown = (function, method, path, headers, body, response.get_data())
        assert status < 500, shown
        assert not 300 <= status < 400 or status == 304, shown
        assert response.headers["X-Request-ID"], shown
        if status >= 400 and method != "HEAD":
            assert response.mimetype == "application/problem+json", shown
            assert response.get_json()["status"] == status, shown
        seen[status] = seen.get(status, 0) + 1
    # The sweep gets somewhere: it does not only bounce off the door.
    assert {200, 201, 400, 401, 404, 405} <= set(seen), seen
    print(seen)
