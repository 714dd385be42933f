"""Rules of an order and its items: transitions, field rights, history, events.

A function takes a snapshot and returns a change, or None if nothing changes.
"""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from msgspec import UNSET, UnsetType, structs

from common.domain import checkout, events
from common.domain.commands import MAX_METADATA_KEYS, ItemPatch
from common.domain.model import (
    MAX_ITEMS,
    Actor,
    Change,
    Entry,
    Event,
    Ids,
    Item,
    ItemStatus,
    Line,
    Order,
    Snapshot,
)
from common.domain.stock import NOT_READ, Stock, take
from common.errors import (
    ForbiddenError,
    IllegalTransitionError,
    InvalidRequestError,
    ItemNotOpenError,
    OrderApprovedError,
    OrderFullError,
    OrderShippedError,
)


def new_order(  # noqa: PLR0913 all that there is to know of an order
    user_id: UUID,
    lines: Sequence[Line],
    ids: Ids,
    *,
    stock: Stock = NOT_READ,
    metadata: Mapping[str, str] | None = None,
    cart_id: int | None = None,
) -> Change:
    """Return a new order with these ids, of which there may be more than lines.

    It is taken from `stock`. That is announced by `order.created`, after the events of
    its items, because siblings act on the items first.
    """
    check_size(len(lines))
    order = Order(
        id=ids.order_id,
        user_id=user_id,
        created_at=ids.at,
        is_approved=False,
        metadata=dict(metadata or {}),
        items=[],
    )
    order.items = [
        new_item(order.id, item_id, line)
        for item_id, line in zip(ids.item_ids[: len(lines)], lines, strict=True)
    ]
    change = Change(
        order=order,
        version=0,
        at=ids.at,
        added=order.items,
        actor=Actor(user_id),
        cart_id=cart_id,
        titles=_titles(
            (item.id, line.title) for item, line in zip(order.items, lines, strict=True)
        ),
    )
    taken = [(item, item.quantity) for item in order.items]
    change.history = [
        *(_added(order, item) for item in order.items),
        Entry("order.created", events=take(change, taken, stock)),
    ]
    return change


def new_item(order_id: int, item_id: int, line: Line) -> Item:
    """Return the new item for a line."""
    return Item(
        id=item_id,
        order=order_id,
        status=ItemStatus.PROCESSING,
        quantity=line.quantity,
        product_variation=line.product_variation,
        product_id=line.product_id,
        shop_id=line.shop_id,
        price=line.price,
    )


_MAX_TITLE = 200  # a title may be far longer than what anybody reads


def _titles(added: Iterable[tuple[int, str | None]]) -> dict[int, str]:
    return {item_id: title[:_MAX_TITLE] for item_id, title in added if title}


def check_not_approved(snapshot: Snapshot) -> None:
    """Raise OrderApprovedError if the order is approved, and so no longer changes."""
    if snapshot.order.is_approved:
        raise OrderApprovedError


def check_size(items: int) -> None:
    """Raise OrderFullError if an order may not have so many items."""
    if items > MAX_ITEMS:
        raise OrderFullError(
            f"An order holds at most {MAX_ITEMS} items, and this one would have"
            f" {items}. Nothing was changed."
        )


def add_item(
    snapshot: Snapshot, item: Item, actor: Actor, stock: Stock, title: str | None = None
) -> Change:
    """Add an item to an order that is not approved, and announce it to its shop."""
    check_not_approved(snapshot)
    check_size(len(snapshot.order.items) + 1)
    change = _change(snapshot, [*snapshot.order.items, item], actor)
    change.added = [item]
    change.titles = _titles([(item.id, title)])
    taken = take(change, [(item, item.quantity)], stock)
    change.history = [
        _added(change.order, item),
        _same_status("item.taken", item, taken, to_quantity=item.quantity),
    ]
    return change


