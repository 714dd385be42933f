"""One order's timeline in words, for operators.

A published event stands at the time of its confirm, a pending one at the time it was
recorded.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from common.console.access import operator_id
from common.console.reads import RecordedAction
from common.domain.events import ANALYTICS
from common.domain.model import status_label
from common.messaging.event_rows import EventRow
from common.store.timeline import Step, Timeline


class TimelineRow(Struct, frozen=True):
    """One line; `kind` is history, sent, pending, held, dead or action."""

    at: datetime
    kind: str
    title: str
    who: str = ""
    request_id: str | None = None
    details: str = ""
    link: str = ""  # below the console's root


def entries(page: Timeline, actions: Iterable[RecordedAction]) -> list[TimelineRow]:
    """Return the page's lines, oldest first; of `actions` those of its time."""
    known = {operator_id(action.operator): action.operator for action in actions}
    if page.owner is not None:
        known[page.owner] = "the owner"
    others = [each for each in page.others if page.covers(each.created_at)]
    found = [
        *(_happened(step, known) for step in page.steps),
        *(
            _became(each)
            for deliveries in (*(step.deliveries for step in page.steps), others)
            for each in deliveries
        ),
        *(_acted(action) for action in actions if page.covers(action.at)),
    ]
    return sorted(found, key=lambda entry: entry.at)


_TITLES = {
    "order.created": "Order created",
    "order.approved": "Order approved",
    "order.deleted": "Order deleted",
}


def _happened(step: Step, known: dict[UUID, str]) -> TimelineRow:
    changed_by, kind = step.changed_by, step.actor_kind
    who = "the service" if changed_by is None else str(changed_by)
    if kind in ("shop", "internal"):
        who = f"{kind} {who}"
    elif changed_by is not None:
        who = known.get(changed_by, who)
    told = ", ".join(step.forgotten)
    return TimelineRow(
        at=step.at,
        kind="history",
        title=_TITLES.get(step.kind) or " ".join(_item_words(step)),
        who=who,
        request_id=step.request_id,
        details=f"Of its event to {told} nothing is kept any more." if told else "",
    )


def _item_words(step: Step) -> Iterator[str]:
    yield f"Item {step.item}"
    to = status_label(step.to_status)
    if step.kind == "item.created":
        yield f"created, {to}"
        return
    if step.kind == "item.changed":
        yield f"changed, quantity {step.from_quantity} to {step.to_quantity}"
        return
    yield "removed," if step.kind == "item.removed" else "moved,"
    yield f"{status_label(step.from_status)} to {to}"


_WORDS = {"sent": "sent", "held": "held, in doubt", "pending": "waits"}


def _became(one: EventRow) -> TimelineRow:
    if one.place == "dead":
        return TimelineRow(
            at=one.created_at,
            kind="dead",
            title=f"Dead letter {one.id}, {one.settled_as or 'open'}",
            details=one.reason or "",
            link=f"letters/{one.id}/",
        )
    what = "Analytics" if one.destination == ANALYTICS else f"Event {one.event_type}"
    said = [f"{one.attempts or 0} attempt{'' if one.attempts == 1 else 's'}"]
    said += [f"{one.doubts} in doubt"] if one.doubts else []
    said += ["an operator's resend"] if one.is_resend else []
    said += [one.reason] if one.reason else []
    return TimelineRow(
        at=one.sent_at or one.created_at,
        kind=one.place,
        title=f"{what} to {one.destination}: {_WORDS[one.place]}",
        details="; ".join(said),
        link=f"events/{one.order_id}/{one.event_id}/",
    )


def _acted(action: RecordedAction) -> TimelineRow:
    return TimelineRow(
        at=action.at,
        kind="action",
        title=f"Operator: {action.action}, {action.outcome}",
        who=action.operator,
        request_id=action.request_id,
        details=action.reason,
        link=f"actions/{action.id}/",
    )
