from tests.support.service import Service


def test_a_cart_becomes_an_order_that_is_shipped_delivered_and_approved(
    service: Service, user: str
) -> None:
    order = service.ordered(user, 2, 1)
    first, second = (item["id"] for item in order["items"])
    assert service.move(first, 2).status_code == 200
    assert service.move(first, 3).status_code == 200
    assert service.move(second, 4).status_code == 200
    assert service.trigger_approval(order["id"]).status_code == 204
    found = service.crud("GET", f"/api/orders/{order['id']}/", user).get_json()
    assert found["is_approved"] is True
    [heard] = service.sandbox.completed_orders
    assert [item["id"] for item in heard["items"]] == [str(first)]
