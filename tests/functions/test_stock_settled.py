"""Holds of stock end also where nobody buys: the sweep reads the amounts."""

import pytest

from common.operations.diagnosis import GRACE_SECONDS
from common.store.holds import CAP_SECONDS, LONGEST_SECONDS
from tests.support.console import Console
from tests.support.orderctl import orderctl
from tests.support.service import Service, new_user


def age(service: Service, column: str, seconds: float) -> None:
    """Make every hold's time one that was so long ago."""
    service.rows(
        f"UPDATE stock_holds SET {column} = now() - make_interval(secs =>"
        f" CAST(:seconds AS float8)) WHERE {column} IS NOT NULL",
        seconds=seconds,
    )


def holds(service: Service) -> list[bool]:
    """Return of each hold whether its sign was seen."""
    found = service.rows("SELECT seen_at IS NOT NULL AS seen FROM stock_holds")
    return [row["seen"] for row in found]


def sold_out(service: Service) -> str:
    """Return a variation of which an order has taken all five; its event is sent."""
    variation = service.sandbox.add_article(amount=5)
    buy(service, variation)
    age(service, "confirmed_at", GRACE_SECONDS + 1)
    return variation


def buy(service: Service, variation: str) -> int:
    user = new_user()
    service.sandbox.add_to_cart(user, variation, 5)
    return service.checkout(user).status_code


def lower(service: Service, variation: str, amount: int = 0) -> None:
    service.sandbox.deliver()
    service.sandbox.wait_until(lambda: service.sandbox.stock(variation) == amount)


def test_a_lowered_stock_ends_holds_so_that_a_restock_can_be_bought(
    service: Service,
) -> None:
    variation = sold_out(service)
    lower(service, variation)
    assert service.sweep()["settled_variations"] == 1
    assert holds(service) == [True]
    service.sandbox.restock(variation, 5)
    assert buy(service, variation) == 201


def test_a_hold_that_was_seen_is_deleted_once_nobody_can_have_read_before(
    service: Service,
) -> None:
    variation = sold_out(service)
    lower(service, variation)
    service.sweep()
    assert service.sweep()["settled_variations"] == 0
    age(service, "seen_at", LONGEST_SECONDS + 1)
    service.sweep()
    assert holds(service) == []


@pytest.mark.parametrize("setting", [{}, {"PRODUCT_SERVICE": None}])
def test_a_hold_without_a_sign_stays_until_its_cap(
    service: Service, setting: dict[str, None]
) -> None:
    sold_out(service)
    service.set(**setting)
    service.sweep()
    assert holds(service) == [False]
    age(service, "confirmed_at", CAP_SECONDS + 1)
    service.sweep()
    assert holds(service) == []


def test_a_product_service_that_cannot_be_read_ends_nothing(service: Service) -> None:
    lower(service, sold_out(service))
    service.sandbox.fault("product", status=503)
    service.sweep()
    assert holds(service) == [False]
    service.sandbox.mend()
    service.sweep()
    assert holds(service) == [True]


def test_doctor_and_the_console_name_stock_that_is_not_lowered(
    service: Service,
) -> None:
    variation = sold_out(service)
    service.sweep()
    said = orderctl(service.environ["DATABASE_URL"], "doctor", "--json")
    [hold] = said.json["overdue_holds"]
    assert (hold["product_variation"], hold["quantity"]) == (variation, 5)
    [complaint] = said.json["complaints"]
    assert "stock" in complaint
    assert said.status == 1
    assert variation in Console(service).text("")
    lower(service, variation)
    service.sweep()
    said = orderctl(service.environ["DATABASE_URL"], "doctor", "--json")
    assert said.json["overdue_holds"] == []


def test_what_a_relay_of_an_earlier_release_has_sent_is_confirmed(
    service: Service,
) -> None:
    sold_out(service)
    service.rows("UPDATE stock_holds SET confirmed_at = NULL, unsent = 1")
    service.sweep()
    [hold] = service.rows("SELECT confirmed_at, unsent FROM stock_holds")
    assert hold["confirmed_at"] is not None
    assert hold["unsent"] == 0


def test_an_event_that_is_pending_or_a_dead_letter_confirms_nothing(
    service: Service,
) -> None:
    service.set(EVENT_SINK_URL="http://sink.invalid")
    variation = service.sandbox.add_article(amount=5)
    buy(service, variation)
    service.restart()
    service.sweep()
    [hold] = service.rows("SELECT confirmed_at FROM stock_holds")
    assert hold["confirmed_at"] is None
    service.rows(
        "WITH gone AS (DELETE FROM outbox WHERE event_type = 'order.created'"
        " RETURNING *) INSERT INTO dead_letters (source, reason, destination,"
        " order_id, event_id, event_type, body) SELECT 'outbox', 'no', destination,"
        " order_id, event_id, event_type, convert_to(body, 'UTF8') FROM gone"
    )
    service.sweep()
    [hold] = service.rows("SELECT confirmed_at FROM stock_holds")
    assert hold["confirmed_at"] is None


def test_as_many_as_have_ended_are_deleted_in_one_sweep(service: Service) -> None:
    """However few variations a sweep looks at."""
    for _ in range(3):
        sold_out(service)
    service.rows(
        "INSERT INTO stock_holds (order_id, item_id, event_id, product_variation,"
        " quantity, expected, unsent, confirmed_at) SELECT 1, 1, gen_random_uuid(),"
        " gen_random_uuid(), 1, 0, 0, now() - interval '1 day'"
        " FROM generate_series(1, 300)"
    )
    service.sweep()
    assert holds(service) == [False] * 3
