"""The audit: each difference that it knows, and none where there is none."""

import pytest

from common.operations.audit import audit
from common.operations.audit_checks import DIFFERENCES
from tests.support.audited import Tampering


def test_a_world_of_orders_in_every_state_has_no_difference(world: Tampering) -> None:
    report = audit(world.engine)
    assert report.differences == []
    assert report.found == 0
    assert report.orders == len(world.orders)
    [[recorded]] = world.run("SELECT sum(cardinality(destinations)) FROM order_history")
    [[pending]] = world.run("SELECT count(*) FROM outbox")
    assert (report.events, report.pending) == (recorded, pending)
    assert report.resent == 4  # two replayed, one resent, one released


def test_what_may_have_gone_out_twice_is_told_apart(world: Tampering) -> None:
    report = audit(world.engine)
    names = {order_id: name for name, order_id in world.orders.items()}
    told = {(names[a.order_id], a.place, a.is_resend) for a in report.ambiguous}
    # What was confirmed is known to have arrived, and was sent no more.
    assert told == {("held", "pending", False), ("released", "sent", True)}
    assert report.doubtful == 2
    assert {a.event_type for a in report.ambiguous} == {"order.created"}


OF = "order_id = {fresh}"
FIRST_ITEM = "(SELECT min(id) FROM order_items WHERE order_id = {%s})"
LAST_EVENT = "id = (SELECT max(id) FROM sent_events WHERE order_id = {%s})"
MOVE = (
    "INSERT INTO order_history (order_id, kind, item_id, from_status, to_status,"
    " event_id, destinations) SELECT order_id, 'item.moved', item_id, %s, %s, %s"
    " FROM order_history WHERE order_id = {%s} AND kind = 'item.created'"
    " ORDER BY id LIMIT 1"
)
NOBODY = "NULL, '{{}}'"
TOLD = "gen_random_uuid(), '{{http}}'"
NEW = "'00000000-0000-4000-8000-000000000009'"
SPOILT = {
    "order-missing": ("by_hand", "DELETE FROM orders WHERE id = {by_hand}"),
    "order-undeleted": (
        "deleted",
        f"INSERT INTO orders (id, user_id) VALUES ({{deleted}}, {NEW})",
    ),
    "order-vanished": (
        "shipped",
        (
            "WITH a AS (DELETE FROM order_history WHERE order_id = {shipped}),"
            " b AS (DELETE FROM sent_events WHERE order_id = {shipped}),"
            " c AS (DELETE FROM order_items WHERE order_id = {shipped}),"
            " d AS (DELETE FROM idempotency_records WHERE order_id = {shipped})"
            " DELETE FROM orders WHERE id = {shipped}"
        ),
    ),
    "order-unrecorded": (
        "empty",
        "DELETE FROM order_history WHERE order_id = {empty}",
    ),
    "entry-doubled": (
        "approved",
        (
            "INSERT INTO order_history (order_id, kind) VALUES"
            " ({approved}, 'order.approved')"
        ),
    ),
    "entry-late": ("approved", MOVE % (3, 4, NOBODY, "approved")),
    "entry-out-of-time": (
        "fresh",
        (
            f"UPDATE order_history SET changed_at = changed_at + interval '1 second'"
            f" WHERE id = (SELECT min(id) FROM order_history WHERE {OF})"
        ),
    ),
    "approval-differs": (
        "complete",
        (
            "UPDATE orders SET is_approved = true, approved_at = now()"
            " WHERE id = {complete}"
        ),
    ),
    "completeness-differs": (
        "fresh",
        "UPDATE orders SET is_complete = true WHERE id = {fresh}",
    ),
    "actor-missing": (
        "shipped",
        "UPDATE order_history SET actor_kind = NULL WHERE order_id = {shipped}",
    ),
    "actor-differs": (
        "shipped",
        (
            f"UPDATE order_history SET changed_by = {NEW}, actor_kind = 'user'"
            " WHERE order_id = {shipped} AND kind = 'item.moved'"
        ),
    ),
    "owner-differs": ("empty", f"UPDATE orders SET user_id = {NEW} WHERE id={{empty}}"),
    "time-differs": (
        "approved",
        (
            "UPDATE orders SET approved_at = approved_at + interval '1 second'"
            " WHERE id = {approved}"
        ),
    ),
    "item-missing": (
        "shopless",
        "DELETE FROM order_items WHERE order_id = {shopless}",
    ),
    "item-unremoved": (
        "shipped",
        (
            "UPDATE order_history SET kind = 'item.removed', to_status = 4"
            " WHERE order_id = {shipped} AND kind = 'item.moved'"
        ),
    ),
    "item-unrecorded": (
        "fresh",
        f"DELETE FROM order_history WHERE item_id = {FIRST_ITEM % 'fresh'}",
    ),
    "item-owner-differs": (
        "fresh",
        f"UPDATE order_items SET user_id = {NEW} WHERE {OF}",
    ),
    "status-differs": ("shopless", MOVE % (2, 3, NOBODY, "shopless")),
    "version-differs": (
        "shopless",
        "UPDATE order_items SET version = 1 WHERE order_id = {shopless}",
    ),
    "quantity-differs": (
        "shopless",
        "UPDATE order_items SET quantity = 9 WHERE order_id = {shopless}",
    ),
    "chain-broken": ("shipped", MOVE % (1, 2, NOBODY, "shipped")),
    "transition-illegal": ("approved", MOVE % (3, 2, NOBODY, "approved")),
    "untold": (
        "fresh",
        (
            "UPDATE order_history SET event_id = NULL, destinations = '{{}}'"
            f" WHERE {OF} AND kind = 'order.created'"
        ),
    ),
    "told-needlessly": ("shopless", MOVE % (2, 3, TOLD, "shopless")),
    "audience-differs": (
        "approved",
        (
            "UPDATE order_history SET destinations = '{{http}}'"
            " WHERE order_id = {approved} AND kind = 'order.approved'"
        ),
    ),
    "event-lost": (
        "approved",
        (
            "DELETE FROM sent_events WHERE order_id = {approved}"
            " AND destination = 'analytics'"
        ),
    ),
    "event-doubled": (
        "fresh",
        (
            "INSERT INTO sent_events SELECT nextval('outbox_id_seq'), destination,"
            " order_id, event_id, event_type, body, traceparent, created_at, attempts,"
            f" doubts, is_resend, sent_at FROM sent_events WHERE {LAST_EVENT % 'fresh'}"
        ),
    ),
    "event-unknown": (
        "empty",
        (
            "INSERT INTO outbox (destination, order_id, event_id, event_type, body)"
            " VALUES ('http', {empty}, gen_random_uuid(), 'order.created', '{{}}')"
        ),
    ),
    "event-type-differs": (
        "fresh",
        f"UPDATE sent_events SET event_type = 'order.deleted' WHERE {OF}",
    ),
    "event-body-differs": (
        "fresh",
        (
            "UPDATE sent_events SET body = replace(body, 'cart_id\":', 'cart_id\":1')"
            f" WHERE {OF}"
        ),
    ),
    "events-out-of-order": (
        "fresh",
        "UPDATE sent_events SET id = -id WHERE order_id = {fresh}",
    ),
    "event-overtaken": (
        "owed",
        (
            "INSERT INTO sent_events (id, destination, order_id, event_id, event_type,"
            " body) SELECT id, destination, order_id, event_id, event_type, body"
            " FROM outbox WHERE order_id = {owed} ORDER BY id DESC LIMIT 1"
        ),
    ),
    "events-sent-out-of-order": (
        "fresh",
        (
            "UPDATE sent_events SET sent_at = sent_at - interval '1 minute'"
            f" WHERE {OF} AND event_type = 'order.created'"
        ),
    ),
    "event-never-due": (
        "owed",
        (
            "UPDATE outbox SET available_at = 'infinity' WHERE id ="
            " (SELECT min(id) FROM outbox WHERE order_id = {owed})"
        ),
    ),
    "cart-unrecorded": (
        "fresh",
        f"DELETE FROM idempotency_records WHERE {OF}",
    ),
    "cart-record-doubled": (
        "fresh",
        "UPDATE idempotency_records SET order_id = {fresh} WHERE order_id = {shipped}",
    ),
    "cart-record-differs": (
        "fresh",
        f"UPDATE idempotency_records SET expires_at = now() WHERE {OF}",
    ),
    "cart-record-needless": (
        "by_hand",
        "UPDATE idempotency_records SET order_id = {by_hand} WHERE order_id = {fresh}",
    ),
    "hold-unknown": (
        "fresh",
        f"UPDATE stock_holds SET event_id = {NEW} WHERE {OF}",
    ),
    "hold-unconfirmed": (
        "approved",
        "UPDATE stock_holds SET confirmed_at = NULL WHERE order_id = {approved}",
    ),
}


def test_every_difference_is_provoked_here() -> None:
    assert SPOILT.keys() == DIFFERENCES.keys()


@pytest.mark.parametrize("what", SPOILT)
def test_a_difference_is_found_and_the_order_named(world: Tampering, what: str) -> None:
    name, statement = SPOILT[what]
    world.spoil(statement)
    found = world.differences()
    assert (name, what) in found
    assert audit(world.engine).differences[0].sentence
    # And nothing is said of orders that nobody touched.
    touched = {n for n in world.orders if f"{{{n}}}" in statement}
    assert {order for order, _ in found} <= touched
