"""One order's timeline in words, for operators.

A published event is listed at the time it was confirmed, a pending one at the time it
was recorded.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from common.console.access import operator_id
from common.console.catalogue import title_of
from common.domain.events import ANALYTICS
from common.domain.model import status_label
from common.messaging.event_rows import EventRow
from common.operations.lookup.actions import RecordedAction
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
    """Return the page's rows, oldest first, with the `actions` of its time span."""
    names = {operator_id(action.operator): action.operator for action in actions}
    if page.owner is not None:
        names[page.owner] = "the owner"
    events = [event for step in page.steps for event in step.deliveries]
    events += [event for event in page.others if page.covers(event.created_at)]
    rows = [
        *(_step(step, names) for step in page.steps),
        *(_event(event) for event in events),
        *(_action(action) for action in actions if page.covers(action.at)),
    ]
    return sorted(rows, key=lambda row: row.at)


_TITLES = {
    "order.created": "Order created",
    "order.approved": "Order approved",
    "order.deleted": "Order deleted",
}


def _step(step: Step, names: dict[UUID, str]) -> TimelineRow:
    changed_by, kind = step.changed_by, step.actor_kind
    who = "the service" if changed_by is None else str(changed_by)
    if kind in ("shop", "internal"):
        who = f"{kind} {who}"
    elif changed_by is not None:
        who = names.get(changed_by, who)
    destinations = ", ".join(step.forgotten)
    return TimelineRow(
        at=step.at,
        kind="history",
        title=_TITLES.get(step.kind) or " ".join(_item_words(step)),
        who=who,
        request_id=step.request_id,
        details=f"Its event to {destinations} is no longer stored."
        if destinations
        else "",
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
    if step.kind == "item.taken":
        yield f"taken from stock, quantity {step.to_quantity}"
        return
    yield "removed," if step.kind == "item.removed" else "changed,"
    yield f"{status_label(step.from_status)} to {to}"


_STATES = {"sent": "sent", "held": "held, in doubt", "pending": "pending"}


def _event(row: EventRow) -> TimelineRow:
    if row.place == "dead":
        return TimelineRow(
            at=row.created_at,
            kind="dead",
            title=f"Dead letter {row.id}, {row.settled_as or 'open'}",
            details=row.reason or "",
            link=f"letters/{row.id}/",
        )
    what = "Analytics" if row.destination == ANALYTICS else f"Event {row.event_type}"
    details = [f"{row.attempts or 0} attempt{'' if row.attempts == 1 else 's'}"]
    details += [f"{row.doubts} in doubt"] if row.doubts else []
    details += ["an operator's resend"] if row.is_resend else []
    details += [row.reason] if row.reason else []
    return TimelineRow(
        at=row.sent_at or row.created_at,
        kind=row.place,
        title=f"{what} to {row.destination}: {_STATES[row.place]}",
        details="; ".join(details),
        link=f"events/{row.order_id}/{row.event_id}/",
    )


def _action(action: RecordedAction) -> TimelineRow:
    return TimelineRow(
        at=action.at,
        kind="action",
        title=f"Operator: {title_of(action)}: {action.outcome}",
        who=action.operator,
        request_id=action.request_id,
        details=action.reason,
        link=f"actions/{action.id}/",
    )
