"""What requests cost in round trips to the database, counted on the wire.

One caller at a time uses one connection, so its turns are the request's.
"""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import event

from common import wiring
from common.messaging import relay
from infra.local.sandbox import catalogue
from tests.support.documented import path_of, reads_of_one
from tests.support.proxy import Proxy, proxy
from tests.support.service import Service, new_user

# What each takes today. It may become less.
CHECKOUT = 2  # look up keys and draw ids, write; a header's key takes no more
SENDING = 1  # record results; the write has claimed its events
CLAIM = 1  # where it has not

Sizes = pytest.mark.parametrize("lines", [1, 20, 50])


@pytest.fixture
def link(database_url: str) -> Iterator[Proxy]:
    """The connection to the database."""
    with proxy(database_url) as running:
        yield running


@pytest.fixture
def service(service: Service, link: Proxy, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service that has served before: statements prepared, siblings connected.

    A request has time to send all of its events itself, however busy the machine is.
    """
    monkeypatch.setattr(relay, "PUBLISH_TIMEOUT_SECONDS", 60.0)
    service.set(DATABASE_URL=link.url)
    warm_up(service)
    return service


def warm_up(service: Service) -> None:
    for number in range(2):
        user = new_user()
        order = service.ordered(user, 1, 1)
        service.checkout(user, Idempotency_Key=f"warm-{number}")
        make_order(service, user, f"warm-{number}")
        first, second = (item["id"] for item in order["items"])
        for path in ("/api/orders/", "/api/order-items/"):
            service.crud("GET", path, user)
        for path in reads_of_one():
            service.crud("GET", path_of(path, order), user)
        service.move(first, 2)
        service.move(first, 3)
        service.move(second, 4)
        service.trigger_approval(order["id"])


def make_order(service: Service, user: str, key: str | None) -> int:
    headers = {"Idempotency-Key": key} if key else {}
    body = {"items": [{"product_variation": catalogue.MUG}]}
    response = service.crud("POST", "/api/orders/", user, json=body, headers=headers)
    return response.status_code


def cost(link: Proxy, request: Callable[[], object]) -> int:
    """Return how many round trips the request takes, on warm connections only."""
    link.count_anew()
    request()
    assert link.attempts == 0
    return len(link.turns)


@Sizes
@pytest.mark.parametrize("key", [None, "k"])
def test_checkout_takes_the_same_however_many_lines(
    service: Service, link: Proxy, lines: int, key: str | None
) -> None:
    user = new_user()
    service.fill_cart(user, lines)
    named = {"Idempotency_Key": key} if key else {}
    service.sandbox.forget_calls()

    total = cost(link, lambda: service.checkout(user, **named))

    sent = service.sandbox.calls_to("sink")
    assert len(sent) == lines + 1
    written = sum(turn < sent[0].began_at for turn in link.turns)
    recorded = sum(turn > sent[-1].began_at for turn in link.turns)
    assert written <= CHECKOUT <= 2
    assert recorded <= SENDING
    assert total == written + recorded


def test_checkout_begins_after_siblings_answered(service: Service, link: Proxy) -> None:
    user = new_user()
    service.fill_cart(user, 5)
    service.sandbox.forget_calls()
    cost(link, lambda: service.checkout(user))
    last = max(call.ended_at for call in service.sandbox.calls_to("product"))
    assert [turn for turn in link.turns if turn < last] == []


def test_second_checkout_of_a_cart_takes_one(service: Service, link: Proxy) -> None:
    user = new_user()
    service.ordered(user, 1)
    assert cost(link, lambda: service.checkout(user)) <= 1


def test_replay_of_a_key_takes_one(service: Service, link: Proxy) -> None:
    user = new_user()
    service.fill_cart(user, 3)
    service.checkout(user, Idempotency_Key="k")
    assert cost(link, lambda: service.checkout(user, Idempotency_Key="k")) <= 1
    make_order(service, user, "o")
    assert cost(link, lambda: make_order(service, user, "o")) <= 1


def test_checkout_that_repairs_a_cart_takes_one(service: Service, link: Proxy) -> None:
    user = new_user()
    service.sandbox.add_to_cart(user, catalogue.RUG)
    assert cost(link, lambda: service.checkout(user)) <= 1


def test_checkout_of_no_cart_takes_none(service: Service, link: Proxy) -> None:
    assert cost(link, lambda: service.checkout(new_user())) == 0


@Sizes
def test_read_takes_one(service: Service, link: Proxy, lines: int) -> None:
    user = new_user()
    order = service.ordered(user, *[1] * lines)
    for path in (path_of(each, order) for each in reads_of_one()):
        taken = cost(link, lambda path=path: service.crud("GET", path, user))
        assert taken <= 1, path


@pytest.mark.parametrize("path", ["/api/orders/", "/api/order-items/"])
def test_page_takes_one_for_any_size(service: Service, link: Proxy, path: str) -> None:
    user = new_user()
    for _ in range(5):
        service.ordered(user, 1, 1, 1)
    assert cost(link, lambda: service.crud("GET", path, user)) <= 1


def test_later_page_takes_one(service: Service, link: Proxy) -> None:
    user = new_user()
    for _ in range(5):
        service.ordered(user, 1)
    first = service.crud("GET", "/api/orders/?limit=2", user)
    path = first.headers["Link"].partition(">")[0].removeprefix("<")
    service.crud("GET", path, user)  # prepares it
    assert cost(link, lambda: service.crud("GET", path, user)) <= 1


def test_status_change_takes_two_and_sending(service: Service, link: Proxy) -> None:
    order = service.ordered(new_user(), 1, 1)
    item_id = order["items"][0]["id"]
    assert cost(link, lambda: service.move(item_id, 2)) <= 2 + SENDING
    assert cost(link, lambda: service.move(item_id, 2)) <= 1  # the same again


def test_status_change_acquires_one_connection_and_its_sending_another(
    service: Service,
) -> None:
    order = service.ordered(new_user(), 1, 1)
    acquired: list[object] = []
    event.listen(wiring.engine(), "checkout", lambda *_: acquired.append(None))
    service.move(order["items"][0]["id"], 2)
    assert len(acquired) <= 1 + 1


def test_status_change_among_fifty_takes_no_more(service: Service, link: Proxy) -> None:
    order = service.ordered(new_user(), *[1] * 50)
    item_id = order["items"][25]["id"]
    assert cost(link, lambda: service.move(item_id, 3)) <= 2 + SENDING


def test_approval_takes_two_and_sending_one(service: Service, link: Proxy) -> None:
    order = service.ordered(new_user(), 1)
    service.move(order["items"][0]["id"], 3)
    assert cost(link, lambda: service.trigger_approval(order["id"])) <= 2 + SENDING


@pytest.mark.parametrize("key", [None, "k"])
def test_order_without_a_cart_takes_two_and_its_sending_one(
    service: Service, link: Proxy, key: str | None
) -> None:
    assert cost(link, lambda: make_order(service, new_user(), key)) <= 2 + SENDING


def test_new_item_takes_three_and_sending_one(service: Service, link: Proxy) -> None:
    user = new_user()
    order = service.ordered(user, 1)
    body = {"order": order["id"], "product_variation": catalogue.MUG}

    def add(key: str | None = None) -> int:
        headers = {"Idempotency-Key": key} if key else {}
        path = "/api/order-items/"
        made = service.crud("POST", path, user, json=body, headers=headers)
        return made.status_code

    add()  # prepares it
    assert cost(link, add) <= 3 + SENDING
    assert cost(link, lambda: add("k")) <= 3 + SENDING


def test_more_of_an_item_takes_two_and_sending(service: Service, link: Proxy) -> None:
    """The order is loaded once, although the product service is called in between."""
    user = new_user()
    item = service.ordered(user, 1)["items"][0]
    path = f"/api/order-items/{item['id']}/"

    def raise_to(quantity: int) -> int:
        body = {"quantity": quantity}
        return service.crud("PATCH", path, user, json=body).status_code

    assert raise_to(2) == 200
    assert cost(link, lambda: raise_to(3)) <= 2 + SENDING


def test_what_operators_decide_has_its_own_claim(service: Service, link: Proxy) -> None:
    service.set(ORDER_CREATED_ON_DOUBT="hold")
    warm_up(service)
    user = new_user()
    service.fill_cart(user, 5)
    total = cost(link, lambda: service.checkout(user))
    assert total <= CHECKOUT + CLAIM + SENDING


def test_what_waits_behind_an_earlier_event_is_not_claimed(service: Service) -> None:
    """An order's events go out in their order: the first one opens the way."""
    order = service.ordered(new_user(), 1)
    item_id = order["items"][0]["id"]
    service.sandbox.fault("sink", status=422, times=1)
    assert service.move(item_id, 2).status_code == 200  # refused, and backs off
    assert service.move(item_id, 3).status_code == 200
    pending = service.rows("SELECT attempts, sending_since FROM outbox ORDER BY id")
    assert [row["attempts"] for row in pending] == [1, 0]
    assert [row["sending_since"] for row in pending] == [None, None]


def test_requests_refused_at_the_door_take_none(service: Service, link: Proxy) -> None:
    bad_key = {"Idempotency_Key": ""}
    assert cost(link, lambda: service.checkout(new_user(), **bad_key)) == 0
    path = "/api/orders/?limit=0"
    assert cost(link, lambda: service.crud("GET", path, new_user())) == 0


def test_first_request_takes_no_more_than_later(service: Service, link: Proxy) -> None:
    service.ordered(new_user(), 1)  # a user's cart, and siblings that know us
    service.restart()
    service.client("create_order_from_cart").get("/health/ready")  # connects
    first, second = new_user(), new_user()
    for user in (first, second):
        service.fill_cart(user, 1)
    cold = cost(link, lambda: service.checkout(first))
    warm = cost(link, lambda: service.checkout(second))
    assert warm <= CHECKOUT + SENDING
    assert cold == warm
