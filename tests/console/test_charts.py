"""Charts over time: pending events, and how long events took."""

import re
import uuid

from tests.support.console import Console
from tests.support.service import Service


def last(console: Console, name: str) -> list[int]:
    """Return the numbers of a chart's last bars: those of this hour, or day."""
    text = console.get(f"charts/{name}/").get_data(as_text=True)
    rows = re.findall(r'<tr><th scope="row">[^<]+</th>(.*?)</tr>', text)
    return [int(n) for n in re.findall(r"<td>(-?\d+)</td>", rows[-1])]


def test_pending_events_are_counted_until_they_are_sent(
    service: Service, console: Console
) -> None:
    service.has_made_up_events = True
    [before] = last(console, "backlog-hours")
    kind = f"test.{uuid.uuid4()}"
    service.rows(
        "INSERT INTO outbox (destination, order_id, event_id, event_type, body,"
        " available_at) SELECT 'nowhere', n, gen_random_uuid(), :type, '{}',"
        " now() + interval '1 day' FROM generate_series(1, 5) n RETURNING id",
        type=kind,
    )
    assert last(console, "backlog-hours") == [before + 5]
    assert last(console, "backlog-days") == [before + 5]
    service.rows(
        "WITH gone AS (DELETE FROM outbox WHERE event_type = :type RETURNING *)"
        " INSERT INTO sent_events (id, destination, order_id, event_id, event_type,"
        " body, sent_at) SELECT id, destination, order_id, event_id, event_type, body,"
        " now() FROM gone RETURNING id",
        type=kind,
    )
    assert last(console, "backlog-hours") == [before]


def test_latency_is_from_recording_to_confirmation(
    service: Service, console: Console
) -> None:
    service.has_made_up_events = True
    service.rows(
        "INSERT INTO sent_events (id, destination, order_id, event_id, event_type,"
        " body, created_at, sent_at) SELECT 1000000 + n, 'nowhere', n,"
        " gen_random_uuid(), 'x', '{}', now() - interval '7 seconds', now()"
        " FROM generate_series(1, 1000) n RETURNING id"
    )
    half, most = last(console, "latency-hours")
    assert half == most == 7000
