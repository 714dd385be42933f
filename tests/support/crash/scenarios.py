"""Every kind of write as a scenario in which a process can be killed.

`tests/faults/test_failpoints.py` fails where a write is missing here.
"""

from collections.abc import Callable
from dataclasses import replace

from tests.support.crash import console, operations
from tests.support.crash.cases import (
    CONFLICT,
    CREATED,
    NO_CONTENT,
    NOT_FOUND,
    OK,
    Case,
    Scenario,
    approved,
    cart_with_a_problem,
    delivered_while_the_worker_listens,
    full_cart,
    given_up_by_the_broker,
    has_items,
    has_metadata,
    is_gone,
    kept,
    much_to_do,
    new_item,
    one_order_with,
    one_round,
    order_by_hand,
    owner_asks_for_approval,
    request,
    trigger,
    unreadable,
    was_told_of_a_repair_or_has_ordered,
)
from tests.support.crash.operations import command, is_settled, nothing_is_held
from tests.support.crash.world import World

Prepare = Callable[[World], Case]
Check = Callable[[World, Case], None]


def _http(
    at: str,
    prepare: Prepare,
    check: Check,
    *accepts: int,
    disturbance: Callable[[Case], str] | None = None,
    **settings: str,
) -> Scenario:
    """Return the scenario of a request; `at` is the function and its view."""
    role, view = at.split(".")
    found = Scenario("", role, view, prepare, check, accepts, settings=settings)
    return replace(found, disturbance=disturbance)


def _queue(prepare: Prepare, check: Check) -> Scenario:
    """Return the scenario of a message that the worker of approval takes."""
    return Scenario("", "approval_worker", "main", prepare, check, way="queue")


def _command(role: str, prepare: Prepare, check: Check, *accepts: int) -> Scenario:
    """Return a command's scenario; 1 says, the second time, that it was done before."""
    return Scenario("", role, "main", prepare, check, accepts or (0,), "command")


def _orderctl(prepare: Prepare, check: Check, *accepts: int) -> Scenario:
    return _command("orderctl", prepare, check, *accepts)


def _with_key(prepare: Callable[..., Case], key: str) -> Prepare:
    return lambda world: prepare(world, Idempotency_Key=key)


def _broker_away(prepare: Prepare) -> Prepare:
    """Have the broker away until `_broker_back` checks."""

    def prepare_it(world: World) -> Case:
        case = prepare(world)
        world.service.set(RABBITMQ_PORT="1")
        return case

    return prepare_it


def _broker_back(check: Check) -> Check:
    def check_it(world: World, case: Case) -> None:
        world.service.set(RABBITMQ_PORT=world.broker.environ["RABBITMQ_PORT"])
        check(world, case)

    return check_it


def _version_moves(case: Case) -> str:
    return f"UPDATE orders SET version = version + 1 WHERE id = {case.order['id']}"


SEE_OTHER = 303
CHECKOUT = "create_order_from_cart.order_cart"
PATCH_ORDER, PATCH_ITEM = "orders_crud.patch_order", "orders_crud.patch_item"
TAKE_EVENT, STATUS = "approval_handler.take_event", "item_status.set_status"
ORDER, ITEM = "/api/orders/{order}/", "/api/order-items/{item}/"
_shipped = request("PATCH", f"{ITEM}status/", {"status": 2})
_is_shipped = has_items((2, 1), (1, 2))
_discard = operations.dead_message("discard", "--yes", "--reason", "why")

