"""What a service does with a client that openapi-python-client has made."""

import json
import sys
from uuid import UUID

from order_client import Client
from order_client.api.orders import create_order, list_orders, patch_order
from order_client.models import (
    NewLine,
    NewOrder,
    Order,
    OrderPatch,
    OrderPatchMetadataType0,
    Problem,
)

url, user, article = sys.argv[1:]


def new_order(quantity: int) -> NewOrder:
    """Return an order of one article."""
    line = NewLine(product_variation=UUID(article), quantity=quantity)
    return NewOrder(items=[line])


with Client(base_url=url, headers={"X-User-ID": user}) as client:
    made = create_order.sync_detailed(
        client=client, body=new_order(2), idempotency_key="made by a test"
    )
    order = made.parsed
    assert isinstance(order, Order)
    listed = list_orders.sync(client=client, limit=1)
    assert isinstance(listed, list)
    patch = OrderPatch(metadata=OrderPatchMetadataType0.from_dict({"gift": "yes"}))
    changed = patch_order.sync(
        order.id, client=client, body=patch, if_match=made.headers["ETag"]
    )
    assert isinstance(changed, Order)
    refused = create_order.sync(client=client, body=new_order(0))
    assert isinstance(refused, Problem)
    seen = {
        "id": order.id,
        "quantity": order.items[0].quantity,
        "listed": [each.id for each in listed],
        "metadata": changed.metadata.to_dict(),
        "problem": refused.type_,
        "fields": list(refused.errors.to_dict()) if refused.errors else [],
    }
    json.dump(seen, sys.stdout)
