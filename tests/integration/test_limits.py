"""Requests of a user counted in PostgreSQL: one row each, and nobody waits for another.

Lives here: the statement, its locks, old counts. Not here: what callers see
(`tests/functions/test_limits_users.py`).
"""

import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from common import limits, retention
from common.db import Engine
from common.errors import BusyError, TooManyRequestsError
from common.limits import Limits
from common.prepared import LOCK_TIMEOUT_SECONDS
from tests.support.database import connect, execute
from tests.support.relaying import engine_on

USER, OTHER = UUID(int=1), UUID(int=2)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    with engine_on(database_url, pool_size=8) as made:
        yield made


def instance(engine: Engine, per_minute: int) -> Limits:
    """Answer what an instance has that knows of nothing yet."""
    return Limits(at_a_time=None, per_minute=per_minute, engine=lambda: engine)


def ask(instance: Limits, user_id: UUID) -> bool:
    """Send a request; answer whether it was let in."""
    visit = instance.visit(user_id)
    try:
        visit.enter()
    except TooManyRequestsError:
        return False
    finally:
        visit.leave()
    return True


def rows(url: str) -> list[list[object]]:
    return execute(
        url, "SELECT CAST(user_id AS text), requests FROM user_requests ORDER BY 1"
    )


def test_of_many_requests_at_once_as_many_get_in_as_may(
    engine: Engine, database_url: str
) -> None:
    instances = [instance(engine, 50) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        users = [USER, OTHER] * 80
        each = [pool.submit(ask, instances[n % 4], u) for n, u in enumerate(users)]
        got_in = Counter(
            user_id
            for user_id, asked in zip(users, each, strict=True)
            if asked.result(60)
        )
    assert got_in == {USER: 50, OTHER: 50}
    assert rows(database_url) == [[str(USER), 51], [str(OTHER), 51]]


def test_a_user_whose_row_is_locked_makes_nobody_else_wait(
    engine: Engine, database_url: str
) -> None:
    """And waits a bounded time, to be told that the service is busy."""
    counter = instance(engine, 100)
    assert ask(counter, USER)
    holder = connect(database_url)
    holder.run("BEGIN")
    holder.run("SELECT FROM user_requests FOR UPDATE")  # that user's alone
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        stuck = pool.submit(ask, counter, USER)
        assert all(ask(counter, uuid.uuid4()) for _ in range(50))
        assert ask(counter, OTHER)
        assert not stuck.done()
        with pytest.raises(BusyError):
            stuck.result(60)
        assert time.monotonic() - began >= LOCK_TIMEOUT_SECONDS
    holder.close()
    assert ask(counter, USER)


def test_a_used_up_minute_is_remembered_and_so_is_when_it_ends(
    engine: Engine, database_url: str
) -> None:
    counter = instance(engine, 1)
    assert [ask(counter, USER) for _ in range(3)] == [True, False, False]
    execute(database_url, "DELETE FROM user_requests")
    assert not ask(counter, USER)  # without asking
    assert ask(instance(engine, 1), USER)
    execute(
        database_url,
        "UPDATE user_requests SET window_ends_at = now() + interval '0.3 s'",
    )
    other = instance(engine, 1)
    assert not ask(other, USER)
    time.sleep(0.5)
    assert ask(other, USER)


def test_only_so_many_users_are_remembered(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_REMEMBERED", 3)
    counter = instance(engine, 1)
    users = [uuid.uuid4() for _ in range(10)]
    for user_id in users:
        assert [ask(counter, user_id) for _ in range(2)] == [True, False]
        assert len(counter._used_up_until) <= 3
    assert not any(ask(counter, user_id) for user_id in users)


def test_counts_of_minutes_that_are_over_go_and_others_stay(
    engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    execute(
        database_url,
        "INSERT INTO user_requests SELECT gen_random_uuid(), n,"
        " now() + make_interval(secs => n - 10.5) FROM generate_series(1, 12) n",
    )
    assert retention.purge(engine, 30).windows == 10
    left = execute(database_url, "SELECT requests FROM user_requests ORDER BY 1")
    assert left == [[11], [12]]


def test_who_is_being_counted_is_not_purged_nor_kept_waiting_for(
    engine: Engine, database_url: str
) -> None:
    execute(
        database_url,
        "INSERT INTO user_requests SELECT gen_random_uuid(), n, now() - interval '1 h'"
        " FROM generate_series(1, 3) n",
    )
    holder = connect(database_url)
    holder.run("BEGIN")
    holder.run("UPDATE user_requests SET requests = 9 WHERE requests = 2")
    assert retention.purge(engine, 30).windows == 2
    holder.run("COMMIT")
    holder.close()
    assert execute(database_url, "SELECT requests FROM user_requests") == [[9]]


def test_a_crash_may_empty_it_and_no_count_waits_for_a_disk(database_url: str) -> None:
    kind = "SELECT relpersistence FROM pg_class WHERE relname = 'user_requests'"
    assert execute(database_url, kind) == [["u"]]


# Requests at a time; no database.


def nobody() -> Engine:
    raise AssertionError("nothing is counted")


def test_a_request_that_ends_without_a_word_gives_its_place_back() -> None:
    """Its thread may be ended from outside, in the middle of anything."""
    places = Limits(at_a_time=1, per_minute=None, engine=nobody)
    visit = places.visit(USER)
    visit.enter()
    assert not ask(places, USER)
    assert ask(places, OTHER)
    del visit
    assert ask(places, USER)


def test_leaving_twice_gives_one_place_back() -> None:
    places = Limits(at_a_time=2, per_minute=None, engine=nobody)
    first, second = places.visit(USER), places.visit(USER)
    first.enter()
    second.enter()
    first.leave()
    first.leave()
    third = places.visit(USER)
    third.enter()
    assert not ask(places, USER)
    second.leave()
    third.leave()
    assert places._inside == {}
