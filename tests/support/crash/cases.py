"""What a process is killed in the middle of: states before, and checks afterwards.

A client repeats its request unchanged, so every POST has a key or is a checkout, whose
cart is its key.
"""

import functools
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.approvals import CANCELLED, DELIVERED, binary, completed, is_approved
from tests.support.bodies import status_event
from tests.support.crash.world import Request, World
from tests.support.service import new_user

OK, CREATED, NO_CONTENT, NOT_FOUND, CONFLICT = 200, 201, 204, 404, 409
CHECKOUT = "/api/orders-from-shopcart/"


@dataclass
class Case:
    """One try of a scenario: whose it is, and what was there before."""

    user: str
    request: Request = field(default_factory=lambda: Request("POST", "/"))
    order: dict[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()  # of a command
    publish: Callable[[], object] | None = None  # what a worker hears


@dataclass(frozen=True)
class Scenario:
    """A way of writing: through which `view` of which function.

    `way`: asked by `http`, run as a `command`, or fed from a `queue`.
    """

    name: str
    role: str
    view: str
    prepare: Callable[[World], Case]
    check: Callable[[World, Case], None]
    accepts: tuple[int, ...] = (0,)
    way: str = "http"
    settings: Mapping[str, str] = field(default_factory=dict)
    disturbance: Callable[[Case], str] | None = None


def _as(user: str, **headers: str) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"X-User-ID": user, **named}


def _orders_of(world: World, case: Case) -> list[dict[str, Any]]:
    return world.service.rows(
        "SELECT id, metadata FROM orders WHERE user_id = CAST(:user AS uuid)",
        user=case.user,
    )


def _items_of(world: World, case: Case) -> list[dict[str, Any]]:
    return world.service.rows(
        "SELECT id, status, quantity FROM order_items"
        " WHERE user_id = CAST(:user AS uuid) ORDER BY id",
        user=case.user,
    )


# Orders that come to be.


def full_cart(world: World, **headers: str) -> Case:
    user = new_user()
    for quantity in (1, 2):
        article = world.sandbox.add_article(amount=100)
        world.sandbox.add_to_cart(user, article, quantity)
    return Case(user, Request("POST", CHECKOUT, _as(user, **headers)))


def cart_with_a_problem(world: World, **headers: str) -> Case:
    case = full_cart(world, **headers)
    for amount in (0, 3):  # one to remove, one to lower
        article = world.sandbox.add_article(amount=amount)
        world.sandbox.add_to_cart(case.user, article, 5)
    return case


def one_order_with(*quantities: int) -> Callable[[World, Case], None]:
    def check(world: World, case: Case) -> None:
        assert len(_orders_of(world, case)) == 1
        assert [row["quantity"] for row in _items_of(world, case)] == list(quantities)

    return check


def was_told_of_a_repair_or_has_ordered(world: World, case: Case) -> None:
    """Under a key: one answer, to which the cart and the order fit.

    Who is killed between the repair and keeping the answer orders what is left.
    """
    kept = world.service.rows(
        "SELECT status FROM idempotency_records WHERE scope = 'key'"
        " AND user_id = CAST(:user AS uuid)",
        user=case.user,
    )
    assert len(kept) == 1
    if kept[0]["status"] == CREATED:
        one_order_with(1, 2, 3)(world, case)
        return
    assert kept[0]["status"] == CONFLICT
    assert _orders_of(world, case) == []
    cart = world.sandbox.cart(case.user)
    assert cart is not None
    assert [line["quantity"] for line in cart["items"]] == [1, 2, 3]


def order_by_hand(world: World) -> Case:
    user = new_user()
    lines = [
        {"product_variation": world.sandbox.add_article(amount=100), "quantity": n}
        for n in (1, 2)
    ]
    headers = _as(user, Idempotency_Key=str(uuid.uuid4()))
    return Case(user, Request("POST", "/api/orders/", headers, {"items": lines}))


