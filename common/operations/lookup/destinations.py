"""Each destination of events: what waits for it and why, and who serves it.

The reasons are those that the events know, so they show at once; who serves it is what
the relays report.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from msgspec import Struct, structs

from common.domain.events import ANALYTICS
from common.messaging.destination import Report
from common.messaging.event_rows import waiting

MAX_COUNTED = 100_000
MAX_CAUSES = 5  # of a destination
# A scheduler's relay passes each minute, and may wait 80 seconds for analytics.
SERVED_SECONDS = 180


class Cause(Struct, frozen=True):
    """Why events of a destination wait: how many, when last, and when next."""

    destination: str
    reason: str
    events: int
    failed_at: datetime | None
    next_try_at: datetime | None


class Finding(Struct, frozen=True):
    """A problem in words, and what to do about it with `orderctl`."""

    text: str
    remedy: str

    @property
    def sentence(self) -> str:
        """Return both in one line."""
        return f"{self.text}; {self.remedy}"


class Backlog(Struct, frozen=True):
    """A destination, and its pending events, counted to 100,000.

    `since` is when the oldest was recorded, now where none waits. `causes` are the most
    frequent reasons why some wait; `last_error` is the newest one. `is_served`: a relay
    has reported a pass lately.
    """

    destination: str
    pending: int
    since: datetime
    seconds: int
    causes: list[Cause] = []
    last_error: str | None = None
    failed_at: datetime | None = None
    next_try_at: datetime | None = None
    served_by: str | None = None
    served_at: datetime | None = None
    is_served: bool = False


# Of the rows of `sample`, the most frequent reasons of each destination.
CAUSES = f"""(SELECT coalesce(json_agg(c), '[]') FROM (
    SELECT destination, reason, events, failed_at, next_try_at FROM (
      SELECT destination, reason, count(*) AS events, max(failed_at) AS failed_at,
        min(available_at) FILTER (WHERE isfinite(available_at)) AS next_try_at,
        row_number() OVER (PARTITION BY destination
          ORDER BY count(*) DESC, reason) AS place
      FROM sample WHERE reason IS NOT NULL AND held_since IS NULL
      GROUP BY destination, reason) AS reasons
    WHERE place <= {MAX_CAUSES} ORDER BY destination, place) AS c)"""  # noqa: S608 fragments of our own


def backlog(age: str, since: str) -> str:
    """Return the SQL of all `destinations` with what waits for each, as JSON."""
    return f"""(SELECT coalesce(json_agg(json_build_object('destination', d.name,
     'pending', o.pending, {age.format(since="o.created_at")}) ORDER BY d.name), '[]')
   FROM destinations d CROSS JOIN LATERAL (
     -- A resend keeps the event's first time, which says nothing about its wait.
     SELECT least(count(*), {MAX_COUNTED}) AS pending,
       coalesce(min(created_at) FILTER (WHERE NOT is_resend), now()) AS created_at
     FROM ({waiting("x.created_at, x.is_resend", MAX_COUNTED, since)}) x) o)"""  # noqa: S608 fragments of our own


def join(
    found: Iterable[Backlog], causes: Iterable[Cause], reports: Mapping[str, Report]
) -> list[Backlog]:
    """Return each destination that events wait for, or that is served, by its name."""
    causes = list(causes)
    known = {each.destination: each for each in found}
    joined = []
    for name in sorted(known.keys() | reports.keys()):
        report = reports.get(name)
        each = known.get(name) or _idle(name, reports[name])
        if each.pending or report:
            own = [cause for cause in causes if cause.destination == name]
            joined.append(_joined(each, own, report))
    return joined


def _idle(name: str, report: Report) -> Backlog:
    return Backlog(name, 0, report.served_at, 0)


def _joined(each: Backlog, causes: list[Cause], report: Report | None) -> Backlog:
    errors = [(cause.failed_at, cause.reason) for cause in causes]
    if report and report.last_error:
        errors.append((report.failed_at, report.last_error))
    dated = sorted((at, reason) for at, reason in errors if at)
    failed_at, error = dated[-1] if dated else next(iter(errors), (None, None))
    tries = [cause.next_try_at for cause in causes if cause.next_try_at]
    tries = tries and [min(tries)]
    if report and report.next_try_at:
        tries.append(report.next_try_at)
    next_try_at = max(tries) if tries and error else None
    if next_try_at and next_try_at < datetime.now(UTC):
        next_try_at = None  # it is due, and is tried once somebody does
    return structs.replace(
        each,
        causes=causes,
        last_error=error,
        failed_at=failed_at,
        next_try_at=next_try_at,
        served_by=report and report.served_by,
        served_at=report and report.served_at,
        is_served=report is not None and report.seconds <= SERVED_SECONDS,
    )


def findings(backlogs: Iterable[Backlog], grace_seconds: int) -> list[Finding]:
    """Return a finding for each destination whose events wait for a known reason.

    Without an error, events may wait for `grace_seconds`.
    """
    return [
        Finding(_describe(each), _remedy(each))
        for each in backlogs
        if each.pending and (each.causes or each.seconds > grace_seconds)
    ]


def _describe(each: Backlog) -> str:
    number = f"{each.pending}{' or more' if each.pending >= MAX_COUNTED else ''}"
    parts = [f"{each.destination}: {number} pending, the oldest for {each.seconds} s"]
    if each.last_error is not None:
        at = f" at {each.failed_at:%H:%M:%S}" if each.failed_at else ""
        parts.append(f"last error{at}: {each.last_error}")
    if each.next_try_at is not None:
        parts.append(f"next try at {each.next_try_at:%H:%M:%S}")
    return ", ".join([*parts, _server(each)])


def _server(each: Backlog) -> str:
    if each.is_served:
        return f"served by {each.served_by}"
    if each.served_at is None:
        return "no relay has ever served it"
    return f"no relay has served it since {each.served_at:%Y-%m-%d %H:%M:%S}"


def _remedy(each: Backlog) -> str:
    if each.last_error is not None:
        return f"events list --failed --destination {each.destination}"
    setting = "ANALYTIC_SERVICE" if each.destination == ANALYTICS else "EVENT_BUS"
    if not each.is_served:
        return f"is a relay running, and does its {setting} name it?"
    return f"events list --destination {each.destination}"
