"""Check what every kind of caller gets from an operation against a table.

`404` and `401` must equal the response for an order that does not exist, so that a
refusal reveals nothing.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from werkzeug.datastructures import Headers
from werkzeug.test import TestResponse

from infra.local.gateway import function_of
from tests.support.callers import Knock, People, forged, honest, through_gateway
from tests.support.documented import operations
from tests.support.observed import TABLES
from tests.support.service import Service

# So far from any id that its digits occur in no answer but as this id.
FAR = 7_000_000_000
REFUSALS = ("401", "403", "404")
# What a body calls the id of the order or item that it is about.
ID_NAMES = ("id", "order", "order_id", "item")
SLUGS = {"401": "unauthenticated", "403": "forbidden", "404": "not-found"}

# What is sent to an operation that has a body; an id of 0 is the order's.
BODIES: dict[str, dict[str, Any]] = {
    "create_order": {},
    "patch_order": {"metadata": {"gift": "yes"}},
    "create_item": {"order": 0},
    "patch_item": {"quantity": 1},
    "set_item_status": {"status": 2},
}


@dataclass(frozen=True)
class Operation:
    """One operation of the API document."""

    name: str
    method: str
    path: str
    is_open: bool
    has_body: bool


def documented_operations() -> dict[str, Operation]:
    """Return all operations of the document, by name."""
    found = {}
    for method, path, told in operations():
        name = told["operationId"]
        is_open = told.get("security") == []
        found[name] = Operation(name, method, path, is_open, "requestBody" in told)
    return found


def unstated(found: Iterable[Operation], table: Mapping[str, object]) -> set[str]:
    """Return which operations the table, or `BODIES`, does not know, or knows in vain.

    Empty where every operation that knows its caller has its row, and none else.
    """
    guarded = [each for each in found if not each.is_open]
    bodies = {each.name for each in guarded if each.has_body}
    names = {each.name for each in guarded}
    return (names ^ table.keys()) | (bodies ^ BODIES.keys())


def read_table(text: str) -> dict[str, dict[str, str]]:
    """Return a table's cells by row and column; its first line names the columns."""
    head, *lines = [line.split() for line in text.strip().splitlines()]
    return {
        name: dict(zip(head[1:], cells, strict=True))
        for name, *cells in (line for line in lines if line)
    }


@dataclass(frozen=True)
class Target:
    """An owner's order with one item, of which there are two."""

    order: int
    item: int
    variation: str