# Orders that change.


def ordered(world: World, *quantities: int) -> Case:
    user = new_user()
    order = world.service.ordered(user, *quantities)
    return Case(user, Request("", "", _as(user)), order)


def request(
    method: str, path: str, body: Any = None, *, key: bool = False
) -> Callable[[World], Case]:
    """Return what orders two things and then asks for a change of them."""

    def prepare(world: World) -> Case:
        case = ordered(world, 1, 2)
        order, item = case.order["id"], case.order["items"][0]["id"]
        case.request.method = method
        case.request.path = path.format(order=order, item=item)
        case.request.body = body
        if key:
            case.request.headers["Idempotency-Key"] = str(uuid.uuid4())
        return case

    return prepare


def new_item(world: World) -> Case:
    case = request("POST", "/api/order-items/", key=True)(world)
    case.request.body = {
        "order": case.order["id"],
        "product_variation": world.sandbox.add_article(amount=10),
        "quantity": 7,
    }
    return case


def has_metadata(world: World, case: Case) -> None:
    [order] = _orders_of(world, case)
    assert order["metadata"] == {"gift": "yes"}


def is_gone(world: World, case: Case) -> None:
    assert _orders_of(world, case) == []


def has_items(*expected: tuple[int, int]) -> Callable[[World, Case], None]:
    """Check status and quantity of the items that are left."""

    def check(world: World, case: Case) -> None:
        found = _items_of(world, case)
        assert [(row["status"], row["quantity"]) for row in found] == list(expected)

    return check


# Approval.


def _complete(world: World) -> Case:
    user = new_user()
    order = completed(world.service, user, DELIVERED, CANCELLED)
    return Case(user, Request("", "", _as(user)), order)


def owner_asks_for_approval(world: World) -> Case:
    case = _complete(world)
    path = f"/api/orders/{case.order['id']}/"
    case.request = Request("PATCH", path, _as(case.user), {"is_approved": True})
    return case


def trigger(world: World) -> Case:
    case = _complete(world)
    event = status_event(case.order["id"])
    case.request = Request("POST", "/", {"ce-id": "1", "ce-specversion": "1.0"}, event)
    return case


def unreadable(path: str) -> Callable[[World], Case]:
    def prepare(_world: World) -> Case:
        user = new_user()
        headers, _ = binary(b"{}")
        return Case(user, Request("POST", path, headers, user.encode()))

    return prepare


def approved(world: World, case: Case) -> None:
    assert is_approved(world.service, case.order["id"])


def kept(world: World, case: Case) -> None:
    """It is kept at least once: nobody knows of a first copy after a crash."""
    kept = world.service.rows(
        "SELECT id FROM dead_letters WHERE body = CAST(:body AS bytea)",
        body=case.user.encode(),
    )
    assert kept


# The relay, with everything to do that it ever does.


def much_to_do(world: World) -> Case:
    service = world.service
    service.rows(
        "INSERT INTO idempotency_records"
        " (user_id, scope, key, fingerprint, status, headers, body, expires_at)"
        " VALUES (gen_random_uuid(), 'key', 'k', 'f', 201, '{}', '', now())"
    )
    case = _complete(world)
    sweep = Request("POST", "/")
    return Case(case.user, sweep, case.order)


def delivered_while_the_worker_listens(world: World) -> Case:
    user = new_user()
    order = world.service.ordered(user, 1)
    item = order["items"][0]["id"]
    move = functools.partial(world.service.move, item, DELIVERED)
    return Case(user, order=order, publish=move)


def given_up_by_the_broker(world: World) -> Case:
    user = new_user()
    publish = functools.partial(
        world.channel.basic_publish, "", "order_approval.dead", user.encode()
    )
    return Case(user, publish=publish)


def one_round(world: World) -> Case:
    case = much_to_do(world)
    case.arguments = ("--once",)
    return case
