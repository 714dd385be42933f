"""What was asked and heard, and what is wrong with it, in words for people."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from tests.support.history.check import History, Violation
from tests.support.history.record import NEVER, Answer, Operation
from tests.support.history.world import Run

SHOWN = 5


def report(found: Sequence[Violation]) -> str:
    """Return the violations for people to read, the shortest first."""
    ordered = sorted(found, key=lambda each: len(each.operations))
    shown = [
        f"order {each.order_id}: {each.rule}\n{told(each.operations)}"
        for each in ordered[:SHOWN]
    ]
    return "\n\n".join([f"{len(found)} violations", *shown])


def table(recorded: Run, history: History) -> str:
    """Return how much was asked, how it was answered, and how it was disturbed."""
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for each in recorded.operations:
        answer = each.answer
        said = f"{answer.status} {answer.problem}".strip() if answer else "cut"
        said += " replayed" if answer and answer.is_replayed else ""
        kinds[each.kind][said] += 1
    lines = []
    for kind, counts in sorted(kinds.items()):
        shown = ", ".join(f"{count} {what}" for what, count in counts.most_common())
        lines.append(f"{kind:10} {counts.total():6}  {shown}")
    cuts = ", ".join(f"{count} {kind}" for kind, count in recorded.cuts.items())
    sizes = [len(history.operations_of(order_id)) for order_id in history.sightings]
    return "\n".join(
        [
            *lines,
            f"{'in all':10} {len(recorded.operations):6}",
            f"connections cut: {cuts}; processes killed: {recorded.kills}",
            f"orders: {len(sizes)}, with up to {max(sizes, default=0)} operations each",
        ]
    )


def told(operations: Sequence[Operation]) -> str:
    """Return the operations in lines for people, seconds counted from the first."""
    began = min((each.invoked for each in operations), default=0.0)
    return "\n".join(_line(each, began) for each in operations)


def _line(each: Operation, began: float) -> str:
    ended = "cut   " if each.returned == NEVER else f"{each.returned - began:6.3f}"
    asked = each.kind
    for name, value in (
        ("order", each.order_id),
        ("item", each.item_id),
        ("to", each.status),
        ("key", each.key[:8]),
        ("below", each.below),
        ("If-Match", each.if_match),
        ("If-None-Match", each.if_none_match),
    ):
        asked += f" {name} {value}" if value else ""
    return (
        f"  {each.invoked - began:6.3f} to {ended}  {each.client:12} {asked:48} "
        f"{_said(each.answer)}"
    ).rstrip()


def _said(answer: Answer | None) -> str:
    if answer is None:
        return "?"
    said = f"{answer.status}"
    body = answer.body
    if isinstance(body, dict) and "type" in body:
        said += f" {answer.problem}"
    elif isinstance(body, dict) and "status" in body:
        said += f" status {body['status']}"
    elif isinstance(body, dict):
        order = answer.order
        items = ", ".join(f"{i['id']}: {i['status']}" for i in order["items"])
        said += f" order {order['id']} {{{items}}}"
    elif isinstance(body, list):
        said += f" orders {', '.join(str(order['id']) for order in body)}"
    if answer.version is not None:
        said += f", version {answer.version}"
    return said + (", replayed" if answer.is_replayed else "")