# What the shop may do. The owner may only cancel, while the item is Processing.
TRANSITIONS: dict[int, frozenset[ItemStatus]] = {
    ItemStatus.PROCESSING: frozenset(
        {ItemStatus.SHIPPED, ItemStatus.DELIVERED, ItemStatus.CANCELLED}
    ),
    ItemStatus.SHIPPED: frozenset({ItemStatus.DELIVERED, ItemStatus.CANCELLED}),
    ItemStatus.DELIVERED: frozenset(),
    ItemStatus.CANCELLED: frozenset(),
}


def set_status(
    snapshot: Snapshot, item_id: int, status: int, actor: Actor
) -> Change | None:
    """Change an item's status as its shop may; the same status again is no change."""
    item = snapshot.item(item_id)
    if item.status == status:
        return None
    if status not in TRANSITIONS[item.status]:
        current, requested = ItemStatus(item.status).label, ItemStatus(status).label
        raise IllegalTransitionError(
            f"An item that is {current} cannot become {requested}."
        )
    updated = structs.replace(item, status=status)
    change = _change(snapshot, _with(snapshot.order.items, updated), actor)
    change.changed = [updated]
    change.history = [_status_changed(change, item, status)]
    return change


def cancel_item(snapshot: Snapshot, item_id: int, actor: Actor) -> Change | None:
    """Cancel an item that is Processing; one that is cancelled already stays so."""
    item = snapshot.item(item_id)
    if item.status not in (ItemStatus.PROCESSING, ItemStatus.CANCELLED):
        current = ItemStatus(item.status).label
        raise IllegalTransitionError(f"An item that is {current} can't be cancelled.")
    return set_status(snapshot, item_id, ItemStatus.CANCELLED, actor)


def set_quantity(
    snapshot: Snapshot,
    item_id: int,
    quantity: int,
    actor: Actor,
    stock: Stock = NOT_READ,
) -> Change | None:
    """Change the quantity of an item that is Processing.

    More is taken from `stock`, whatever there is if it was not read. Nothing that is
    announced gives back what is less.
    """
    item = _open_item(snapshot, item_id)
    if item.quantity == quantity:
        return None
    updated = structs.replace(item, quantity=quantity)
    change = _change(snapshot, _with(snapshot.order.items, updated), actor)
    change.changed = [updated]
    more = quantity - item.quantity
    taken = take(change, [(item, more)], stock) if more > 0 else ()
    change.history = [
        _same_status("item.changed", item, taken, item.quantity, quantity)
    ]
    return change


def remove_item(snapshot: Snapshot, item_id: int, actor: Actor) -> Change:
    """Delete an item that is Processing; other services see it as Cancelled."""
    item = _open_item(snapshot, item_id)
    remaining = [other for other in snapshot.order.items if other.id != item_id]
    change = _change(snapshot, remaining, actor)
    change.removed = [item_id]
    change.history = [
        _status_changed(change, item, ItemStatus.CANCELLED, kind="item.removed")
    ]
    return change


def check_item_patch(patch: ItemPatch) -> None:
    """Raise ForbiddenError or InvalidRequestError if no owner may request this."""
    for name in ("order", "product_variation", "product_id", "shop_id", "price"):
        if getattr(patch, name) is not UNSET:
            raise ForbiddenError(f"{name}: an owner cannot change it.")
    if patch.status not in (UNSET, ItemStatus.CANCELLED):
        raise ForbiddenError("status: an owner can only cancel (4).")
    if patch.status is not UNSET and patch.quantity is not UNSET:
        raise InvalidRequestError.of("quantity", "cannot be changed with a status")


def patch_item(
    snapshot: Snapshot, item_id: int, patch: ItemPatch, actor: Actor, stock: Stock
) -> Change | None:
    """Return the change of an owner's patch, None if it is empty or changes nothing.

    `stock` must have the item's variation if its quantity is raised.
    """
    if patch.status is not UNSET:
        return cancel_item(snapshot, item_id, actor)
    item = snapshot.item(item_id)
    if patch.quantity is UNSET:
        return None
    change = set_quantity(snapshot, item_id, patch.quantity, actor, stock)
    checkout.check_increase(item, patch.quantity, stock.variations)
    return change