class Access:
    """A service that knows its callers in one `way`, and the people at its door."""

    def __init__(self, service: Service, way: str) -> None:
        self.service = service
        self.way = way

    def wrong(self, operation: Operation, row: Mapping[str, str]) -> list[str]:
        """Return every caller that is not answered as the row says, and how.

        Who must be refused comes first, all at one order, so that whatever one of them
        writes is seen at the end; who may act gets an order of its own.
        """
        people, found = People(), []
        knocks = [*honest(self.way, people), *forged(self.way, people)]
        refused = [each for each in knocks if row[each.column] in REFUSALS]
        target = self.order(people)
        before = self._written()
        for knock in [*refused, *(each for each in knocks if each not in refused)]:
            expected = row[knock.column]
            if expected == "does":
                target = self.order(people)
            try:
                self._check(operation, knock, expected, people, target)
            except AssertionError as error:
                said = str(error).partition("\n")[0]
                found.append(f"{operation.name}, {knock.name}, {expected}: {said}")
            if refused and knock is refused[-1] and self._written() != before:
                found.append(f"{operation.name}: a refused call wrote something")
        return found

    def _check(
        self,
        operation: Operation,
        knock: Knock,
        expected: str,
        people: People,
        target: Target,
    ) -> None:
        if expected in REFUSALS:
            response = self.ask(operation, knock.headers, target)
            self._check_refusal(response, expected, people, target)
            # A shop may know which items there are. Forgers are many, and alike.
            if expected == "404" or (expected == "401" and knock.is_honest):
                absent = Target(target.order + FAR, target.item + FAR, target.variation)
                other = self.ask(operation, knock.headers, absent)
                assert shown(other, absent) == shown(response, target), "it tells"
        elif expected == "own":
            self._lay_in_cart(operation, knock)
            before = self._written_of(people.owner)
            response = self.ask(operation, knock.headers, target)
            assert response.status_code in (200, 201), response.status
            self._check_own(operation, response, knock)
            if knock.caller != people.owner:
                assert self._written_of(people.owner) == before, "it wrote another's"
        else:
            response = self.ask(operation, knock.headers, target)
            assert response.status_code in (200, 201, 204), response.status
            self._check_done(operation, response, target)

    def ask(
        self,
        operation: Operation,
        headers: Iterable[tuple[str, str]],
        target: Target,
    ) -> TestResponse:
        """Send one request about the target; of a GET, its HEAD first."""
        subject = target.order if "/orders/" in operation.path else target.item
        path = operation.path.replace("{id}", str(subject))
        client = self.service.client(function_of(operation.path))
        given = Headers([*headers, ("X-Request-ID", "same")])
        options: dict[str, Any] = {"headers": given}
        if operation.has_body:
            body = BODIES[operation.name]
            if "order" in body:
                body = {"order": target.order, "product_variation": target.variation}
            options["json"] = body
        if operation.method != "GET":
            return client.open(path, method=operation.method, **options)
        head = client.open(path, method="HEAD", **options)
        response = client.open(path.rstrip("/"), method="GET", **options)
        assert head.status_code == response.status_code, "HEAD is not as GET is"
        assert head.data == b"", "HEAD has a body"
        return response

    # What has been answered.

    def _check_refusal(
        self, response: TestResponse, expected: str, people: People, target: Target
    ) -> None:
        assert response.status_code == int(expected), response.status
        body = response.get_json()
        assert body["type"] == f"/problems/{SLUGS[expected]}", body
        members = {"type", "title", "status", "detail", "instance", "error"}
        assert body.keys() == members, body
        is_challenged = response.headers.get("WWW-Authenticate") == "Bearer"
        assert is_challenged == (expected == "401"), "WWW-Authenticate"
        said = response.get_data(as_text=True).lower() + str(response.headers).lower()
        for secret in (*vars(people).values(), target.variation):
            assert secret not in said, "it shows an id"

    def _check_own(
        self, operation: Operation, response: TestResponse, knock: Knock
    ) -> None:
        """Check that what is answered is the caller's, and all of it."""
        body = response.get_json()
        mine = self.service.rows(
            "SELECT o.id AS order_id, i.id AS item_id FROM orders o"
            " LEFT JOIN order_items i ON i.order_id = o.id WHERE o.user_id = :user",
            user=knock.caller,
        )
        orders = {row["order_id"] for row in mine}
        if isinstance(body, list):
            name = "order_id" if operation.path == "/api/orders/" else "item_id"
            assert {each["id"] for each in body} == {row[name] for row in mine}
        else:
            order = body.get("order", body)
            assert order["user_id"] == knock.caller, body
            assert order["id"] in orders, body

    def _check_done(
        self, operation: Operation, response: TestResponse, target: Target
    ) -> None:
        """Check that it was done, and to the target."""
        if operation.method == "DELETE":
            assert response.data == b""
            found = self.service.rows(
                "SELECT o.id AS order_id, i.id AS item_id FROM orders o"
                " LEFT JOIN order_items i ON i.order_id = o.id WHERE o.id = :id",
                id=target.order,
            )
            assert target.item not in {row["item_id"] for row in found}, "it is there"
            return
        body = response.get_json()
        shown = body if isinstance(body, list) else [body]
        ids = {each.get(name) for each in shown for name in ID_NAMES}
        assert ids & {target.order, target.item}, (
            f"it names no id of the target: {body}"
        )

    # States.

    def order(self, people: People) -> Target:
        """Have the owner order two of an article that nobody else has."""
        sandbox = self.service.sandbox
        article = sandbox.add_article(amount=10_000, shop_id=people.shop)
        sandbox.empty_cart(people.owner)
        sandbox.add_to_cart(people.owner, article, 2)
        response = self.service.client("create_order_from_cart").post(
            "/api/orders-from-shopcart/",
            headers=Headers(through_gateway(self.way, people.owner)),
        )
        assert response.status_code == 201, response.get_data(as_text=True)
        [item, *_] = response.get_json()["order"]["items"][-1:]
        return Target(item["order"], item["id"], item["product_variation"])

    def _lay_in_cart(self, operation: Operation, knock: Knock) -> None:
        if operation.name == "create_order_from_cart" and knock.caller:
            article = self.service.sandbox.add_article(amount=1000)
            self.service.sandbox.empty_cart(knock.caller)
            self.service.sandbox.add_to_cart(knock.caller, article)

    def _written(self) -> list[dict[str, Any]]:
        """Return what changes with any row, and with any event.

        An event leaves the outbox in its own time, but has a number for ever.
        """
        counted = " UNION ALL ".join(
            f"SELECT '{table}' AS name, count(*) AS n,"
            f" sum(hashtextextended(CAST(t AS text), 0)) AS content FROM {table} t"
            for table in TABLES
            if table != "outbox"
        )
        events = "pg_get_serial_sequence('outbox', 'id')"
        return self.service.rows(
            f"{counted} UNION ALL SELECT 'outbox', pg_sequence_last_value({events}), 0"
        )

    def _written_of(self, owner: str) -> list[dict[str, Any]]:
        """Return what changes with any order of this owner's."""
        return self.service.rows(
            "SELECT CAST(o AS text) AS o, CAST(i AS text) AS i FROM orders o"
            " JOIN order_items i ON i.order_id = o.id WHERE o.user_id = :owner"
            " ORDER BY i.id",
            owner=owner,
        )


def shown(response: TestResponse, target: Target) -> tuple[Any, ...]:
    """Return all that a caller sees, without the ids that it asked for itself."""
    headers = dict(response.headers)
    headers.pop("Content-Length", None)  # an id more has some digits more
    text = response.get_data(as_text=True)
    for asked in (target.order, target.item):
        text = text.replace(f"/{asked}/", "/id/").replace(f'/{asked}"', '/id"')
    return response.status_code, headers, json.loads(text)
