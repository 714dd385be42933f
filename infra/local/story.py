"""The story of an order, from a cart with too much in it to approval.

The shopcart's queue is paused around the checkout, because a cart emptied too soon
would hide what a double click does.
"""

import time
from collections import Counter
from typing import Any
from uuid import uuid4

import requests

from common.domain.model import ItemStatus
from infra.local.narrator import Narrator, StoryError
from infra.local.sandbox.catalogue import MUG, POSTER, TEAPOT

CHECKOUT = "/api/orders-from-shopcart/"
PRICES = {MUG: 1999, TEAPOT: 3450, POSTER: 1200}
BOUGHT = {MUG: 2, TEAPOT: 5, POSTER: 1}
STOCK = {MUG: 1000, TEAPOT: 5, POSTER: 40}
TOO_MANY_TEAPOTS = 9
TIMEOUT_SECONDS = 30


class Story:
    """One buyer and one order, printed by `narrator`; each run has a new buyer."""

    def __init__(self, url: str, session: requests.Session, narrator: Narrator) -> None:
        self._url = url
        self._session = session
        self._narrator = narrator
        self._expect = narrator.expect
        self._wait_for = narrator.wait_for
        self._buyer = str(uuid4())
        self._order: dict[str, Any] = {}
        self._items: dict[str, int] = {}

    def tell(self) -> None:
        """Run every step; raise StoryError if it cannot go on."""
        self._fill_cart()
        self._check_out_too_much()
        self._set_queue_paused("shopcart", paused=True)
        try:
            self._check_out()
            self._check_out_again()
            self._check_out_more()
        finally:
            self._set_queue_paused("shopcart", paused=False)
        self._siblings_hear_of_it()
        self._check_out_what_was_emptied()
        self._a_stranger_asks()
        self._ship_and_deliver()
        self._try_what_is_not_allowed()
        self._cancel_the_last()
        self._analytics_hears()

    def _fill_cart(self) -> None:
        quantities = BOUGHT | {TEAPOT: TOO_MANY_TEAPOTS}
        with self._narrator.step(
            f"A buyer puts 2 mugs, {TOO_MANY_TEAPOTS} teapots (5 in stock) and a poster"
            " into the cart"
        ):
            for variation, amount in STOCK.items():
                self._call("PUT", f"/sandbox/stock/{variation}", {"amount": amount})
            for variation, quantity in quantities.items():
                line = {"product_variation_id": variation, "quantity": quantity}
                path = "/sandbox/shopcart/api/mycart/items/"
                added = self._call("POST", path, line)
                self._expect("status of adding a line", 201, added.status_code)
            self._expect("cart", quantities, self._cart())

    def _check_out_too_much(self) -> None:
        with self._narrator.step("Checkout refuses (409) and repairs the cart"):
            reply = self._call("POST", CHECKOUT)
            self._expect("status", 409, reply.status_code)
            problem = _json(reply)
            self._expect("issues_found", 1, problem.get("issues_found"))
            self._expect("items_fixed", 1, problem.get("items_fixed"))
            wanted = {
                "product_variation_id": TEAPOT,
                "product_title": "Teapot",
                "action": "quantity_updated",
                "old_quantity": TOO_MANY_TEAPOTS,
                "new_quantity": STOCK[TEAPOT],
                "reason": "insufficient_stock",
                "fixed": True,
            }
            found = [
                {name: detail.get(name) for name in wanted}
                for detail in problem.get("details", [])
            ]
            self._expect("details", [wanted], found)
            self._expect("cart", BOUGHT, self._cart())
            self._expect("orders of the buyer", [], self._my_orders())

    def _check_out(self) -> None:
        with self._narrator.step("Checkout of the repaired cart makes an order (201)"):
            reply = self._call("POST", CHECKOUT)
            while _json(reply).get("type") == "/problems/stock-settling":
                # Somebody has told the story a moment ago, and cancelled the teapots.
                time.sleep(int(reply.headers["Retry-After"]))
                reply = self._call("POST", CHECKOUT)
            made = _json(reply)
            if reply.status_code != requests.codes.created or "order" not in made:
                raise StoryError(f"expected 201, got {reply.status_code} {reply.text}")
            self._order = made["order"]
            order_id = self._order["id"]
            items = self._order["items"]
            self._items = {item["product_variation"]: item["id"] for item in items}
            self._expect("order_id", order_id, made.get("order_id"))
            self._expect("items_count", len(BOUGHT), made.get("items_count"))
            total = sum(BOUGHT.values())
            self._expect("total_quantity", total, made.get("total_quantity"))
            self._expect("user_id", self._buyer, self._order["user_id"])
            prices = {item["product_variation"]: item["price"] for item in items}
            self._expect("prices", PRICES, prices)
            location = reply.headers.get("Location", "")
            path = f"/api/orders/{order_id}/"
            self._expect("Location", path, location[-len(path) :])

    def _check_out_again(self) -> None:
        order_id = self._order["id"]
        with self._narrator.step(
            f"The same POST again answers with order {order_id} (200), no second one"
        ):
            self._expect_replay()

    def _check_out_more(self) -> None:
        with self._narrator.step(
            "One more poster before the cart is emptied: 409, nothing is ordered twice"
        ):
            line = {"product_variation_id": POSTER, "quantity": 1}
            self._call("POST", "/sandbox/shopcart/api/mycart/items/", line)
            reply = self._call("POST", CHECKOUT)
            self._expect("status", 409, reply.status_code)
            self._expect("type", "/problems/cart-settling", _json(reply).get("type"))
            self._expect("orders", [self._order["id"]], self._my_orders())

    def _check_out_what_was_emptied(self) -> None:
        order_id = self._order["id"]
        with self._narrator.step(
            f"A click on the emptied cart answers with order {order_id} (200), too"
        ):
            self._expect_replay()

    def _expect_replay(self) -> None:
        order_id = self._order["id"]
        reply = self._call("POST", CHECKOUT)
        self._expect("status", 200, reply.status_code)
        replayed = reply.headers.get("Idempotency-Replayed")
        self._expect("Idempotency-Replayed", "true", replayed)
        self._expect("order_id", order_id, _json(reply).get("order_id"))
        self._expect("orders of the buyer", [order_id], self._my_orders())

    def _siblings_hear_of_it(self) -> None:
        with self._narrator.step(
            "Product lowers stock, once; shopcart clears the cart; the shop has rows"
        ):
            left = {name: STOCK[name] - BOUGHT[name] for name in STOCK}
            self._wait_for("stock", left, self._stock)
            self._wait_for("cart", {}, self._cart)
            rows = dict.fromkeys(self._items.values(), 1)
            self._wait_for("rows of the shop", rows, self._shop_rows)
            self._expect("stock a moment later", left, self._stock())
            self._expect("order.created events", 1, self._count_events())

    def _a_stranger_asks(self) -> None:
        order_id = self._order["id"]
        with self._narrator.step(f"A stranger who asks for order {order_id} gets 404"):
            path, stranger = f"/api/orders/{order_id}/", str(uuid4())
            self._expect("the buyer's status", 200, self._call("GET", path).status_code)
            theirs = self._call("GET", path, user=stranger)
            self._expect("the stranger's status", 404, theirs.status_code)
            absent = self._call("GET", "/api/orders/999999999999/", user=stranger)
            same = [
                (reply.status_code, {**_json(reply), "instance": None})
                for reply in (theirs, absent)
            ]
            self._expect("as for an order that is not there", same[1], same[0])

    def _ship_and_deliver(self) -> None:
        with self._narrator.step("The shop ships the mugs and delivers them"):
            self._set_status(MUG, ItemStatus.SHIPPED)
            self._set_status(MUG, ItemStatus.DELIVERED)
        with self._narrator.step("The shop delivers the poster without shipping first"):
            self._set_status(POSTER, ItemStatus.DELIVERED)
        with self._narrator.step("One item is open: the order is not approved yet"):
            self._expect("is_approved", expected=False, got=self._is_approved())

    def _try_what_is_not_allowed(self) -> None:
        with self._narrator.step("Cancelling what was delivered is refused (409)"):
            reply = self._act(MUG, ItemStatus.CANCELLED)
            self._expect("the shop's status", 502, reply.status_code)
            refusal = str(_json(reply).get("detail"))
            self._expect("409 in the refusal", True, "409" in refusal)  # noqa: FBT003
            self._expect(
                "the shop's row",
                ItemStatus.DELIVERED,
                self._shop_rows()[self._items[MUG]],
            )

    def _cancel_the_last(self) -> None:
        with self._narrator.step("The shop cancels the teapots: the order is approved"):
            self._set_status(TEAPOT, ItemStatus.CANCELLED)
            self._wait_for("is_approved", expected=True, look=self._is_approved)

    def _analytics_hears(self) -> None:
        with self._narrator.step(
            "Analytics hears of it, once, and of delivered items only"
        ):
            delivered = [
                {
                    "id": str(self._items[variation]),
                    "quantity": BOUGHT[variation],
                    "product_variation": variation,
                    "price": price,
                }
                for variation, price in ((MUG, "19.99"), (POSTER, "12.00"))
            ]
            self._wait_for("items", delivered, self._heard_items)
            heard = self._heard()
            self._expect("user_id", self._buyer, heard.get("user_id"))
            self._expect("times heard", 1, heard.get("times_heard"))

    def _call(
        self, method: str, path: str, body: object = None, user: str | None = None
    ) -> requests.Response:
        try:
            return self._session.request(
                method,
                self._url + path,
                json=body,
                headers={"X-User-ID": user or self._buyer},
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise StoryError(f"{method} {path}: {type(error).__name__}") from error

    def _set_queue_paused(self, queue: str, *, paused: bool) -> None:
        self._call("PUT", f"/sandbox/queues/{queue}", {"paused": paused})

    def _cart(self) -> dict[str, int]:
        cart = _json(self._call("GET", "/sandbox/shopcart/api/mycart/"))
        lines = cart.get("items", [])
        return {line["product_variation_id"]: line["quantity"] for line in lines}

    def _my_orders(self) -> list[int]:
        return [order["id"] for order in self._call("GET", "/api/orders/").json()]

    def _is_approved(self) -> object:
        path = f"/api/orders/{self._order['id']}/"
        return _json(self._call("GET", path)).get("is_approved")

    def _stock(self) -> dict[str, int]:
        rows = self._call("GET", "/sandbox/product/api/products/variations/").json()
        return {row["id"]: row["amount"] for row in rows if row["id"] in STOCK}

    def _shop_rows(self) -> dict[int, int]:
        rows = self._call("GET", "/sandbox/shop/api/shop-orders/").json()
        mine = [row for row in rows if row["order_id"] == self._order["id"]]
        return {row["order_item_id"]: row["status"] for row in mine}

    def _act(self, variation: str, status: int) -> requests.Response:
        item_id = self._items[variation]
        path = f"/sandbox/shop/api/shop-orders/{item_id}/status/"
        return self._call("POST", path, {"status": status}, user=str(uuid4()))

    def _set_status(self, variation: str, status: int) -> None:
        reply = self._act(variation, status)
        self._expect(f"answer to status {status}", 200, reply.status_code)
        row = self._shop_rows().get(self._items[variation])
        self._expect("the shop's row", status, row)

    def _count_events(self) -> int:
        """Return how many different `order.created` there were for the order."""
        events = self._call("GET", "/sandbox/events?limit=500").json()
        found = Counter(
            event["id"]
            for event in events
            if event["type"] == "order.created"
            and event["body"]["data"]["order_id"] == self._order["id"]
        )
        return len(found)

    def _heard(self) -> dict[str, Any]:
        path = "/sandbox/analytics/api/analitic-order-completed/"
        for order in self._call("GET", path).json():
            if order["id"] == str(self._order["id"]):
                return dict(order)
        return {}

    def _heard_items(self) -> list[dict[str, Any]]:
        items = self._heard().get("items", [])
        return sorted(items, key=lambda item: int(item["id"]))


def _json(reply: requests.Response) -> dict[str, Any]:
    """Return the reply's JSON object, or an empty one if it has none."""
    try:
        body = reply.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
