"""A repair that may have changed the cart is the answer to its Idempotency-Key."""

from typing import Any

import pytest

from infra.local.sandbox import catalogue
from tests.support.observed import captured
from tests.support.service import Service


@pytest.mark.parametrize(
    "fault",
    [
        {"hang_up": True, "after_work": True},
        {"hang_up": True},
        {"delay_seconds": 3},
        {"status": 500, "after_work": True},
        {"status": 200, "body": "<html>Bad Gateway</html>", "after_work": True},
        {"status": 404, "body": "<html>Not Found</html>"},
    ],
    ids=str,
)
def test_repair_that_may_have_happened_is_answer_to_its_key(
    service: Service, user: str, fault: dict[str, Any]
) -> None:
    service.set(UPSTREAM_DEADLINE_SECONDS="1.5")
    service.sandbox.add_to_cart(user, catalogue.MUG)
    service.sandbox.add_to_cart(user, catalogue.RUG)
    service.sandbox.fault("shopcart", method="DELETE", **fault)
    first = service.checkout(user, Idempotency_Key="k")
    assert (first.status_code, first.get_json()["items_fixed"]) == (409, 0)
    assert "Rug" in first.get_json()["message"]
    service.sandbox.mend()
    service.sandbox.forget_calls()

    second = service.checkout(user, Idempotency_Key="k")

    assert (second.status_code, second.get_data()) == (409, first.get_data())
    assert second.headers["Idempotency-Replayed"] == "true"
    assert service.sandbox.calls_to("shopcart") == []
    assert service.rows("SELECT 1 FROM orders") == []


def test_repair_by_another_way_is_answer_to_its_key(
    service: Service, user: str
) -> None:
    scarce = service.sandbox.add_article(amount=1)
    service.sandbox.add_to_cart(user, scarce, 2)
    service.sandbox.add_to_cart(user, catalogue.MUG)
    service.sandbox.fault("shopcart", method="PUT", status=400, times=1)
    service.sandbox.fault("shopcart", method="PUT", hang_up=True, after_work=True)
    service.sandbox.fault("shopcart", method="DELETE", status=400)
    first = service.checkout(user, Idempotency_Key="k")
    assert (first.status_code, first.get_json()["items_fixed"]) == (409, 0)
    service.sandbox.mend()
    again = service.checkout(user, Idempotency_Key="k")
    assert (again.status_code, again.get_data()) == (409, first.get_data())


def test_repair_is_said_although_it_cannot_be_stored(
    service: Service, user: str
) -> None:
    """The caller has seen it then, so the same key may order what is left."""
    service.sandbox.add_to_cart(user, catalogue.MUG)
    service.sandbox.add_to_cart(user, catalogue.RUG)
    service.rows(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$"
    )
    service.rows(
        "CREATE TRIGGER refuse BEFORE INSERT ON idempotency_records"
        " FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    with captured() as log:
        first = service.checkout(user, Idempotency_Key="k")
    service.rows("DROP TRIGGER refuse ON idempotency_records")
    assert (first.status_code, first.get_json()["items_fixed"]) == (409, 1)
    [line] = [line for line in log if line["logger"] == "orders.checkout"]
    assert (line["severity"], "not stored" in line["message"]) == ("WARNING", True)
    second = service.checkout(user, Idempotency_Key="k")
    assert second.status_code == 201
    assert len(second.get_json()["order"]["items"]) == 1
