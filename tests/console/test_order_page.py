"""The page of an order: what can be done with it, what cannot and why; its forms."""

import re
import uuid

import pytest

from infra.local.sandbox.catalogue import MUG
from tests.support.console import ORIGIN, Console, Json, read
from tests.support.service import Service


@pytest.fixture
def order(service: Service, user: str) -> Json:
    return service.ordered(user, 2, 3)


def buttons(console: Console, order: Json) -> list[str]:
    text = console.get(f"orders/{order['id']}/").get_data(as_text=True)
    return [b.rstrip("…") for b in re.findall(r"<button>([^<]+)</button>", text)]


def test_total_titles_and_statuses_are_shown(
    service: Service, console: Console, order: Json
) -> None:
    total = sum(item["price"] * item["quantity"] for item in order["items"])
    [row, *_] = service.rows(
        "SELECT title FROM order_items WHERE order_id = :id", id=order["id"]
    )
    assert row["title"]
    text = console.get(f"orders/{order['id']}/").get_data(as_text=True)
    assert f"<b>{total // 100:,}.{total % 100:02}</b>" in text
    assert row["title"] in text
    assert '<span class="status s1">Processing</span>' in text


def test_a_title_is_that_of_the_moment_of_ordering(
    service: Service, console: Console, user: str
) -> None:
    made = service.ordered(user, 1)
    titles = service.rows(
        "SELECT title FROM order_items WHERE order_id = :id", id=made["id"]
    )
    assert all(row["title"] for row in titles)
    body = {"items": [{"product_variation": MUG, "quantity": 1}]}
    by_hand = service.crud("POST", "/api/orders/", user, json=body).get_json()
    more = {"order": by_hand["id"], "product_variation": MUG, "quantity": 1}
    service.crud("POST", "/api/order-items/", user, json=more)
    titles = service.rows(
        "SELECT title FROM order_items WHERE order_id = :id", id=by_hand["id"]
    )
    assert [bool(row["title"]) for row in titles] == [True, True]
    assert "title" not in service.crud(
        "GET", f"/api/orders/{by_hand['id']}/", user
    ).get_data(as_text=True)
    assert str(titles[0]["title"]) in console.text(f"orders/{by_hand['id']}/")


def test_a_product_that_is_renamed_keeps_its_title_in_older_orders(
    service: Service, console: Console, user: str
) -> None:
    before, after = f"Old {uuid.uuid4()}", f"New {uuid.uuid4()}"
    article = service.sandbox.add_article(title=before)
    body = {"items": [{"product_variation": article, "quantity": 1}]}
    older = service.crud("POST", "/api/orders/", user, json=body).get_json()["id"]
    service.sandbox.add_article(id=article, title=after)
    newer = service.crud("POST", "/api/orders/", user, json=body).get_json()["id"]
    for order, title, other in ((older, before, after), (newer, after, before)):
        text = console.text(f"orders/{order}/")
        assert title in text
        assert other not in text


def test_only_what_can_succeed_has_a_button_and_the_rest_a_reason(
    service: Service, console: Console, order: Json
) -> None:
    first, second = (item["id"] for item in order["items"])
    shown = buttons(console, order)
    assert f"Cancel item {first}" in shown
    assert f"Mark item {second} as shipped" in shown
    assert "Approve the order" not in shown
    text = console.text(f"orders/{order['id']}/")
    assert "Approve the order: " in text
    assert "move-item" not in text
    assert "status 4" not in text
    service.move(first, 3)
    shown = buttons(console, order)
    assert f"Cancel item {first}" not in shown
    assert f"Remove item {first}" not in shown
    assert "Delete the order" not in shown
    text = console.text(f"orders/{order['id']}/")
    assert "An item that is Delivered cannot become Cancelled." in text
    assert "Delete the order: " in text


def test_every_button_that_is_shown_would_succeed(
    service: Service, console: Console, order: Json
) -> None:
    service.move(order["items"][0]["id"], 2)
    text = console.get(f"orders/{order['id']}/").get_data(as_text=True)
    form = r'<form method="get" action="/ops/(do/[\w-]+)/">(.*?)</form>'
    forms = re.findall(form, text, re.DOTALL)
    assert len(forms) > 6
    for path, inside in forms:
        field = r'<input[^>]*name="(\w+)"[^>]*value="([^"]*)"'
        fields = dict(re.findall(field, inside))
        fields = {"key": "k", "variation": MUG, **fields}
        if "set-metadata" in path:
            fields["value"] = "v"
        response = console.client.get(
            f"/ops/{path}/", query_string=fields, headers=console.headers
        )
        assert response.status_code == 200, (path, fields)
        assert "What will happen" in read(response).text


