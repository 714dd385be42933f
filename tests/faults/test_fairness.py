"""One user hammers an instance with the worst there is; another notices nothing.

Lives here: two instances of a function side by side, one that limits what a user has at
a time and one that does not, under the same hammering. Not here: how many requests a
user gets in a minute (`tests/functions/test_limits_users.py`). Surprise: what is
compared is how much the other user got done in the same seconds, on the same machine.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from common.admission import MAX_BODY_BYTES, QUEUE_SECONDS
from tests.support.database import connect
from tests.support.hammering import Ask, Client, Told, hammering, orders_user, using
from tests.support.service import Service, new_user
from tests.support.serving import environment, served
from tests.support.shared import shared_service

SECONDS = 2.0
SLOW_SECONDS = 3.0
TIMES = 5  # so many times as much does who is protected get done
LIMITED = {"THREADS": "8", "WORKERS": "1", "USER_CONCURRENCY": "4"}
UNLIMITED = {"THREADS": "8", "WORKERS": "1"}
ORDERS, CHECKOUT = "/api/orders/", "/api/orders-from-shopcart/"
User = Callable[[Client], Iterator[Told]]


@dataclass
class Platform:
    """The service's database and siblings, and instances of its functions."""

    service: Service
    stack: contextlib.ExitStack
    urls: dict[str, tuple[str, str]] = field(default_factory=dict)

    def instances(self, function: str) -> tuple[str, str]:
        """Answer the addresses of an instance with the limit, and of one without."""
        if function not in self.urls:
            limited, unlimited = (
                self.stack.enter_context(
                    served(function, environment(**self.service.environ) | settings)
                )
                for settings in (LIMITED, UNLIMITED)
            )
            self.urls[function] = limited, unlimited
        return self.urls[function]


@pytest.fixture(scope="module")
def platform(postgres_url: str, template_database: str) -> Iterator[Platform]:
    with (
        shared_service(postgres_url, template_database) as service,
        contextlib.ExitStack() as stack,
    ):
        yield Platform(service, stack)


def both(
    platform: Platform, function: str, ask: Ask, user: Callable[[], User]
) -> tuple[list[Told], list[Told]]:
    """Answer what another user was told by either instance, while both are hammered."""
    limited, unlimited = platform.instances(function)
    with (
        hammering(limited, ask) as refusals,
        hammering(unlimited, ask) as others,
        ThreadPoolExecutor(2) as users,
    ):
        using(limited, user(), 0.5)  # until all is as it will be
        each = [users.submit(using, u, user(), SECONDS) for u in (limited, unlimited)]
        told, told_without = (done.result() for done in each)
    assert refusals[429] > 0
    assert 429 not in others
    assert all(each.status in (200, 201, 204) for each in told), summary(told)
    return told, told_without


def summary(told: list[Told]) -> str:
    said = [(t.ask.method, t.ask.path, t.status, round(t.seconds, 2)) for t in told]
    return f"{len(told)} answers, the slowest {sorted(said, key=lambda s: -s[3])[:5]}"


# Requests that wait for something, and keep a thread meanwhile.


Waiting = Callable[[Platform], "contextlib.AbstractContextManager[tuple[str, Ask]]"]


@contextlib.contextmanager
def slow_checkouts(platform: Platform) -> Iterator[tuple[str, Ask]]:
    user, sandbox = new_user(), platform.service.sandbox
    article = sandbox.add_article(amount=1000)
    sandbox.add_to_cart(user, article)
    sandbox.fault("product", delay_seconds=SLOW_SECONDS, path=article)
    yield "create_order_from_cart", Ask("POST", CHECKOUT, user)
    sandbox.mend("product")


@contextlib.contextmanager
def a_key_that_is_being_taken(platform: Platform) -> Iterator[tuple[str, Ask]]:
    user = new_user()
    holder = connect(platform.service.environ["DATABASE_URL"])
    holder.run("BEGIN")
    holder.run(
        "INSERT INTO idempotency_records"
        " (user_id, scope, key, fingerprint, status, headers, body)"
        f" VALUES ('{user}', 'key', 'k', 'f', 201, '{{}}', '')"
    )
    key = {"Idempotency-Key": "k"}
    yield "orders_crud", Ask("POST", ORDERS, user, b"{}", key)
    holder.close()


