"""Orders and carts that generated requests can find.

Orders are written without a request, because one for each step would take most of the
time. Their events wait for the relay.
"""

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from schemathesis import Case

from common import approval, startup, wiring
from common.api_docs import pages
from common.database.engine import connect
from common.domain import orders
from common.domain.model import INTERNAL, Actor, ItemStatus, Line
from common.messaging.pending import Bus
from common.store import idempotency
from common.store.idempotency import StoredResponse
from common.store.orders import Target, change_order, create_order
from infra.local.gateway import FUNCTIONS, Gateway
from tests.support.service import Service

OWNER = "0e0e0e0e-0000-4000-8000-000000000001"
STRANGER = "0e0e0e0e-0000-4000-8000-000000000002"
NEWCOMER = "0e0e0e0e-0000-4000-8000-000000000003"  # never has a cart
ARTICLES = [f"a0a0a0a0-0000-4000-8000-00000000000{n}" for n in range(1, 4)]
SHOP = "50505050-0000-4000-8000-000000000001"
CARRIER = Actor(UUID(SHOP), INTERNAL)
LINES = [Line(UUID(id_), 2, UUID(id_), UUID(SHOP), 999) for id_ in ARTICLES[:2]]

# Status of both items, whether the order is approved, whose it is.
STATES = {
    "processing": (1, False, OWNER),
    "shipped": (2, False, OWNER),
    "delivered": (3, False, OWNER),
    "cancelled": (4, False, OWNER),
    "approved": (3, True, OWNER),
    "somebody else's": (1, False, STRANGER),
}

# Of the owner's cart, in turn: the second request finds what the first has made.
CARTS = ("filled", "unchanged")

AnyCase = Case[Any]
Choose = Callable[[list[Any]], Any]


class World:
    """A service behind the local gateway, with articles on sale."""

    def __init__(self, service: Service) -> None:
        self.service = service
        for article in ARTICLES:
            service.sandbox.add_article(id=article, amount=5_000)
        self.gateway = Gateway()
        self.gateway.functions = {
            name: service.client(name).application for name in FUNCTIONS
        }

    def order(self, state: str) -> tuple[int, int]:
        """Write an order with two items; answer its id and that of an item."""
        if state == "absent":
            return 2**40, 2**40
        status, is_approved, user = STATES[state]
        engine, bus = wiring.engine(), Bus(startup.settings().bus)
        change = orders.new_order(UUID(user), LINES, idempotency.begin(engine, [], 2))
        create_order(engine, change, bus, [], StoredResponse(201, {}, ""))
        order_id = change.order.id
        item_ids = [item.id for item in change.order.items]
        if status != ItemStatus.PROCESSING:
            with connect(engine) as connection:
                for item_id in item_ids:
                    rule = partial(
                        orders.set_status, item_id=item_id, status=status, actor=CARRIER
                    )
                    change_order(connection, Target(order_id=order_id), rule, bus)
        if is_approved:
            approval.approve(engine, order_id, bus)
        return order_id, item_ids[0]

    @staticmethod
    def identify(case: AnyCase) -> None:
        """Have a request be the owner's, and leave it as it is otherwise."""
        case.headers["X-User-ID"] = OWNER

    def check_out(self, case: AnyCase, cart: str) -> None:
        """Have a request be the owner's, with a new line in the cart or without."""
        self.identify(case)
        if cart == "filled":
            self.service.sandbox.empty_cart(OWNER)
            self.service.sandbox.add_to_cart(OWNER, ARTICLES[0], 1)

    def lead_in(self, case: AnyCase, state: str | None, choose: Choose) -> None:
        """Have a request be about an order in `state`, as a rule its owner's."""
        name = case.operation.definition.raw["operationId"]
        if choose([True] * 9 + [False]):
            case.headers["X-User-ID"] = choose([OWNER] * 4 + [STRANGER, NEWCOMER])
        if case.method == "GET" and choose([False, False, True]):
            case.headers["If-None-Match"] = "*"
        if name == "get_problem_type" and choose([True, False]):
            case.path_parameters["name"] = choose(sorted(pages.problems()))
        if state is not None and "id" in case.path_parameters:
            order_id, item_id = self.order(state)
            is_order = "/orders/" in case.operation.path
            case.path_parameters["id"] = order_id if is_order else item_id
            if tag := choose([None, None, '"1"', '"2"', "*"]):
                condition = "If-None-Match" if case.method == "GET" else "If-Match"
                case.headers[condition] = tag
        if name == "create_order_from_cart" and choose([True, True, False]):
            article = choose([*ARTICLES, STRANGER])
            user = case.headers.get("X-User-ID")
            if user in (OWNER, STRANGER):
                quantity = choose([1, 2, 20_000])
                self.service.sandbox.empty_cart(user)
                self.service.sandbox.add_to_cart(user, article, quantity)
        if isinstance(case.body, dict):
            self._lead_body(name, case.body, state, choose)
        if case.method == "POST" and (key := choose([None, None, "k1", "k2"])):
            case.headers["Idempotency-Key"] = key

    def _lead_body(
        self, name: str, body: dict[str, Any], state: str | None, choose: Choose
    ) -> None:
        if name == "create_item" and choose([True, True, False]):
            body["product_variation"] = choose(ARTICLES)
            if state is not None:
                body["order"], _ = self.order(state)
        elif name == "create_order" and choose([True, True, False]):
            line = {"product_variation": choose(ARTICLES)}
            body["items"] = [line | {"quantity": choose([1, 2, 10_000])}]
            body.pop("user_id", None)