def test_a_user_is_linked_to_where_their_name_is(
    service: Service, console: Console, order: Json, user: str
) -> None:
    assert "Name and address" not in console.text(f"orders/{order['id']}/")
    service.set(OPS_USER_URL="https://admin.example/users/{id}?tab=1")
    console = Console(service)
    links = read(console.get(f"orders/{order['id']}/")).links
    assert f"https://admin.example/users/{user}?tab=1" in links


def test_an_item_is_added_with_its_price_title_and_events(
    service: Service, console: Console, order: Json, user: str
) -> None:
    asked = {"order": order["id"], "version": console.version(order)}
    asked |= {"variation": MUG, "quantity": 2}
    shown = read(console.ask("add-item", **asked)).text
    assert "2 of " in shown
    assert "order.created is sent to http" in shown
    assert console.act("add-item", **asked).status_code == 303
    path = f"/api/orders/{order['id']}/"
    items = service.crud("GET", path, user).get_json()["items"]
    assert (len(items), items[-1]["quantity"]) == (3, 2)
    assert items[-1]["product_variation"] == MUG
    assert items[-1]["price"] > 0
    assert "Operator: Add an item: done" in console.text(f"orders/{order['id']}/")


def test_an_unknown_variation_is_told_beside_what_was_entered(
    console: Console, order: Json
) -> None:
    asked = {"order": order["id"], "version": console.version(order)}
    variation = str(uuid.uuid4())
    response = console.ask("add-item", **asked, variation=variation, quantity=1)
    assert response.status_code == 400
    page = read(response)
    assert f"{variation} does not exist" in page.text
    assert page.fields["variation"] == variation


# Forms survive errors


def test_a_wrong_quantity_can_be_corrected_where_it_was_entered(
    console: Console, order: Json
) -> None:
    asked = {"order": order["id"], "version": console.version(order)}
    asked |= {"item": order["items"][0]["id"], "quantity": 0}
    response = console.ask("set-quantity", **asked)
    assert response.status_code == 400
    page = read(response)
    assert "quantity: must be a whole number" in page.text
    assert page.fields["quantity"] == "0"
    assert page.fields["item"] == str(asked["item"])


@pytest.mark.parametrize("reason", ["", "x" * 501])
def test_a_reason_that_is_missing_or_too_long_can_be_corrected(
    console: Console, order: Json, reason: str
) -> None:
    asked = {"order": order["id"], "version": console.version(order)}
    fields = console.form("set-metadata", **asked, key="a", value="b")
    response = console.send("set-metadata", fields, reason)
    assert response.status_code == 400
    text = response.get_data(as_text=True)
    assert f">{reason}</textarea>" in text
    assert "reason: must be 1 to 500 characters" in text
    assert "Nothing was done" in text
    again = read(response).fields | {"reason": "a customer called"}
    done = console.client.post(
        "/ops/do/set-metadata/",
        data=again,
        headers=console.headers | {"Origin": ORIGIN},
    )
    assert done.status_code == 303


def test_an_order_that_has_changed_is_shown_anew_and_the_reason_stays(
    service: Service, console: Console, order: Json
) -> None:
    item = order["items"][0]["id"]
    asked = {"order": order["id"], "version": console.version(order), "item": item}
    fields = console.form("move-item", **asked, status=4)
    service.move(item, 2)
    response = console.send("move-item", fields, "they called twice")
    assert response.status_code == 412
    text = response.get_data(as_text=True)
    assert ">they called twice</textarea>" in text
    assert "goes from Shipped to Cancelled" in text
    again = console.send("move-item", read(response).fields, "they called twice")
    assert again.status_code == 303


def test_what_can_no_longer_be_done_has_no_button_and_the_reason_stays(
    service: Service, console: Console, order: Json
) -> None:
    item = order["items"][0]["id"]
    asked = {"order": order["id"], "version": console.version(order), "item": item}
    fields = console.form("remove-item", **asked)
    service.move(item, 3)
    response = console.send("remove-item", fields, "they called")
    assert response.status_code == 412
    text = response.get_data(as_text=True)
    assert "they called" in text
    assert '<button class="danger">' not in text
