"""One order's timeline, as an operator reads it: what happened, who was told, when.

Lives here: putting history, events, letters and actions into one order of time, in
words. Not here: reading them (`console_reads.py`). Surprise: an event that was sent
stands at the time at which it was confirmed, one that still waits at that at which it
was recorded.
"""

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from common.backlog import Row
from common.console_access import operator_id
from common.console_reads import Action, History, Letter, OrderFacts
from common.events import ANALYTICS
from common.orders import STATUS_NAMES


class Entry(Struct, frozen=True):
    """One line; `kind` is history, sent, pending, held, dead or action."""

    at: datetime
    kind: str
    title: str
    who: str = ""
    request_id: str | None = None
    details: str = ""
    link: str = ""  # below the console's root


def entries(facts: OrderFacts, owner: UUID | None) -> list[Entry]:
    """Answer the lines, oldest first; `owner` is whose order it is, if it is there."""
    known = {str(operator_id(a.operator)): a.operator for a in facts.actions}
    if owner is not None:
        known[str(owner)] = "the owner"
    found = [
        *(_happened(one, known) for one in facts.history),
        *(_told(row) for row in facts.events),
        *(_buried(letter) for letter in facts.letters),
        *(_acted(action) for action in facts.actions),
    ]
    return sorted(found, key=lambda entry: entry.at)


_TITLES = {
    "order.created": "Order created",
    "order.approved": "Order approved",
    "order.deleted": "Order deleted",
}


def _happened(one: History, known: dict[str, str]) -> Entry:
    who = "the service" if one.changed_by is None else one.changed_by
    kind = one.actor_kind
    by = f"{kind} {who}" if kind in ("shop", "internal") else known.get(who, who)
    return Entry(
        at=one.changed_at,
        kind="history",
        title=_TITLES.get(one.kind) or " ".join(_item_words(one)),
        who=by,
        request_id=one.request_id,
    )


def _item_words(one: History) -> Iterator[str]:
    yield f"Item {one.item_id}"
    to = STATUS_NAMES.get(one.to_status or 0, "?")
    if one.kind == "item.created":
        yield f"created, {to}"
        return
    if one.kind == "item.changed":
        yield f"changed, quantity {one.from_quantity} to {one.to_quantity}"
        return
    yield "removed," if one.kind == "item.removed" else "moved,"
    yield f"{STATUS_NAMES.get(one.from_status or 0, '?')} to {to}"


def _told(row: Row) -> Entry:
    is_sent = row.place == "sent"
    what = "Analytics" if row.destination == ANALYTICS else f"Event {row.event_type}"
    words = {"sent": "sent", "held": "held, in doubt", "pending": "waits"}
    said = [f"{row.attempts or 0} attempt{'' if row.attempts == 1 else 's'}"]
    said += [f"{row.doubts} in doubt"] if row.doubts else []
    said += ["an operator's resend"] if row.is_resend else []
    said += [row.reason] if row.reason else []
    return Entry(
        at=row.sent_at if is_sent and row.sent_at else row.created_at,
        kind=row.place,
        title=f"{what} to {row.destination}: {words.get(row.place, row.place)}",
        details="; ".join(said),
        link=f"events/{row.order_id}/{row.event_id}/",
    )


def _buried(letter: Letter) -> Entry:
    return Entry(
        at=letter.created_at,
        kind="dead",
        title=f"Dead letter {letter.id}, {letter.settled_as or 'open'}",
        details=letter.reason,
        link=f"letters/{letter.id}/",
    )


def _acted(action: Action) -> Entry:
    return Entry(
        at=action.at,
        kind="action",
        title=f"Operator: {action.action}, {action.outcome}",
        who=action.operator,
        request_id=action.request_id,
        details=action.reason,
        link=f"actions/{action.id}/",
    )
