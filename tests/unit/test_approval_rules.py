"""When an order is approved, and what an owner's patch may ask for."""

import json
from typing import Any

import pytest

from common.approval import decide, patch_order
from common.changes import Change
from common.errors import (
    InvalidRequestError,
    OrderApprovedError,
    OrderNotCompleteError,
)
from common.schemas import CANCELLED, DELIVERED, PROCESSING, SHIPPED, OrderPatch, decode
from common.store import Snapshot
from tests.support.factories import NOW, OWNER, order, snapshot

APPROVED = snapshot(DELIVERED, CANCELLED, is_approved=True)


def patched(before: Snapshot, **fields: Any) -> Change | None:
    """Patch as the owner does, by way of the body they send."""
    asked = decode(json.dumps(fields).encode(), OrderPatch)
    return patch_order(before, asked, OWNER)


@pytest.mark.parametrize(
    "statuses", [(DELIVERED,), (CANCELLED,), (DELIVERED, CANCELLED)]
)
def test_an_order_is_approved_when_every_item_is_final(
    statuses: tuple[int, ...],
) -> None:
    change = decide(snapshot(*statuses))
    assert change is not None
    assert change.order == order(*statuses, is_approved=True)
    assert (change.is_complete, change.version, change.at) == (True, 7, NOW)


@pytest.mark.parametrize("statuses", [(), (PROCESSING,), (SHIPPED,), (DELIVERED, 2)])
def test_an_order_with_an_open_item_or_none_is_not_approved(
    statuses: tuple[int, ...],
) -> None:
    assert decide(snapshot(*statuses)) is None


def test_an_approved_order_is_not_approved_again() -> None:
    assert decide(APPROVED) is None


def test_an_approval_tells_the_bus_and_then_analytics() -> None:
    change = decide(snapshot(DELIVERED))
    assert change is not None
    assert [(event.type, event.destination) for event in change.events] == [
        ("order.approved", None),
        ("analytics.order.completed", "analytics"),
    ]


def test_an_approval_changes_no_item_and_no_history() -> None:
    change = decide(snapshot(DELIVERED))
    assert change is not None
    assert (change.changed, change.added, change.removed) == ([], [], [])
    assert ([e.kind for e in change.history], change.is_deletion) == (
        ["order.approved"],
        False,
    )


def test_deciding_leaves_the_snapshot_as_it_was() -> None:
    before = snapshot(DELIVERED)
    decide(before)
    assert before == snapshot(DELIVERED)


# An owner's patch.


def test_an_owner_may_ask_for_the_approval_of_a_complete_order() -> None:
    change = patched(snapshot(DELIVERED), is_approved=True)
    assert change is not None
    assert change.order.is_approved
    assert len(change.events) == 2


@pytest.mark.parametrize("statuses", [(), (PROCESSING,), (DELIVERED, SHIPPED)])
def test_approval_of_an_incomplete_order_is_a_conflict(
    statuses: tuple[int, ...],
) -> None:
    with pytest.raises(OrderNotCompleteError) as raised:
        patched(snapshot(*statuses), is_approved=True, metadata={"a": "1"})
    assert (raised.value.status, raised.value.slug) == (409, "order-not-complete")


def test_an_approval_is_not_taken_back() -> None:
    with pytest.raises(OrderApprovedError):
        patched(APPROVED, is_approved=False)


@pytest.mark.parametrize(
    ("before", "asked"),
    [
        (APPROVED, {"is_approved": True}),
        (snapshot(PROCESSING), {"is_approved": False}),
        (snapshot(DELIVERED), {}),
        (snapshot(DELIVERED), {"id": 5, "items": [], "created_at": "x"}),
        (snapshot(DELIVERED), {"user_id": str(OWNER)}),
    ],
)
def test_a_patch_that_changes_nothing_is_no_change(
    before: Snapshot, asked: dict[str, Any]
) -> None:
    assert patched(before, **asked) is None


def test_an_approved_order_still_takes_metadata() -> None:
    change = patched(APPROVED, is_approved=True, metadata={"a": "1"})
    assert change is not None
    assert change.order.metadata == {"a": "1"}
    assert (change.order.is_approved, change.is_complete) == (True, True)
    assert change.events == []


def test_metadata_and_approval_are_one_change() -> None:
    before = snapshot(DELIVERED, metadata={"old": "1"})
    change = patched(before, is_approved=True, metadata={"old": None, "a": "1"})
    assert change is not None
    assert (change.order.is_approved, change.order.metadata) == (True, {"a": "1"})
    assert len(change.events) == 2
    assert before.order.metadata == {"old": "1"}


def test_metadata_alone_approves_nothing() -> None:
    change = patched(snapshot(DELIVERED), metadata={"a": "1"})
    assert change is not None
    assert (change.order.is_approved, change.events) == (False, [])


def test_too_much_metadata_approves_nothing_either() -> None:
    metadata = {f"k{n}": "x" for n in range(51)}
    with pytest.raises(InvalidRequestError):
        patched(snapshot(DELIVERED), is_approved=True, metadata=metadata)
