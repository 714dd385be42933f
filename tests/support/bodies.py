"""Examples of the bodies in sections 5 and 6 of the contract.

They are written by hand, so that a mistake in the service's own builders is not
repeated here.
"""

from typing import Any

USER = "d0d0d0d0-0000-4000-8000-0000000000aa"
VARIATION = "a0000000-0000-4000-8000-000000000001"
PRODUCT = "b0000000-0000-4000-8000-000000000001"
SHOP = "50000000-0000-4000-8000-000000000001"
STATUS_UPDATED = "order.item.status.updated"


def order_created(
    user: str,
    items: list[tuple[str, int]],
    *,
    order_id: int = 4,
    cart_id: int | None = 42,
) -> dict[str, Any]:
    return {
        "event": "order.created",
        "event_type": "order.created",
        "data": {
            "order_id": order_id,
            "user_uuid": user,
            "cart_id": cart_id,
            "items": [
                {"product_variation_id": variation, "quantity": quantity}
                for variation, quantity in items
            ],
        },
    }


def order_item_created(**changes: object) -> dict[str, Any]:
    body = {
        "event_type": "order.item.created",
        "order_item_id": "9",
        "order_id": "4",
        "shop_id": SHOP,
        "product_id": PRODUCT,
        "product_variation": VARIATION,
        "quantity": 2,
        "price": 1999,
        "status": 1,
        "user_id": USER,
    }
    return body | changes


def completed_order(**changes: object) -> dict[str, Any]:
    item = {"id": "9", "quantity": 2, "product_variation": VARIATION, "price": "19.99"}
    body = {
        "id": "4",
        "user_id": USER,
        "created_at": "2025-12-01T10:00:00.058493+00:00",
        "items": [item],
    }
    return body | changes


def status_event(order_id: object, /, **changes: object) -> dict[str, Any]:
    """Return the body of a status event, as the contract spells it."""
    body = {
        "event_type": STATUS_UPDATED,
        "order_item_id": "1",
        "order_id": str(order_id),
        "shop_id": SHOP,
        "status": 3,
        "previous_status": 2,
        "occurred_at": "2025-12-01T10:00:00.000000Z",
    }
    return body | changes
