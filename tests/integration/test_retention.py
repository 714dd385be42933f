"""Retention: what was kept long enough goes, all of it, and nothing else does."""

from typing import Any

import pytest

from common.database.engine import Engine
from common.operations import retention
from common.operations.retention import Purged
from tests.support.database import execute
from tests.support.relaying import engine_on

DAYS = 30


def sent(url: str, first: int, last: int, days: int) -> None:
    """Add events that were sent so long ago."""
    execute(
        url,
        "INSERT INTO sent_events"
        " (id, destination, order_id, event_id, event_type, body, sent_at)"
        " SELECT n, 'bus', n, gen_random_uuid(), 'order.created', '',"
        f" now() - interval '{days} days' FROM generate_series({first}, {last}) n",
    )


def keys(url: str, first: int, last: int, hours: int | None) -> None:
    """Add keys that expired so many hours ago; None: never."""
    expired = "NULL" if hours is None else f"now() - interval '{hours} hours'"
    execute(
        url,
        "INSERT INTO idempotency_records (user_id, scope, key, fingerprint, status,"
        " headers, body, expires_at) SELECT gen_random_uuid(), 'key', CAST(n AS text),"
        f" 'f', 201, '{{}}', '', {expired} FROM generate_series({first}, {last}) n",
    )


def left(url: str, table: str, column: str = "id") -> list[Any]:
    rows = execute(url, f"SELECT CAST({column} AS bigint) FROM {table} ORDER BY 1")
    return [value for (value,) in rows]


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 4)


def test_a_round_deletes_all_there_is_and_leaves_what_is_to_be_kept(
    database_url: str,
) -> None:
    sent(database_url, 1, 11, DAYS + 1)
    sent(database_url, 12, 14, DAYS - 1)
    keys(database_url, 1, 9, 1)
    keys(database_url, 10, 11, -1)
    keys(database_url, 12, 13, None)
    with engine_on(database_url) as engine:
        assert retention.purge(engine, DAYS) == Purged(keys=9, events=11)
        assert retention.purge(engine, DAYS) == Purged(keys=0, events=0)
    assert left(database_url, "sent_events") == [12, 13, 14]
    assert left(database_url, "idempotency_records", "key") == [10, 11, 12, 13]


def test_what_was_sent_late_is_passed_over(database_url: str) -> None:
    """It was recorded before others, and so is looked at before them."""
    sent(database_url, 1, 3, DAYS - 1)
    sent(database_url, 4, 11, DAYS + 1)
    sent(database_url, 12, 16, DAYS - 1)
    with engine_on(database_url) as engine:
        assert retention.purge(engine, DAYS).events == 8
    assert left(database_url, "sent_events") == [1, 2, 3, *range(12, 17)]


def test_a_round_ends_at_a_batch_of_which_nothing_is_old(database_url: str) -> None:
    """So it does not look at all that is kept, each minute."""
    sent(database_url, 1, 4, DAYS - 1)
    sent(database_url, 5, 9, DAYS + 1)
    with engine_on(database_url) as engine:
        assert retention.purge(engine, DAYS).events == 0
        late = "UPDATE sent_events SET sent_at = now() - interval '31 days'"
        execute(database_url, late)
        assert retention.purge(engine, DAYS).events == 9


def test_dead_letters_that_were_dealt_with_go_a_batch_at_a_time(
    database_url: str,
) -> None:
    """However many an operator has discarded on one day, it is no long statement."""
    execute(
        database_url,
        "INSERT INTO dead_letters (source, reason, body, settled_as, settled_at)"
        " SELECT 'outbox', 'no', '', CASE WHEN n < 8 THEN 'discarded' END,"
        " CASE WHEN n < 8 THEN now() - interval '31 days' END"
        " FROM generate_series(1, 9) n",
    )
    with engine_on(database_url) as engine:
        retention.purge(engine, DAYS)
        assert len(left(database_url, "dead_letters")) == 5
        retention.purge(engine, DAYS)
    assert left(database_url, "dead_letters") == [8, 9]


def test_two_relays_at_once_delete_each_row_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(database_url, 1, 11, DAYS + 1)
    found: list[int] = []
    purge = retention.outbox.purge

    def interrupted(*arguments: Any) -> tuple[int, int | None]:
        deleted = purge(*arguments)
        if not found:  # between the first batch and the second
            found.append(deleted[0])
            with engine_on(database_url) as other:
                found.append(_events(other))
        return deleted

    monkeypatch.setattr(retention.outbox, "purge", interrupted)
    with engine_on(database_url) as engine:
        found.append(_events(engine))
    assert found == [4, 7, 4]
    assert left(database_url, "sent_events") == []


def _events(engine: Engine) -> int:
    return retention.purge(engine, DAYS).events


def test_large_tables_are_cleaned_before_a_fifth_of_them_is_dead(
    database_url: str,
) -> None:
    """PostgreSQL's own share; of a thousand million rows that is a job of hours."""
    rows = execute(
        database_url,
        "SELECT relname, array_to_string(reloptions, ' ') FROM pg_class"
        " WHERE relname IN ('orders', 'order_items', 'order_history', 'outbox',"
        " 'sent_events', 'idempotency_records')",
    )
    assert len(rows) == 6
    for name, options in rows:
        assert "scale_factor=0.02" in str(options) or name == "outbox", name
        assert "autovacuum_" in str(options), name
