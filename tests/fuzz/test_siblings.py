"""Generated replies of siblings: an order follows from what they said, or nothing does.

An invalid reply is a 502, 503 or 504 that names its sibling, and repairs no cart.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from common.publishing.http import AnalyticsPublisher, SinkPublisher
from common.publishing.publisher import Message, Result
from tests.support import fuzzed_siblings as told
from tests.support.fuzzed_siblings import Plan, Siblings, plans, replies, siblings
from tests.support.fuzzing import SIBLINGS, Tally, batches, no_traceback, tried
from tests.support.service import Service

CHECKOUTS = (told.CART, told.VARIATION, told.PRODUCT, told.CHANGE)
ENTRANCES = ("by hand", "added", "raised")
PUBLISHERS = {"analytics": AnalyticsPublisher, "sink": SinkPublisher}
BATCHES = batches(SIBLINGS, len(CHECKOUTS) + len(ENTRANCES) + len(PUBLISHERS))
pytestmark = pytest.mark.timeout(900)

_COUNTS = """
SELECT (SELECT count(*) FROM orders WHERE user_id = CAST(:user AS uuid)) AS orders,
    (SELECT count(*) FROM order_items WHERE user_id = CAST(:user AS uuid)) AS items,
    (SELECT coalesce(sum(quantity), 0) FROM order_items
     WHERE user_id = CAST(:user AS uuid)) AS quantity
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Siblings]:
    with siblings() as running:
        yield running


@pytest.fixture(scope="module")
def shop(service: Service, server: Siblings) -> Service:
    service.set(
        SHOPCART_SERVICE=server.url,
        PRODUCT_SERVICE=server.url,
        UPSTREAM_DEADLINE_SECONDS="1",
    )
    return service


def counted(shop: Service, user: str) -> tuple[int, int, int]:
    [row] = shop.rows(_COUNTS, user=user)
    return row["orders"], row["items"], int(row["quantity"])


def outcome(plan: Plan, response: TestResponse) -> str:
    """Return what is counted; fail unless the response fits a sibling that fails."""
    status = response.status_code
    if status < 400:
        return str(status)
    body = response.get_json()
    assert response.mimetype == "application/problem+json"
    assert status < 500 or status in (502, 503, 504), body
    if status in (502, 503):
        assert plan.spoiled
        assert body["service"] == told.SERVICES[plan.spoiled]
        assert body["service"] in body["detail"]
    return f"{status} {body['type'].rpartition('/')[2]}"


@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("spoiled", CHECKOUTS)
def test_checkout_follows_from_what_siblings_said(
    shop: Service, server: Siblings, spoiled: str, batch: tuple[int, int], tally: Tally
) -> None:
    tally.kind = f"checkout: {spoiled}"

    @tried(tally.kind, *batch)
    @given(plans(spoiled))
    def attempt(plan: Plan) -> None:
        server.answer = plan.reply
        with no_traceback():
            response = shop.checkout(plan.user)
        tally.outcomes[outcome(plan, response)] += 1
        body = response.get_json()
        if response.status_code == 201:
            items = body["order"]["items"]
            quantity = sum(item["quantity"] for item in items)
            assert counted(shop, plan.user) == (1, len(items), quantity)
            check_ordered(plan, items)
        else:
            assert counted(shop, plan.user) == (0, 0, 0)
        if "details" in body:
            check_repairs(plan, body)
        else:
            assert plan.changes == []

    attempt()


def check_ordered(plan: Plan, items: list[dict[str, Any]]) -> None:
    """Fail unless the cart has these quantities, in stock and at this price."""
    cart = plan.replies["/api/mycart/"]
    assert cart.status == 200
    wanted: dict[UUID, int] = {}
    for line in cart.json["items"]:
        id_ = UUID(line["product_variation_id"])
        wanted[id_] = wanted.get(id_, 0) + line["quantity"]
    ordered = {UUID(item["product_variation"]): item["quantity"] for item in items}
    assert ordered == wanted
    for item in items:
        check_item(plan, item)


def check_item(plan: Plan, item: dict[str, Any]) -> None:
    variation = plan.variation(item["product_variation"])
    assert variation.status == 200
    row = variation.json
    product = row.get("product") or plan.product(item["product_id"]).json
    assert str(UUID(row["id"])) == item["product_variation"]
    assert 0 < item["quantity"] <= row["amount"]
    assert product.get("is_active") is not False
    assert str(UUID(product["id"])) == item["product_id"]
    assert str(UUID(product["shop_id"])) == item["shop_id"]
    price = row.get("price")
    major = Decimal(str(product.get("base_price") if price is None else price))
    minor = (major * 100).quantize(Decimal(1), rounding=ROUND_HALF_UP)
    assert item["price"] == minor >= 0


def check_repairs(plan: Plan, body: dict[str, Any]) -> None:
    """Fail unless siblings themselves gave the reason of each repair."""
    cart = plan.replies["/api/mycart/"]
    assert cart.status == 200
    lines = {line["id"]: line for line in cart.json["items"]}
    repaired = {str(each["cart_item_id"]) for each in body["details"]}
    assert {path.rpartition("/")[2] for _, path, _ in plan.changes} == repaired
    assert body["issues_found"] == len(body["details"])
    assert body["items_fixed"] == sum(each["fixed"] for each in body["details"])
    for each in body["details"]:
        line = lines[each["cart_item_id"]]
        assert is_so(plan, line, each["reason"]), each
        if "new_quantity" in each:
            amount = plan.variation(line["product_variation_id"]).json["amount"]
            assert 0 < each["new_quantity"] <= min(amount, 10_000)
    is_done = plan.replies[told.CHANGE]
    if is_done.status >= 400 and is_done.status != 404:
        assert body["items_fixed"] == 0


