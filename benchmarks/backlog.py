"""Fill the outbox with orders' events, and check what arrived.

Bodies are byte for byte the service's own.
"""

import contextlib
import io
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence

from common.domain import events
from common.domain.model import Event, Item, Order
from tests.support import database

ITEMS = 5
CREATED_AT = "2025-12-01T10:00:00.058493Z"


def backlog(count: int, statuses: int) -> list[Event]:
    """Return `count` events like those of checkouts and status changes."""
    events_: list[Event] = []
    order_id = 0
    while len(events_) < count:
        order_id += 1
        events_ += _of_order(order_id, statuses)
    return events_[:count]


def _of_order(order_id: int, statuses: int) -> list[Event]:
    items = [
        Item(
            id=order_id * ITEMS + number,
            order=order_id,
            status=1,
            quantity=2,
            product_variation=uuid.uuid4(),
            product_id=uuid.uuid4(),
            shop_id=uuid.uuid4(),
            price=1999,
        )
        for number in range(ITEMS)
    ]
    order = Order(
        id=order_id,
        user_id=uuid.uuid4(),
        created_at=CREATED_AT,
        is_approved=False,
        metadata={},
        items=items,
    )
    return [
        *(events.item_created(order, item) for item in items),
        events.order_created(
            order,
            order_id,
            [events.OrderedLine(i.product_variation, i.quantity) for i in items],
        ),
        *(
            events.status_updated(items[n % ITEMS], 1, CREATED_AT)
            for n in range(statuses)
        ),
    ]


def fill(url: str, backlog_: Sequence[Event]) -> None:
    """Put the events into an empty outbox, as if the broker had been down."""
    rows = "".join(
        "rabbitmq\t{}\t{}\t{}\t{}\n".format(
            event.order_id, event.id, event.type, event.body.replace("\\", "\\\\")
        )
        for event in backlog_
    )
    columns = "destination, order_id, event_id, event_type, body"
    with contextlib.closing(database.connect(url)) as connection:
        connection.run("TRUNCATE outbox, sent_events, dead_letters RESTART IDENTITY")
        connection.run(
            f"COPY outbox ({columns}) FROM STDIN",
            stream=io.BytesIO(rows.encode()),
        )
        connection.run("VACUUM ANALYZE outbox")
        connection.run("CHECKPOINT")


def faults(received: Mapping[str, Sequence[str]], backlog_: Sequence[Event]) -> str:
    """Return what is wrong with the events that arrived, '' if nothing."""
    pending: dict[str, list[str]] = defaultdict(list)
    for event in backlog_:
        pending[str(event.order_id)].append(event.id)
    ids = [event_id for of_order in received.values() for event_id in of_order]
    if len(ids) != len(set(ids)):
        return f"{len(ids) - len(set(ids))} received twice"
    if missing := len(backlog_) - len(ids):
        return f"{missing} are missing"
    if disordered := [
        order_id for order_id in pending if pending[order_id] != received[order_id]
    ]:
        return (
            f"{len(disordered)} orders received out of order, such as {disordered[0]}"
        )
    return ""
