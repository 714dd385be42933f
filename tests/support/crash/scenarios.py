"""Every kind of write as a scenario in which a process can be killed.

`tests/faults/test_crashes.py` fails where a write is missing here.
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
        name="checkout",
        role="create_order_from_cart",
        view="create_order",
        prepare=cases.full_cart,
        check=cases.one_order_with(1, 2),
        accepts=(OK, CREATED),
    ),
    Scenario(
        name="checkout with a key",
        role="create_order_from_cart",
        view="create_order",
        prepare=lambda world: cases.full_cart(world, Idempotency_Key="k-1"),
        check=cases.one_order_with(1, 2),
        accepts=(OK, CREATED),
    ),
    Scenario(
        name="checkout of a cart with problems",
        role="create_order_from_cart",
        view="create_order",
        prepare=cases.cart_with_a_problem,
        check=cases.one_order_with(1, 2, 3),
        accepts=(OK, CREATED),
    ),
    Scenario(
        name="checkout with a key of a cart with problems",
        role="create_order_from_cart",
        view="create_order",
        prepare=lambda world: cases.cart_with_a_problem(world, Idempotency_Key="k"),
        check=cases.was_told_of_a_repair_or_has_ordered,
        accepts=(CONFLICT, CREATED),
    ),
    Scenario(
        name="checkout, holding what is in doubt",
        role="create_order_from_cart",
        view="create_order",
        prepare=cases.full_cart,
        check=cases.one_order_with(1, 2),
        accepts=(OK, CREATED),
        settings={"ORDER_CREATED_ON_DOUBT": "hold"},
    ),
    Scenario(
        name="order by hand",
        role="orders_crud",
        view="create_order",
        prepare=cases.order_by_hand,
        check=cases.one_order_with(1, 2),
        accepts=(CREATED,),
    ),
    Scenario(
        name="metadata",
        role="orders_crud",
        view="patch_order",
        prepare=cases.request(
            "PATCH", "/api/orders/{order}/", {"metadata": {"gift": "yes"}}
        ),
        check=cases.has_metadata,
        accepts=(OK,),
    ),
    Scenario(
        name="approval by the owner",
        role="orders_crud",
        view="patch_order",
        prepare=cases.owner_asks_for_approval,
        check=cases.approved,
        accepts=(OK,),
    ),
    Scenario(
        name="deletion of an order",
        role="orders_crud",
        view="delete_order",
        prepare=cases.request("DELETE", "/api/orders/{order}/"),
        check=cases.is_gone,
        accepts=(NO_CONTENT, NOT_FOUND),
    ),
    Scenario(
        name="new item",
        role="orders_crud",
        view="create_item",
        prepare=cases.new_item,
        check=cases.has_items((1, 1), (1, 2), (1, 7)),
        accepts=(CREATED,),
    ),
    Scenario(
        name="new quantity",
        role="orders_crud",
        view="patch_item",
        prepare=cases.request("PATCH", "/api/order-items/{item}/", {"quantity": 9}),
        check=cases.has_items((1, 9), (1, 2)),
        accepts=(OK,),
    ),
    Scenario(
        name="cancellation",
        role="orders_crud",
        view="patch_item",
        prepare=cases.request("PATCH", "/api/order-items/{item}/", {"status": 4}),
        check=cases.has_items((4, 1), (1, 2)),
        accepts=(OK,),
    ),
    Scenario(
        name="deletion of an item",
        role="orders_crud",
        view="delete_item",
        prepare=cases.request("DELETE", "/api/order-items/{item}/"),
        check=cases.has_items((1, 2)),
        accepts=(NO_CONTENT, NOT_FOUND),
    ),
    Scenario(
        name="status",
        role="item_status",
        view="set_status",
        prepare=cases.request(
            "PATCH", "/api/order-items/{item}/status/", {"status": 2}
        ),
        check=cases.has_items((2, 1), (1, 2)),
        accepts=(OK,),
    ),
    Scenario(
        name="status, while somebody else changes the order",
        role="item_status",
        view="set_status",
        prepare=cases.request(
            "PATCH", "/api/order-items/{item}/status/", {"status": 2}
        ),
        check=cases.has_items((2, 1), (1, 2)),
        accepts=(OK,),
        disturbance=lambda case: _BUMP.format(case.order["id"]),
    ),
    Scenario(
        name="status, told to two brokers",
        role="item_status",
        view="set_status",
        prepare=cases.request(
            "PATCH", "/api/order-items/{item}/status/", {"status": 2}
        ),
        check=cases.has_items((2, 1), (1, 2)),
        accepts=(OK,),
        settings={"EVENT_BUS": "rabbitmq,pubsub"},
    ),
    Scenario(
        name="approval",
        role="approval_handler",
        view="take_event",
        prepare=cases.trigger,
        check=cases.approved,
        accepts=(NO_CONTENT,),
    ),
    Scenario(
        name="unreadable trigger",
        role="approval_handler",
        view="take_event",
        prepare=cases.unreadable("/any"),
        check=cases.kept,
        accepts=(NO_CONTENT,),
    ),
    Scenario(
        name="what a broker gave up",
        role="approval_handler",
        view="keep_given_up",
        prepare=cases.unreadable("/dead-letters"),
        check=cases.kept,
        accepts=(NO_CONTENT,),
    ),
    Scenario(
        name="sweep",
        role="outbox_relay",
        view="sweep",
        prepare=cases.much_to_do,
        check=cases.approved,
        accepts=(OK,),
    ),
    Scenario(
        name="worker of approval",
        role="approval_worker",
        view="main",
        way="queue",
        prepare=cases.delivered_while_the_worker_listens,
        check=cases.approved,
    ),
    Scenario(
        name="worker of approval, what the broker gave up",
        role="approval_worker",
        view="main",
        way="queue",
        prepare=cases.given_up_by_the_broker,
        check=cases.kept,
    ),
    Scenario(
        name="worker of the relay",
        role="relay_worker",
        view="main",
        way="command",
        prepare=cases.one_round,
        check=cases.approved,
    ),
    _orderctl("relay", ops.command("relay", "--once"), cases.approved),
    _orderctl("doctor", ops.command("doctor", "--fix"), cases.approved, (0, 1)),
    _orderctl(
        "events resend, sent",
        ops.sent_event,
        ops.nothing_is_held,
    ),
    _orderctl(
        "events resend, held",
        ops.held_event("resend"),
        ops.nothing_is_held,
    ),
    _orderctl(
        "events resend, pending",
        ops.pending_event,
        ops.nothing_is_held,
    ),
    _orderctl(
        "events confirm",
        ops.held_event("confirm"),
        ops.nothing_is_held,
        (0, 1),
    ),
    _orderctl(
        "dead-letters replay",
        ops.dead_event,
        ops.is_settled,
        (0, 1),
    ),
    _orderctl(
        "dead-letters discard",
        ops.dead_message("discard", "--yes"),
        ops.is_settled,
        (0, 1),
    ),
    Scenario(
        name="console, an item moved",
        role="ops_console",
        view="act",
        prepare=console.moved_item(2),
        check=cases.has_items((2, 1), (1, 2)),
        accepts=(SEE_OTHER,),
    ),
    Scenario(
        name="console, a letter given up",
        role="ops_console",
        view="act",
        prepare=console.discarded_letter,
        check=console.is_discarded_or_in_doubt,
        accepts=(SEE_OTHER,),
    ),
)
