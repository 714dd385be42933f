"""The API document's examples, sent and compared with the replies.

The examples' own ids are used, in a database in which the order of the examples is the
only one. That a reply is as documented is checked by `Service` for every call.
"""

from typing import Any

import pytest
import requests
from werkzeug.test import TestResponse

from common.api_docs import pages
from infra.local.gateway import function_of
from tests.support.documented import example_of, operations, resolve, validate
from tests.support.service import Service

TOLD = {operation["operationId"]: operation for *_, operation in operations()}
PLACES = {told["operationId"]: (method, path) for method, path, told in operations()}
WITH_EXAMPLES = [name for name, told in TOLD.items() if told.get("security") != []]
ITEM = example_of({"$ref": "#/components/schemas/Item"})
ORDER = example_of({"$ref": "#/components/schemas/Order"})
USER_ID = ORDER["user_id"]

_ORDER = """
WITH ordered AS (
    INSERT INTO orders (id, user_id, created_at, metadata)
    OVERRIDING SYSTEM VALUE
    VALUES (:order, :user_id, CAST(:created_at AS timestamptz), '{"gift": "yes"}')
    RETURNING id
)
INSERT INTO order_items (id, order_id, user_id, status, quantity, product_variation,
    product_id, shop_id, price)
OVERRIDING SYSTEM VALUE
SELECT :id, id, :user_id, :status, :quantity, :product_variation, :product_id,
    :shop_id, :price
FROM ordered RETURNING id
"""


@pytest.fixture
def exemplary(service: Service) -> Service:
    """A service with the order, the product and the cart of the examples."""
    service.sandbox.add_article(
        id=ITEM["product_variation"], amount=100, price="19.99", shop_id=ITEM["shop_id"]
    )
    service.sandbox.add_to_cart(USER_ID, str(ITEM["product_variation"]), 2)
    service.rows(_ORDER, user_id=USER_ID, created_at=ORDER["created_at"], **ITEM)
    return service


def reply_of(operation: dict[str, Any], status: str) -> Any:
    """Return the example of a reply."""
    reply = resolve(operation["responses"][status])
    [content] = reply["content"].values()
    return example_of(content["schema"])


def shape(value: Any) -> Any:
    """Return the names and types in a value; metadata's names are the caller's."""
    if isinstance(value, dict):
        return {k: "object" if k == "metadata" else shape(v) for k, v in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value[:1]]
    return type(value).__name__


def ask(service: Service, name: str, **more: Any) -> TestResponse:
    """Send the example of an operation's request, about the example's order or item."""
    method, template = PLACES[name]
    number = ITEM["id"] if "items" in template else ORDER["id"]
    path = template.replace("{id}", str(number))
    told = TOLD[name]
    if "requestBody" in told and not more.keys() & {"json", "data"}:
        [content] = told["requestBody"]["content"].values()
        more["json"] = example_of(content["schema"])
    given: dict[str, Any] = {"user": USER_ID} | more
    path = given.pop("path", path)
    method = given.pop("method", method)
    return service.call(function_of(path), method, path, **given)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_example_is_accepted_and_its_answer_fits(exemplary: Service, name: str) -> None:
    if name == "get_timeline":  # of what has happened, here the example's step
        ask(exemplary, "set_item_status")
    answer = ask(exemplary, name)
    first = {"POST": 201, "DELETE": 204}.get(PLACES[name][0], 200)
    assert answer.status_code == first
    if answer.status_code != 204:
        example = reply_of(TOLD[name], str(answer.status_code))
        assert shape(answer.get_json()) == shape(example)


@pytest.mark.parametrize("name", ["get_order", "get_item", "list_orders", "list_items"])
def test_what_is_read_is_example_to_letter(exemplary: Service, name: str) -> None:
    assert ask(exemplary, name).get_json() == reply_of(TOLD[name], "200")


def test_a_repeated_checkout_is_answered_as_its_example(exemplary: Service) -> None:
    ask(exemplary, "create_order_from_cart")
    again = ask(exemplary, "create_order_from_cart")
    assert again.status_code == 200
    assert again.headers["Idempotency-Replayed"] == "true"
    example = reply_of(TOLD["create_order_from_cart"], "200")
    assert shape(again.get_json()) == shape(example)


