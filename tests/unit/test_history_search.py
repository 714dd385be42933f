"""What several clients heard of one order: what explains it, and what nothing does.

Moments are whole numbers; an operation without an end was cut off.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from tests.support.history.check import violations
from tests.support.history.model import (
    ABSENT,
    CANCELLED,
    DELIVERED,
    PROCESSING,
    SHIPPED,
    Item,
    Order,
    State,
    Version,
    step,
)
from tests.support.history.record import NEVER, Answer, Operation
from tests.support.history.search import is_explained, shortest

ORDER, ITEM = 7, 9
BORN = Order(Version(1, is_exact=True), ((ITEM, Item()),))


def did(  # noqa: PLR0917 an operation has that many parts
    kind: str,
    invoked: float,
    returned: float = NEVER,
    code: int = 200,
    shown: int | None = None,
    version: int | None = None,
    **asked: Any,
) -> Operation:
    """Return an operation; `shown` is the item's status in its answer."""
    body: Any = None
    if shown is not None:
        item = {"id": ITEM, "order": ORDER, "status": shown, "product_variation": "v"}
        is_item = kind in ("ship", "cancel", "read item")
        body = item if is_item else {"id": ORDER, "user_id": "u", "items": [item]}
    answer = None if returned == NEVER else Answer(code, body, version)
    return Operation(
        client="c",
        user_id="u",
        kind=kind,
        invoked=invoked,
        returned=returned,
        answer=answer,
        order_id=None if kind == "create" else ORDER,
        item_id=ITEM if kind in ("ship", "cancel", "read item", "remove") else None,
        **asked,
    )


def created(invoked: float, returned: float, *, is_replayed: bool = False) -> Operation:
    made = did("create", invoked, returned, 201, PROCESSING, 1, key="k", lines=("v",))
    assert made.answer
    return replace(made, answer=replace(made.answer, is_replayed=is_replayed))


