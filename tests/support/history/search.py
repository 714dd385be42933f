"""Search for an order of steps that explains what clients of one order heard.

After Wing and Gong, with the memory of Lowe: each combination of what is done and the
state that it led to is looked at once.
"""

from collections.abc import Sequence
from dataclasses import replace

from tests.support.history.model import ABSENT, CHANGES, Order, State, step
from tests.support.history.record import NEVER, Operation

Node = tuple[int, int, State]  # all are done below an index; a bit for each; the state


def is_explained(operations: Sequence[Operation], born: Order) -> bool:
    """Return whether the operations can have been done one after the other.

    Each at some moment between its begin and its end; one without an answer at any
    moment after its begin, or never.
    """
    ordered = sorted(operations, key=lambda each: each.invoked)
    known = sum(1 << i for i, each in enumerate(ordered) if each.is_known)
    stack: list[Node] = [(0, 0, ABSENT)]
    seen: set[tuple[int, State]] = set()
    while stack:
        first, done, state = stack.pop()
        if done & known == known:
            return True
        if (done, state) not in seen:
            seen.add((done, state))
            stack += _next(ordered, (first, done, state), born)
    return False


def _next(ordered: Sequence[Operation], node: Node, born: Order) -> list[Node]:
    """Return where one operation more leads; the likeliest last."""
    first, done, state = node
    while done >> first & 1:
        first += 1
    candidates, horizon = [], float("inf")
    for index in range(first, len(ordered)):
        each = ordered[index]
        if each.invoked > horizon:
            break
        if not done >> index & 1:
            candidates.append(index)
            horizon = min(horizon, each.returned)
    found: list[tuple[float, Node]] = []
    for index in candidates:
        each = ordered[index]
        if each.invoked > horizon:
            continue
        after = step(state, each, born)
        if after is None or (after == state and not each.is_known):
            continue
        following = (first, done | 1 << index, after)
        if after == state:  # it changes nothing, so nothing is gained by waiting
            return [following]
        found.append((each.returned, following))
    found.sort(key=lambda pair: -pair[0])
    return [following for _, following in found]


def shortest(operations: Sequence[Operation], born: Order) -> tuple[Operation, ...]:
    """Return as few operations as still cannot be explained.

    Only what did nothing may be left out: any other is needed to explain the rest.
    """
    kept = _until_it_breaks(operations, born)
    for operation in [each for each in kept if _did_nothing(each)]:
        fewer = [each for each in kept if each is not operation]
        if not is_explained(fewer, born):
            kept = fewer
    return tuple(sorted(kept, key=lambda each: each.invoked))


def _until_it_breaks(operations: Sequence[Operation], born: Order) -> list[Operation]:
    """Return what was known at the first moment at which it made no sense."""
    moments = sorted({each.returned for each in operations if each.is_known})
    low, high = 0, len(moments) - 1
    while low < high:
        middle = (low + high) // 2
        if is_explained(_known_at(operations, moments[middle]), born):
            low = middle + 1
        else:
            high = middle
    return _known_at(operations, moments[high])


def _known_at(operations: Sequence[Operation], moment: float) -> list[Operation]:
    known = []
    for each in operations:
        if each.returned <= moment:
            known.append(each)
        elif each.invoked <= moment and each.kind in CHANGES:
            known.append(replace(each, returned=NEVER, answer=None))
    return known


def _did_nothing(operation: Operation) -> bool:
    answer = operation.answer
    return answer is not None and (
        operation.kind not in CHANGES or answer.is_replayed or answer.status >= 400
    )
