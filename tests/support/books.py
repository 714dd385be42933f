"""Compare the service's records with what its destinations received.

An event may arrive once more for each time the service recorded it as in doubt; any
other repeat fails, and so does one after a later event of its order.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel

from common import wiring
from common.operations.audit import audit
from tests.support.crash.world import Heard, taken
from tests.support.rabbitmq import EXCHANGE, SIBLINGS_QUEUES
from tests.support.service import Service

WITNESS = "order_service_witness"  # hears everything, and outlives a broker's end


@dataclass(frozen=True)
class Figures:
    """What was compared; `repeated` counts every copy after the first."""

    orders: int
    events: int
    doubtful: int
    repeated: int


def declare_witness(channel: BlockingChannel) -> None:
    """Declare, empty, a queue for every event and those that siblings read."""
    channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
    for queue, key in {**SIBLINGS_QUEUES, WITNESS: "#"}.items():
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, EXCHANGE, key)
        channel.queue_purge(queue)


def compare(service: Service, channel: BlockingChannel, witness: str) -> Figures:
    """Fail where a queue misses an event, or has one too often or out of order.

    The queues of `witness` and of the siblings are empty afterwards. Nothing may be
    owed any more. The audit of the service's own must agree.
    """
    # Filled in a moment, the tables have no statistics yet: a join would go row by row.
    service.rows("ANALYZE order_history, sent_events")
    told = service.rows(
        "SELECT CAST(h.event_id AS text) AS event_id, h.order_id, s.event_type,"
        " s.doubts FROM order_history h LEFT JOIN sent_events s"
        " ON s.event_id = h.event_id AND s.destination = 'rabbitmq'"
        " WHERE 'rabbitmq' = ANY(h.destinations) ORDER BY h.id"
    )
    unsent = [row["event_id"] for row in told if row["event_type"] is None]
    assert not unsent, f"{len(unsent)} events are not known to be sent"
    heard = taken(channel, witness)
    hold(told, heard, witness)
    for queue, key in SIBLINGS_QUEUES.items():
        theirs = [row for row in told if row["event_type"] == key]
        hold(theirs, taken(channel, queue), queue)
    report = audited(service)
    return Figures(
        orders=report.orders,
        events=len(told),
        doubtful=sum(1 for row in told if row["doubts"]),
        repeated=len(heard) - len(told),
    )


def hold(told: Sequence[dict[str, Any]], heard: Sequence[Heard], queue: str) -> None:
    """Hold what came out of a queue against what went in, as the books say."""
    times = Counter(each.event_id for each in heard)
    lost = [row["event_id"] for row in told if not times[row["event_id"]]]
    assert not lost, f"{queue}: {len(lost)} of {len(told)} events were lost"
    known = {row["event_id"]: row["doubts"] for row in told}
    unknown = [event_id for event_id in times if event_id not in known]
    assert not unknown, f"{queue}: {len(unknown)} events came from nowhere"
    denied = [i for i, doubts in known.items() if times[i] > 1 + doubts]
    assert not denied, f"{queue}: {len(denied)} repeats that nobody owns up to"
    written = _by_order((row["order_id"], row["event_id"]) for row in told)
    arrived = _by_order((each.order_id, each.event_id) for each in heard)
    for order_id, event_ids in written.items():
        firsts = list(dict.fromkeys(arrived[order_id]))
        assert firsts == event_ids, f"{queue}: order {order_id} is out of order"


def _by_order(pairs: Iterable[tuple[int, str]]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for order_id, event_id in pairs:
        found[order_id].append(event_id)
    return found


def audited(service: Service) -> Any:
    """Return the audit's report; fails where it differs, or anything is owed."""
    service.client("orders_crud")
    report = audit(wiring.engine())
    assert report.found == 0, report.differences[:5]
    assert report.pending == 0
    return report


def told_of(service: Service, destination: str) -> list[dict[str, Any]]:
    """Return what was sent to a destination, with how often it was in doubt."""
    return service.rows(
        "SELECT order_id, doubts, sent_at FROM sent_events"
        " WHERE destination = :name ORDER BY id",
        name=destination,
    )