def set_metadata(
    snapshot: Snapshot, patch: Mapping[str, str | None] | None, actor: Actor
) -> Change | None:
    """Merge `patch` into the metadata as a JSON merge patch; None removes it all."""
    merged: dict[str, str] = {}
    if patch is not None:
        kept = {k: v for k, v in snapshot.order.metadata.items() if k not in patch}
        merged = kept | {k: v for k, v in patch.items() if v is not None}
    if len(merged) > MAX_METADATA_KEYS:
        rule = f"must be an object with at most {MAX_METADATA_KEYS} keys"
        raise InvalidRequestError.of("metadata", rule)
    if merged == snapshot.order.metadata:
        return None
    change = _change(snapshot, snapshot.order.items, actor)
    change.order.metadata = merged
    return change


def delete_order(snapshot: Snapshot, actor: Actor) -> Change:
    """Delete an order of which no item has shipped; its open items are cancelled."""
    check_not_approved(snapshot)
    items = snapshot.order.items
    if any(item.status in (ItemStatus.SHIPPED, ItemStatus.DELIVERED) for item in items):
        raise OrderShippedError
    change = _change(snapshot, [], actor)
    change.is_deletion = True
    open_items = [item for item in items if item.status == ItemStatus.PROCESSING]
    change.history = [
        _status_changed(change, item, ItemStatus.CANCELLED) for item in open_items
    ]
    deleted = events.order_deleted(snapshot.order)
    change.history.append(Entry("order.deleted", events=(deleted,)))
    return change


def check_owner(owner: UUID | UnsetType | None, user_id: UUID) -> None:
    """Raise ForbiddenError if a body names another owner than the caller."""
    if owner not in (UNSET, None, user_id):
        raise ForbiddenError("user_id: an order belongs to its caller.")


FINAL = frozenset({ItemStatus.DELIVERED, ItemStatus.CANCELLED})


def is_complete(items: Iterable[Item]) -> bool:
    """Return whether there are items and all of them are final."""
    statuses = [item.status for item in items]
    return bool(statuses) and FINAL.issuperset(statuses)


def _open_item(snapshot: Snapshot, item_id: int) -> Item:
    item = snapshot.item(item_id)
    if item.status != ItemStatus.PROCESSING:
        raise ItemNotOpenError(f"The item is {ItemStatus(item.status).label}.")
    return item


def _change(snapshot: Snapshot, items: list[Item], actor: Actor) -> Change:
    return Change(
        order=structs.replace(snapshot.order, items=items),
        version=snapshot.version,
        at=snapshot.read_at,
        is_complete=is_complete(items),
        actor=actor,
    )


def _added(order: Order, item: Item) -> Entry:
    """Return the history entry of a new item, with the event for its shop, if any."""
    published = (events.item_created(order, item),) if events.has_shop(item) else ()
    return Entry(
        "item.created",
        item.id,
        None,
        item.status,
        published,
        to_quantity=item.quantity,
    )


def _same_status(
    kind: str,
    item: Item,
    published: tuple[Event, ...],
    from_quantity: int | None = None,
    to_quantity: int | None = None,
) -> Entry:
    """Return the history entry of a step that leaves the item's status as it is."""
    return Entry(
        kind, item.id, item.status, item.status, published, from_quantity, to_quantity
    )


def _status_changed(
    change: Change, item: Item, status: int, *, kind: str = "item.moved"
) -> Entry:
    """Return the history entry of a change of status, with its event, if any."""
    published: tuple[Event, ...] = ()
    if events.has_shop(item):
        updated = structs.replace(item, status=status)
        published = (events.status_updated(updated, item.status, change.at),)
    return Entry(kind, item.id, item.status, status, published)


def _with(items: Iterable[Item], updated: Item) -> list[Item]:
    return [updated if item.id == updated.id else item for item in items]