_BY_NAME = {
    "checkout": _http(CHECKOUT, full_cart, one_order_with(1, 2), OK, CREATED),
    "checkout with a key": _http(
        CHECKOUT, _with_key(full_cart, "k-1"), one_order_with(1, 2), OK, CREATED
    ),
    "checkout of a cart with problems": _http(
        CHECKOUT, cart_with_a_problem, one_order_with(1, 2, 3), OK, CREATED
    ),
    "checkout with a key of a cart with problems": _http(
        CHECKOUT,
        _with_key(cart_with_a_problem, "k"),
        was_told_of_a_repair_or_has_ordered,
        *(CONFLICT, CREATED),
    ),
    "checkout, holding what is in doubt": _http(
        CHECKOUT,
        full_cart,
        one_order_with(1, 2),
        *(OK, CREATED),
        ORDER_CREATED_ON_DOUBT="hold",
    ),
    "order by hand": _http(
        "orders_crud.post_order", order_by_hand, one_order_with(1, 2), CREATED
    ),
    "metadata": _http(
        PATCH_ORDER,
        request("PATCH", ORDER, {"metadata": {"gift": "yes"}}),
        has_metadata,
        OK,
    ),
    "approval by the owner": _http(PATCH_ORDER, owner_asks_for_approval, approved, OK),
    "deletion of an order": _http(
        "orders_crud.delete_order",
        request("DELETE", ORDER),
        is_gone,
        *(NO_CONTENT, NOT_FOUND),
    ),
    "new item": _http(
        "orders_crud.create_item", new_item, has_items((1, 1), (1, 2), (1, 7)), CREATED
    ),
    "new quantity": _http(
        PATCH_ITEM,
        request("PATCH", ITEM, {"quantity": 9}),
        has_items((1, 9), (1, 2)),
        OK,
    ),
    "cancellation": _http(
        PATCH_ITEM, request("PATCH", ITEM, {"status": 4}), has_items((4, 1), (1, 2)), OK
    ),
    "deletion of an item": _http(
        "orders_crud.delete_item",
        request("DELETE", ITEM),
        has_items((1, 2)),
        *(NO_CONTENT, NOT_FOUND),
    ),
    "status": _http(STATUS, _shipped, _is_shipped, OK),
    "status, while somebody else changes the order": _http(
        STATUS, _shipped, _is_shipped, OK, disturbance=_version_moves
    ),
    "status, told to two brokers": _http(
        STATUS, _shipped, _is_shipped, OK, EVENT_BUS="rabbitmq,pubsub"
    ),
    "status, while the broker is away": _http(
        STATUS, _broker_away(_shipped), _broker_back(_is_shipped), OK
    ),
    "approval": _http(TAKE_EVENT, trigger, approved, NO_CONTENT),
    "unreadable trigger": _http(TAKE_EVENT, unreadable("/any"), kept, NO_CONTENT),
    "what a broker gave up": _http(
        "approval_handler.keep_given_up", unreadable("/dead-letters"), kept, NO_CONTENT
    ),
    "sweep": _http("outbox_relay.sweep", much_to_do, approved, OK),
    "worker of approval": _queue(delivered_while_the_worker_listens, approved),
    "worker of approval, what the broker gave up": _queue(given_up_by_the_broker, kept),
    "worker of the relay": _command("relay_worker", one_round, approved),
    "orderctl relay": _orderctl(command("relay", "--once"), approved),
    "orderctl doctor": _orderctl(command("doctor", "--fix"), approved, 0, 1),
    "orderctl events resend, sent": _orderctl(operations.sent_event, nothing_is_held),
    "orderctl events resend, held": _orderctl(
        operations.held_event("resend"), nothing_is_held
    ),
    "orderctl events resend, pending": _orderctl(
        operations.pending_event, nothing_is_held
    ),
    "orderctl events confirm": _orderctl(
        operations.held_event("confirm"), nothing_is_held, 0, 1
    ),
    "orderctl dead-letters replay": _orderctl(operations.dead_event, is_settled, 0, 1),
    "orderctl dead-letters discard": _orderctl(_discard, is_settled, 0, 1),
    "orderctl events hurry": _orderctl(
        operations.postponed_event("events", "hurry", "--destination", "rabbitmq"),
        operations.is_due,
    ),
    "orderctl relay, of what is postponed": _orderctl(
        operations.postponed_event("relay", "--once"), operations.is_due
    ),
    "orderctl users erase": _orderctl(
        operations.former_user, operations.is_erased, 0, 1
    ),
    "orderctl audit --acknowledge": _orderctl(
        operations.different, operations.is_acknowledged
    ),
    "orderctl after-restore": replace(
        _orderctl(operations.restored, operations.is_marked_as_restored),
        settings={"ORDER_CREATED_ON_DOUBT": "hold"},
    ),
    "console, an item moved": _http(
        "ops_console.act", console.moved_item(2), _is_shipped, SEE_OTHER
    ),
    "console, a letter given up": _http(
        "ops_console.act",
        console.discarded_letter,
        console.is_discarded_or_in_doubt,
        SEE_OTHER,
    ),
}
SCENARIOS = tuple(replace(each, name=name) for name, each in _BY_NAME.items())
