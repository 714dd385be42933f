"""Every problem type that a caller may meet: what it means, when, and what to do.

Lives here: the explanations behind `/problems/...`, and an example of each. Not here:
the types themselves (`errors.py`), how one is answered (`problems.py`). Surprise: a
type without an explanation, and an explanation without a type, both fail a test.
"""

import inspect
from typing import Any

from msgspec import Struct

from common import errors
from common.errors import ServiceError
from common.openapi_components import ITEM, REPAIRS

# What Flask refuses itself, before any code of ours: status and title by slug.
TRANSPORT_PROBLEMS = {
    "method-not-allowed": (405, "Method not allowed"),
    "body-too-large": (413, "Body too large"),
    "unsupported-media-type": (415, "Unsupported media type"),
}
# The parent of others; itself only what operators are told.
NEVER_ANSWERED = {errors.ConflictError.slug}

# By slug: when it is answered, and what the caller should do.
ADVICE = {
    "internal-error": (
        "The service has a defect, and has logged it.",
        (
            "Try again later, a write under the same Idempotency-Key: it then happens"
            " once. If it stays, report the X-Request-ID of the answer."
        ),
    ),
    "invalid-request": (
        "The body, a parameter or a header breaks a rule of the API document.",
        "Mend what `errors` names. The same request will be refused again.",
    ),
    "empty-cart": (
        "A checkout finds a cart without lines.",
        "Put something into the cart first.",
    ),
    "unauthenticated": (
        (
            "The token is missing, has expired or is not believed, or X-User-ID is no"
            " UUID."
        ),
        "Get a new token, and send it as `Authorization: Bearer …`.",
    ),
    "forbidden": (
        (
            "A caller who is known asks for what is not theirs to do: another user's"
            " order, a field that only the service sets, an item of another shop."
        ),
        "Do not repeat it. Ask whether this is the right account.",
    ),
    "not-found": (
        "No such path, order or item, or it belongs to somebody else.",
        "Check the id. What was deleted does not come back.",
    ),
    "cart-not-found": (
        "A checkout by a user who has never had a cart.",
        "Put something into a cart first.",
    ),
    "method-not-allowed": (
        "The path exists, but has no such method.",
        "Use one that the header `Allow` names.",
    ),
    "not-acceptable": (
        "`Accept` names only media types that this path does not have.",
        "Ask for one that `detail` names, or send no `Accept`.",
    ),
    "illegal-transition": (
        (
            "A status cannot follow the one that the item has: 3 and 4 are final, and"
            " nothing goes back."
        ),
        "Read the item, and decide anew from the status it has now.",
    ),
    "order-not-complete": (
        "An approval of an order that has no items, or items that are still open.",
        "Wait until each item is Delivered or Cancelled: approval comes by itself.",
    ),
    "order-approved": (
        "A change to an order that is approved.",
        "Leave it as it is. What is still wanted is a new order.",
    ),
    "order-shipped": (
        "A deletion of an order of which something is Shipped or Delivered.",
        "Cancel the items that are still Processing instead.",
    ),
    "item-not-open": (
        "A change to an item that is no longer Processing.",
        "Read the item, and show the status that it has now.",
    ),
    "item-unavailable": (
        "The product is inactive, sold out, or there is less of it than was asked for.",
        "Ask for less, or for something else.",
    ),
    "cart-repaired": (
        (
            "A line of the cart cannot be ordered as it is. Nothing was ordered, and"
            " the cart was put right; `details` has every change."
        ),
        "Show the changes to the user. Check out again once they agree.",
    ),
    "request-in-flight": (
        "The same request, by its Idempotency-Key or its cart, has not ended yet.",
        "Wait for `Retry-After`, then repeat it: the answer will be the first one's.",
    ),
    "precondition-failed": (
        "`If-Match` names a version that is no longer the newest. Nothing was changed.",
        "Read it again, apply the change to what is there now, and send its `ETag`.",
    ),
    "body-too-large": (
        "The body is larger than 1 MiB.",
        "Send less in one request.",
    ),
    "unsupported-media-type": (
        "The body is said to be something else than JSON, or to be compressed.",
        "Send `Content-Type: application/json` and no `Content-Encoding`.",
    ),
    "idempotency-key-reused": (
        "The key was used in the last 24 hours, with another body or path.",
        "Use a new key for each new request, and the old one only to repeat it.",
    ),
    "upstream-broken": (
        "The service that `service` names answered what makes no sense.",
        "Try again later, under the same Idempotency-Key. Nothing was written.",
    ),
    "upstream-unavailable": (
        "The service that `service` names cannot be reached, or fails.",
        (
            "Try again after `Retry-After`, under the same Idempotency-Key. Nothing was"
            " written."
        ),
    ),
    "upstream-timeout": (
        "The service that `service` names took too long.",
        "Try again later, under the same Idempotency-Key. Nothing was written.",
    ),
    "database-unavailable": (
        "The database cannot be reached; `/health/ready` names it under `down`.",
        (
            "Try again after `Retry-After`, a write under the same Idempotency-Key:"
            " whether it happened is then told, not done twice."
        ),
    ),
    "busy": (
        "More requests are waiting than can be answered in time.",
        "Try again after `Retry-After`, with more time between tries.",
    ),
}


class ProblemType(Struct, frozen=True):
    """One type of problem. `example` is the body of an answer that has it."""

    name: str
    status: int
    title: str
    meaning: str
    occurs: str
    remedy: str
    example: dict[str, Any]

    @property
    def type(self) -> str:
        """What an answer has as its `type`."""
        return f"/problems/{self.name}"


def problem_types() -> dict[str, ProblemType]:
    """Answer all types by name, by their status; the same every time."""
    found = [_of(error) for error in _descendants(ServiceError)]
    found += [
        _made(slug, status, title, title, {})
        for slug, (status, title) in TRANSPORT_PROBLEMS.items()
    ]
    found.sort(key=lambda each: (each.status, each.name))
    return {each.name: each for each in found if each.name not in NEVER_ANSWERED}


def _descendants(of: type[ServiceError]) -> list[type[ServiceError]]:
    return [of, *(e for each in of.__subclasses__() for e in _descendants(each))]


def _of(error: type[ServiceError]) -> ProblemType:
    meaning = inspect.getdoc(error) or error.title
    return _made(error.slug, error.status, error.title, meaning, _extra(error))


def _made(
    slug: str, status: int, title: str, meaning: str, extra: dict[str, Any]
) -> ProblemType:
    occurs, remedy = ADVICE.get(slug, ("", ""))
    members = {
        "type": f"/problems/{slug}",
        "title": title,
        "status": status,
        "detail": meaning,
        "instance": "/api/orders-from-shopcart/" if "cart" in slug else "/api/orders/",
        "error": title,
    }
    return ProblemType(slug, status, title, meaning, occurs, remedy, members | extra)


def _extra(error: type[ServiceError]) -> dict[str, Any]:
    if error is errors.CartRepairedError:
        return REPAIRS
    if error is errors.InvalidRequestError:
        return {"errors": {"items[0].quantity": ["expected int >= 1"]}}
    if error is errors.ItemUnavailableError:
        return {
            "reason": "insufficient_stock",
            "product_variation": ITEM["product_variation"],
        }
    return {"service": "product"} if error.slug.startswith("upstream") else {}