# Each type: the operation that answers it, what is done before, what is sent.
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
OTHER = "0e0e0e0e-0000-4000-8000-000000000001"
MOVED = "UPDATE order_items SET status = {} RETURNING id"
APPROVED = (
    "UPDATE orders SET is_complete = true, is_approved = true, approved_at = now()"
    " RETURNING id"
)
FULL = (
    "WITH i AS (INSERT INTO order_items (id, order_id, user_id, quantity, price,"
    " product_variation) OVERRIDING SYSTEM VALUE SELECT id + n, order_id, user_id, 1,"
    " 5, gen_random_uuid() FROM order_items, generate_series(1, 999) n RETURNING id)"
    " SELECT count(*) FROM i"
)
PROVOKED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "invalid-request": ("create_item", {}, {"json": {"order": 0}}),
    "unauthenticated": ("get_order", {}, {"user": "nobody"}),
    "forbidden": ("create_order", {}, {"json": {"user_id": OTHER}}),
    "not-found": ("get_order", {}, {"user": OTHER}),
    "cart-not-found": ("create_order_from_cart", {}, {"user": OTHER}),
    "empty-cart": ("create_order_from_cart", {"is_emptied": True}, {}),
    "cart-settling": ("create_order_from_cart", {"is_added_to": True}, {}),
    "cart-repaired": ("create_order_from_cart", {"stock": 1}, {}),
    "not-acceptable": ("schema_document", {}, {"headers": {"Accept": "text/html"}}),
    "method-not-allowed": ("get_order", {}, {"method": "PUT"}),
    "illegal-transition": ("set_item_status", {"sql": MOVED.format(4)}, {}),
    "order-not-complete": ("patch_order", {}, {"json": {"is_approved": True}}),
    "order-approved": ("create_item", {"sql": APPROVED}, {}),
    "order-full": ("create_item", {"sql": FULL}, {}),
    "order-shipped": ("delete_order", {"sql": MOVED.format(2)}, {}),
    "item-not-open": ("delete_item", {"sql": MOVED.format(2)}, {}),
    "item-unavailable": ("create_item", {"stock": 1}, {}),
    "precondition-failed": ("patch_item", {}, {"headers": {"If-Match": '"99"'}}),
    "body-too-large": ("create_order", {}, {"data": " " * (2**20 + 1)}),
    "unsupported-media-type": ("create_order", {}, {"data": "text"}),
    "idempotency-key-reused": ("create_order", {"key": "k"}, {"json": {}}),
    "upstream-unavailable": ("create_item", {"fault": {"status": 503}}, {}),
    "upstream-broken": ("create_item", {"fault": {"body": "nonsense"}}, {}),
    "database-unavailable": ("get_order", {"set": {"DATABASE_URL": NOWHERE}}, {}),
}
# It takes a defect, two at once, a slow one, or a crowd: tests of those have them.
ELSEWHERE = {"internal-error", "request-in-flight", "upstream-timeout", "busy"}
ELSEWHERE |= {"stock-settling"}
EXAMPLES = {name: each["example"] for name, each in pages.problems().items()}


def test_every_problem_that_can_be_provoked_in_one_request_is() -> None:
    assert PROVOKED.keys() | ELSEWHERE == EXAMPLES.keys()


@pytest.mark.parametrize("slug", PROVOKED)
def test_a_problem_is_answered_as_its_example(exemplary: Service, slug: str) -> None:
    name, before, sent = PROVOKED[slug]
    if "sql" in before:
        exemplary.rows(before["sql"])
    if "stock" in before:
        exemplary.sandbox.restock(str(ITEM["product_variation"]), before["stock"])
    if "fault" in before:
        exemplary.sandbox.fault("product", **before["fault"])
    exemplary.set(**before.get("set", {}))
    if before.get("is_emptied"):
        cart = exemplary.sandbox.cart(USER_ID)
        assert cart
        shopcart, line = exemplary.environ["SHOPCART_SERVICE"], cart["items"][0]["id"]
        url = f"{shopcart}/api/items/{line}"
        requests.delete(url, headers={"X-User-ID": USER_ID}, timeout=10)
    if before.get("is_added_to"):
        ask(exemplary, name)
        exemplary.sandbox.add_to_cart(USER_ID, str(ITEM["product_variation"]))
    if "key" in before:
        key = {"Idempotency-Key": before["key"]}
        ask(exemplary, name, headers=key)
        sent = sent | {"headers": key}
    answer = ask(exemplary, name, **sent)
    found, example = answer.get_json(), EXAMPLES[slug]
    assert found["type"] == example["type"]
    assert (found["title"], found["status"]) == (example["title"], example["status"])
    assert found.keys() == example.keys()
    if slug == "cart-repaired":
        assert found["details"][0].keys() == example["details"][0].keys()
        validate(found, {"$ref": "#/components/schemas/CartRepairedProblem"})
    retried = answer.status_code == 503 or slug == "cart-settling"
    assert ("Retry-After" in answer.headers) == retried
    assert ("WWW-Authenticate" in answer.headers) == (answer.status_code == 401)
    assert ("Allow" in answer.headers) == (answer.status_code == 405)