@contextlib.contextmanager
def an_order_that_is_being_changed(platform: Platform) -> Iterator[tuple[str, Ask]]:
    user = new_user()
    made = platform.service.crud("POST", ORDERS, user, json={})
    holder = connect(platform.service.environ["DATABASE_URL"])
    holder.run("BEGIN")
    holder.run(f"SELECT FROM orders WHERE id = {made.get_json()['id']} FOR UPDATE")
    body = b'{"metadata": {"a": "b"}}'
    yield "orders_crud", Ask("PATCH", made.headers["Location"], user, body)
    holder.close()


@contextlib.contextmanager
def bodies_that_do_not_arrive(platform: Platform) -> Iterator[tuple[str, Ask]]:
    del platform
    yield (
        "orders_crud",
        Ask("POST", ORDERS, new_user(), b"{", {"Content-Length": "1000"}),
    )


@pytest.mark.parametrize(
    "waiting",
    [
        slow_checkouts,
        a_key_that_is_being_taken,
        an_order_that_is_being_changed,
        bodies_that_do_not_arrive,
    ],
    ids=lambda waiting: waiting.__name__,
)
def test_who_waits_keeps_no_thread_that_another_user_needs(
    platform: Platform, waiting: Waiting
) -> None:
    def buyer() -> User:
        user, sandbox = new_user(), platform.service.sandbox
        article = sandbox.add_article(amount=100_000)

        def use(client: Client) -> Iterator[Told]:
            sandbox.add_to_cart(user, article)
            yield client.send(Ask("POST", CHECKOUT, user))

        return use

    with waiting(platform) as (function, ask):
        user = buyer if function != "orders_crud" else lambda: orders_user(new_user())
        told, told_without = both(platform, function, ask, user)
    assert len(told) >= TIMES * len(told_without), (
        f"with the limit {summary(told)}; without {summary(told_without)}"
    )


# Requests that keep the processor, or the database, at work.


@contextlib.contextmanager
def pages_that_leave_out_all(platform: Platform) -> Iterator[tuple[str, Ask]]:
    user = new_user()
    platform.service.rows(
        "WITH made AS (INSERT INTO orders (user_id) SELECT CAST(:user_id AS uuid)"
        " FROM generate_series(1, 300) RETURNING id, user_id)"
        " INSERT INTO order_items"
        " (order_id, user_id, quantity, product_variation, price)"
        " SELECT id, user_id, 1, gen_random_uuid(), 1 FROM made, generate_series(1, 50)"
        " RETURNING id",
        user_id=user,
    )
    yield "orders_crud", Ask("GET", f"/api/order-items/?shop_id={new_user()}", user)


@contextlib.contextmanager
def bodies_full_of_keys(platform: Platform) -> Iterator[tuple[str, Ask]]:
    user = new_user()
    made = platform.service.crud("POST", ORDERS, user, json={})
    body = json.dumps({"metadata": {str(n): "1" for n in range(70_000)}}).encode()
    assert MAX_BODY_BYTES * 0.8 < len(body) < MAX_BODY_BYTES
    yield "orders_crud", Ask("PATCH", made.headers["Location"], user, body)


@pytest.mark.parametrize(
    "working",
    [pages_that_leave_out_all, bodies_full_of_keys],
    ids=lambda working: working.__name__,
)
def test_who_keeps_an_instance_at_work_leaves_others_their_turn(
    platform: Platform, working: Waiting
) -> None:
    with working(platform) as (function, ask):
        told, told_without = both(
            platform, function, ask, lambda: orders_user(new_user())
        )
    shown = f"with the limit {summary(told)}; without {summary(told_without)}"
    print(f"\n{shown}")  # noqa: T201 with pytest -rP
    assert max(each.seconds for each in told) < QUEUE_SECONDS, shown