def is_so(plan: Plan, line: dict[str, Any], reason: str) -> bool:
    """Return whether the reason follows from the replies."""
    quantity = line["quantity"]
    try:
        variation = plan.variation(str(UUID(line["product_variation_id"])))
    except (ValueError, TypeError, AttributeError, KeyError):
        return reason in ("not_found", "invalid_data")
    if quantity is None or quantity < 1:
        return reason == "invalid_data"
    if reason == "not_found":
        return variation.is_refusal
    assert variation.status == 200
    row = variation.json
    if row.get("product_id") is None:
        return reason == "invalid_data"
    reply = plan.product(row["product_id"])
    product = row.get("product") or reply.json
    price = row.get("price")
    if price is None and product:
        price = product.get("base_price")
    return {
        "product_not_found": reply.is_refusal,
        "inactive": product.get("is_active") is False,
        "invalid_shop": product.get("shop_id") is None,
        "invalid_data": price is None or not 0 <= Decimal(str(price)) < 2**53 / 100,
        "out_of_stock": row["amount"] <= 0,
        "insufficient_stock": row["amount"] < plan.quantity(row["id"])
        or plan.quantity(row["id"]) > 10_000,
    }[reason]


@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_what_is_ordered_by_hand_follows_from_what_siblings_said(
    shop: Service, server: Siblings, entrance: str, batch: tuple[int, int], tally: Tally
) -> None:
    tally.kind = f"{entrance}: product"

    @tried(tally.kind, *batch)
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        first = data.draw(plans(told.CHANGE))
        plan = data.draw(plans(data.draw(st.sampled_from((told.VARIATION, "product")))))
        user, quantity = plan.user, data.draw(st.sampled_from((1, 2, 7, 100, 10_000)))
        body = {"product_variation": plan.lines[0]["product_variation_id"]}
        path, method = "/api/order-items/", "POST"
        if entrance == "by hand":
            path, body = "/api/orders/", {"items": [body | {"quantity": quantity}]}
        elif entrance == "added":
            order = shop.crud("POST", "/api/orders/", user, json={}).get_json()
            body |= {"order": order["id"], "quantity": quantity}
        else:
            server.answer = valid(first, body["product_variation"]).reply
            made = shop.crud("POST", "/api/orders/", user, json={"items": [body]})
            assert made.status_code == 201, made.data
            [item] = made.get_json()["items"]
            path, method = f"{path}{item['id']}/", "PATCH"
            body = {"quantity": quantity}
        before = counted(shop, user)
        server.answer = plan.reply
        with no_traceback():
            response = shop.crud(method, path, user, json=body)
        tally.outcomes[outcome(plan, response)] += 1
        assert plan.changes == []
        after = counted(shop, user)
        if response.status_code not in (200, 201):
            assert after == before
            return
        content = response.get_json()
        [item] = content["items"] if entrance == "by hand" else [content]
        assert after == (1, 1, item["quantity"])
        assert item["quantity"] == quantity
        if entrance != "raised":
            check_item(plan, item)
        elif quantity > 1:
            assert plan.variation(item["product_variation"]).json["amount"] > 0

    attempt()


def valid(plan: Plan, variation: str) -> Plan:
    """Return the plan with this variation for sale."""
    row = {"id": variation, "product_id": variation, "amount": 10, "price": 1}
    row["product"] = {"id": variation, "shop_id": variation}
    path = f"/api/products/variations/{variation}"
    plan.replies[path] = told.whole(told.encoded(row))
    return plan


@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("name", PUBLISHERS)
def test_event_is_sent_only_if_its_destination_says_so(
    server: Siblings, name: str, batch: tuple[int, int], tally: Tally
) -> None:
    tally.kind = f"published to {name}"
    publisher = PUBLISHERS[name](server.url)
    publisher.longest_seconds = 1.0
    message = Message(
        id=1,
        event_id="e",
        type="order.approved",
        order_id=1,
        body="{}",
        traceparent=None,
        created_at=datetime.now(UTC),
        attempts=1,
        is_doubtful=False,
    )

    is_clean = True  # the connection that the next event may be sent over

    @tried(tally.kind, *batch)
    @given(replies({"message": "ok", "order_id": 1}))
    def attempt(reply: told.Reply) -> None:
        nonlocal is_clean
        server.answer = lambda *_: reply
        began_at = time.monotonic()
        with no_traceback():
            [ended] = publisher.publish([message], time.monotonic() + 5)
        is_late = time.monotonic() - began_at >= publisher.longest_seconds
        was_clean, is_clean = is_clean, reply.is_sound
        tally.outcomes[ended.result.value] += 1
        assert ended.result is not Result.NOT_TRIED
        assert (ended.reason is None) == (ended.result is Result.SENT)
        if ended.result is Result.SENT:
            assert reply.status in (200, 201, 202, 204)
        elif reply.is_sound and was_clean and not is_late:
            assert reply.status not in (200, 201)

    attempt()
    publisher.close()
