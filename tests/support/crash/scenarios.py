"""Every kind of write as a scenario in which a process can be killed.

`tests/faults/test_failpoints.py` fails where a write is missing here.
"""

from collections.abc import Callable

from tests.support.crash import cases, console
from tests.support.crash import operations as ops
from tests.support.crash.cases import (
    CONFLICT,
    CREATED,
    NO_CONTENT,
    NOT_FOUND,
    OK,
    Case,
    Scenario,
)
from tests.support.crash.world import World


def _orderctl(
    name: str,
    prepare: Callable[[World], Case],
    check: Callable[[World, Case], None],
    accepts: tuple[int, ...] = (0,),
) -> Scenario:
    """Answer a command's scenario; 1 says, the second time, that it was done before."""
    return Scenario(
        name=f"orderctl {name}",
        role="orderctl",
        view="main",
        way="command",
        prepare=prepare,
        check=check,
        accepts=accepts,
    )


SEE_OTHER = 303
_BUMP = "UPDATE orders SET version = version + 1 WHERE id = {}"

SCENARIOS = (
    Scenario(
        "checkout",
        "create_order_from_cart",
        "create_order",
        cases.full_cart,
        cases.one_order_with(1, 2),
        accepts=(OK, CREATED),
    ),
    Scenario(
        "checkout with a key",
        "create_order_from_cart",
        "create_order",
        lambda world: cases.full_cart(world, Idempotency_Key="k-1"),
        cases.one_order_with(1, 2),
        accepts=(OK, CREATED),
    ),
    Scenario(
        "checkout of a cart with problems",
        "create_order_from_cart",
        "create_order",
        cases.cart_with_a_problem,
        cases.one_order_with(1, 2, 3),
        accepts=(OK, CREATED),
    ),
    Scenario(
        "checkout with a key of a cart with problems",
        "create_order_from_cart",
        "create_order",
        lambda world: cases.cart_with_a_problem(world, Idempotency_Key="k"),
        cases.was_told_of_a_repair_or_has_ordered,
        accepts=(CONFLICT, CREATED),
    ),
    Scenario(
        "checkout, holding what is in doubt",
        "create_order_from_cart",
        "create_order",
        cases.full_cart,
        cases.one_order_with(1, 2),
        accepts=(OK, CREATED),
        settings={"ORDER_CREATED_ON_DOUBT": "hold"},
    ),
    Scenario(
        "order by hand",
        "orders_crud",
        "create_order",
        cases.order_by_hand,
        cases.one_order_with(1, 2),
        accepts=(CREATED,),
    ),
    Scenario(
        "metadata",
        "orders_crud",
        "patch_order",
        cases.request("PATCH", "/api/orders/{order}/", {"metadata": {"gift": "yes"}}),
        cases.has_metadata,
        accepts=(OK,),
    ),
    Scenario(
        "approval by the owner",
        "orders_crud",
        "patch_order",
        cases.owner_asks_for_approval,
        cases.approved,
        accepts=(OK,),
    ),
    Scenario(
        "deletion of an order",
        "orders_crud",
        "delete_order",
        cases.request("DELETE", "/api/orders/{order}/"),
        cases.is_gone,
        accepts=(NO_CONTENT, NOT_FOUND),
    ),
    Scenario(
        "new item",
        "orders_crud",
        "create_item",
        cases.new_item,
        cases.has_items((1, 1), (1, 2), (1, 7)),
        accepts=(CREATED,),
    ),
    Scenario(
        "new quantity",
        "orders_crud",
        "patch_item",
        cases.request("PATCH", "/api/order-items/{item}/", {"quantity": 9}),
        cases.has_items((1, 9), (1, 2)),
        accepts=(OK,),
    ),
    Scenario(
        "cancellation",
        "orders_crud",
        "patch_item",
        cases.request("PATCH", "/api/order-items/{item}/", {"status": 4}),
        cases.has_items((4, 1), (1, 2)),
        accepts=(OK,),
    ),
    Scenario(
        "deletion of an item",
        "orders_crud",
        "delete_item",
        cases.request("DELETE", "/api/order-items/{item}/"),
        cases.has_items((1, 2)),
        accepts=(NO_CONTENT, NOT_FOUND),
    ),
    Scenario(
        "status",
        "item_status",
        "set_status",
        cases.request("PATCH", "/api/order-items/{item}/status/", {"status": 2}),
        cases.has_items((2, 1), (1, 2)),
        accepts=(OK,),
    ),
    Scenario(
        "status, while somebody else changes the order",
        "item_status",
        "set_status",
        cases.request("PATCH", "/api/order-items/{item}/status/", {"status": 2}),
        cases.has_items((2, 1), (1, 2)),
        accepts=(OK,),
        disturbance=lambda case: _BUMP.format(case.order["id"]),
    ),
    Scenario(
        "status, told to two brokers",
        "item_status",
        "set_status",
        cases.request("PATCH", "/api/order-items/{item}/status/", {"status": 2}),
        cases.has_items((2, 1), (1, 2)),
        accepts=(OK,),
        settings={"EVENT_BUS": "rabbitmq,pubsub"},
    ),
    Scenario(
        "approval",
        "approval_handler",
        "take_event",
        cases.trigger,
        cases.approved,
        accepts=(NO_CONTENT,),
    ),
    Scenario(
        "unreadable trigger",
        "approval_handler",
        "take_event",
        cases.unreadable("/any"),
        cases.kept,
        accepts=(NO_CONTENT,),
    ),
    Scenario(
        "what a broker gave up",
        "approval_handler",
        "keep_given_up",
        cases.unreadable("/dead-letters"),
        cases.kept,
        accepts=(NO_CONTENT,),
    ),
    Scenario(
        "sweep",
        "outbox_relay",
        "sweep",
        cases.much_to_do,
        cases.approved,
        accepts=(OK,),
    ),
    Scenario(
        "worker of approval",
        "approval_worker",
        "main",
        cases.delivered_while_the_worker_listens,
        cases.approved,
        way="queue",
    ),
    Scenario(
        "worker of approval, what the broker gave up",
        "approval_worker",
        "main",
        cases.given_up_by_the_broker,
        cases.kept,
        way="queue",
    ),
    Scenario(
        "worker of the relay",
        "relay_worker",
        "main",
        cases.one_round,
        cases.approved,
        way="command",
    ),
    _orderctl("relay", ops.command("relay", "--once"), cases.approved),
    _orderctl("doctor", ops.command("doctor", "--fix"), cases.approved, (0, 1)),
    _orderctl("events resend, sent", ops.sent_event, ops.nothing_is_held),
    _orderctl("events resend, held", ops.held_event("resend"), ops.nothing_is_held),
    _orderctl("events resend, pending", ops.pending_event, ops.nothing_is_held),
    _orderctl("events confirm", ops.held_event("confirm"), ops.nothing_is_held, (0, 1)),
    _orderctl("dead-letters replay", ops.dead_event, ops.is_settled, (0, 1)),
    _orderctl(
        "dead-letters discard",
        ops.dead_message("discard", "--yes"),
        ops.is_settled,
        (0, 1),
    ),
    Scenario(
        "console, an item moved",
        "ops_console",
        "act",
        console.moved_item(2),
        cases.has_items((2, 1), (1, 2)),
        accepts=(SEE_OTHER,),
    ),
    Scenario(
        "console, a letter given up",
        "ops_console",
        "act",
        console.discarded_letter,
        console.is_discarded_or_in_doubt,
        accepts=(SEE_OTHER,),
    ),
)