MADE = created(0, 1)
EXPLAINED = {
    "a cut request is carried out late": [
        MADE,
        did("ship", 2, status=SHIPPED),
        did("read", 3, 4, shown=PROCESSING, version=1),
        did("read", 5, 6, shown=SHIPPED, version=2),
    ],
    "a cut request is never carried out": [
        MADE,
        did("delete", 2),
        did("read", 3, 4, shown=PROCESSING, version=1),
    ],
    "two at once, the one that was sent later comes first": [
        MADE,
        did("cancel", 2, 9, shown=CANCELLED, version=3),
        did("ship", 3, 8, shown=PROCESSING, version=1, status=PROCESSING),
        did("read item", 4, 5, shown=PROCESSING, version=1),
    ],
    "the answer to the creation was cut, not the replay's": [
        did("create", 0, key="k", lines=("v",)),
        created(2, 3, is_replayed=True),
    ],
    "a shop hears of what its owner has deleted": [
        MADE,
        did("delete", 2, 3, 204),
        did("ship", 4, 5, shown=CANCELLED, status=DELIVERED),
    ],
    "If-Match of a version that has passed": [
        MADE,
        did("ship", 2, 3, shown=SHIPPED, version=2, status=SHIPPED),
        did("cancel", 4, 5, 412, if_match=1),
    ],
}
UNEXPLAINED = {
    "a read before the creation was sent": [
        did("read", 0, 1, shown=PROCESSING, version=1),
        created(2, 3),
    ],
    "a write that is gone": [
        MADE,
        did("ship", 2, 3, shown=SHIPPED, version=2, status=SHIPPED),
        did("read", 4, 5, shown=PROCESSING, version=3),
    ],
    "a cut request that is seen, and then is not": [
        MADE,
        did("ship", 2, status=SHIPPED),
        did("read", 3, 4, shown=SHIPPED, version=2),
        did("read", 5, 6, shown=PROCESSING, version=3),
    ],
    "a version that goes back": [
        MADE,
        did("ship", 2, 3, shown=SHIPPED, version=5, status=SHIPPED),
        did("read item", 4, 5, shown=SHIPPED, version=4),
    ],
    "a version that does not grow": [
        MADE,
        did("read item", 2, 3, shown=PROCESSING, version=5),
        did("ship", 4, 5, shown=SHIPPED, version=5, status=SHIPPED),
    ],
    "two first answers to one key": [MADE, created(2, 3)],
    "a replay of what nobody has begun": [created(0, 1, is_replayed=True)],
    "Delivered, then Cancelled": [
        MADE,
        did("ship", 2, 3, shown=DELIVERED, version=2, status=DELIVERED),
        did("cancel", 4, 5, shown=CANCELLED, version=3),
    ],
    "deleted twice": [MADE, did("delete", 2, 3, 204), did("delete", 4, 5, 204)],
    "not found before it is deleted": [
        MADE,
        did("read", 2, 3, 404),
        did("delete", 4, 5, 204),
    ],
    "deleted although it was shipped": [
        MADE,
        did("ship", 2, 3, shown=SHIPPED, version=2, status=SHIPPED),
        did("delete", 4, 5, 204),
    ],
    "If-Match held for what had changed": [
        MADE,
        did("ship", 2, 3, shown=SHIPPED, version=2, status=SHIPPED),
        did("ship", 4, 5, shown=DELIVERED, version=3, status=DELIVERED, if_match=1),
    ],
    "not modified although it was": [
        MADE,
        did("ship", 2, 3, shown=SHIPPED, version=2, status=SHIPPED),
        did("read", 4, 5, 304, version=1, if_none_match=1),
    ],
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_what_can_have_happened_is_explained(name: str) -> None:
    assert is_explained(EXPLAINED[name], BORN)


@pytest.mark.parametrize("name", UNEXPLAINED)
def test_what_cannot_have_happened_is_not(name: str) -> None:
    operations = UNEXPLAINED[name]
    assert not is_explained(operations, BORN)
    assert violations(operations)


def by_every_order(operations: Sequence[Operation]) -> bool:
    """Return what `is_explained` does, by trying every sequence of every subset."""
    known = {i for i, each in enumerate(operations) if each.is_known}
    for size in range(len(known), len(operations) + 1):
        for tried in permutations(range(len(operations)), size):
            is_in_time = all(
                operations[later].returned >= operations[earlier].invoked
                for n, earlier in enumerate(tried)
                for later in tried[n + 1 :]
            )
            if known <= set(tried) and is_in_time:
                state: State | None = ABSENT
                for index in tried:
                    state = state and step(state, operations[index], BORN)
                if state is not None:
                    return True
    return False


def test_the_search_finds_what_trying_every_sequence_finds() -> None:
    chance = random.Random(7)
    found = {True: 0, False: 0}
    for _ in range(1500):
        operations = [MADE, *(guessed(chance) for _ in range(chance.randint(1, 4)))]
        is_possible = by_every_order(operations)
        assert is_explained(operations, BORN) == is_possible, operations
        found[is_possible] += 1
    assert min(found.values()) > 100


def guessed(chance: random.Random) -> Operation:
    """Return an operation as somebody might have recorded it, true or not."""
    invoked = chance.uniform(0, 4)
    returned = chance.choice((NEVER, invoked + chance.uniform(0, 3)))
    status, version = chance.choice((SHIPPED, DELIVERED)), chance.randint(1, 3)
    if chance.random() < 0.4:
        ended = invoked + 1
        shown = chance.choice((PROCESSING, SHIPPED, CANCELLED))
        return did("read", invoked, ended, shown=shown, version=version)
    return chance.choice(
        (
            did("delete", invoked, returned, chance.choice((204, 404, 409))),
            did("cancel", invoked, returned, shown=CANCELLED, version=version),
            did("ship", invoked, returned, 200, status, version, status=status),
        )
    )


def test_the_shortest_part_keeps_only_what_matters() -> None:
    needless = [did("read", n, n + 0.5, shown=PROCESSING, version=1) for n in (2, 3)]
    lost = did("ship", 4, 5, shown=SHIPPED, version=2, status=SHIPPED)
    stale = did("read", 6, 7, shown=PROCESSING, version=1)
    later = did("delete", 8, 9, 409)
    kept = shortest([later, MADE, *needless, lost, stale], BORN)
    assert kept == (MADE, lost, stale)
