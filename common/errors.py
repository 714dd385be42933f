"""Exceptions that a caller may see, each with its HTTP status.

An exception's docstring is its default message to the caller. Its slug is part of the
stable `/problems/...` URI, so renaming one breaks callers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class ServiceError(Exception):
    """The request could not be served."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal server error"
    retry_after_seconds: int | None = None

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Mapping[str, list[str]] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """`errors` maps fields to messages; `extra` adds members to the problem."""
        self.detail = detail or (type(self).__doc__ or "").strip()
        self.errors = errors
        self.extra = extra or {}
        super().__init__(self.detail)


MAX_ERRORS_IN_DETAIL = 3


class InvalidRequestError(ServiceError):
    """The request is malformed."""

    status = 400
    slug = "invalid-request"
    title = "Invalid request"

    @classmethod
    def of(cls, field: str, rule: str) -> "InvalidRequestError":
        """Return the error that says which `field` broke which `rule`."""
        return cls.of_all({field: [rule]})

    @classmethod
    def of_all(cls, errors: Mapping[str, list[str]]) -> "InvalidRequestError":
        """Return the error that says which rules each field broke."""
        broken = [f"{field}: {rule}" for field in errors for rule in errors[field]]
        shown, others = broken[:MAX_ERRORS_IN_DETAIL], broken[MAX_ERRORS_IN_DETAIL:]
        more = [f"and {len(others)} more"] if others else []
        return cls("; ".join([*shown, *more]), errors=errors)


class EmptyCartError(ServiceError):
    """The cart is empty."""

    status = 400
    slug = "empty-cart"
    title = "Cart is empty"


class UnauthenticatedError(ServiceError):
    """The caller is not known: X-User-ID must be a UUID."""

    status = 401
    slug = "unauthenticated"
    title = "Authentication required"


class ForbiddenError(ServiceError):
    """The caller may not do this."""

    status = 403
    slug = "forbidden"
    title = "Forbidden"


class NotFoundError(ServiceError):
    """There is nothing here."""

    status = 404
    slug = "not-found"
    title = "Not found"


class CartNotFoundError(NotFoundError):
    """The caller has no cart."""

    slug = "cart-not-found"
    title = "Cart not found"


class NotAcceptableError(ServiceError):
    """There is no representation that Accept allows."""

    status = 406
    slug = "not-acceptable"
    title = "Not acceptable"


class ConflictError(ServiceError):
    """The current state does not allow this."""

    status = 409
    slug = "conflict"
    title = "Conflict"


class IllegalTransitionError(ConflictError):
    """The item's status cannot change this way."""

    slug = "illegal-transition"
    title = "Illegal status transition"


class OrderNotCompleteError(ConflictError):
    """An order is approved only when it has items and all of them are final."""

    slug = "order-not-complete"
    title = "Order is not complete"


class OrderApprovedError(ConflictError):
    """The order is approved and no longer changes."""

    slug = "order-approved"
    title = "Order is approved"


class OrderFullError(ConflictError):
    """An order holds at most 1000 items."""

    slug = "order-full"
    title = "Order is full"


class OrderShippedError(ConflictError):
    """An order of which something has shipped cannot be deleted."""

    slug = "order-shipped"
    title = "Order has shipped"


class ItemNotOpenError(ConflictError):
    """Only an item that is still Processing can be changed this way."""

    slug = "item-not-open"
    title = "Item is no longer Processing"


class ItemUnavailableError(ConflictError):
    """The product cannot be sold in this quantity."""

    slug = "item-unavailable"
    title = "Item is not available"


class CartRepairedError(ConflictError):
    """Your cart has been automatically updated. Please review and try again."""

    slug = "cart-repaired"
    title = "Cart updated due to stock issues"


class StockSettlingError(ConflictError):
    """What is left in stock is being sold right now. Please try again in a moment."""

    slug = "stock-settling"
    title = "Stock is settling"

    @classmethod
    def of(cls, variations: Sequence[str], seconds: int) -> "StockSettlingError":
        """Return the error about these variations, to try again after `seconds`."""
        error = cls(extra={"product_variations": list(variations)})
        error.retry_after_seconds = seconds
        return error


class CartSettlingError(ConflictError):
    """Part of this cart is ordered already, and is about to be taken out of it."""

    slug = "cart-settling"
    title = "Cart is settling"
    retry_after_seconds = 2


class InFlightError(ConflictError):
    """The same request is being handled right now."""

    slug = "request-in-flight"
    title = "Request is in flight"
    retry_after_seconds = 1


class PreconditionFailedError(ServiceError):
    """It has changed since you looked."""

    status = 412
    slug = "precondition-failed"
    title = "Precondition failed"


class KeyReusedError(ServiceError):
    """This Idempotency-Key was used for another request."""

    status = 422
    slug = "idempotency-key-reused"
    title = "Idempotency-Key was reused"


class UpstreamBrokenError(ServiceError):
    """A service this one depends on sent an invalid response."""

    status = 502
    slug = "upstream-broken"
    title = "Invalid upstream response"


class UpstreamUnavailableError(ServiceError):
    """A service this one depends on is unavailable."""

    status = 503
    slug = "upstream-unavailable"
    title = "Upstream is unavailable"
    retry_after_seconds = 5


class UpstreamTimeoutError(ServiceError):
    """A service this one depends on did not answer in time."""

    status = 504
    slug = "upstream-timeout"
    title = "Upstream timed out"


class DatabaseUnavailableError(ServiceError):
    """The database is unreachable. A retry with the same Idempotency-Key is safe."""

    status = 503
    slug = "database-unavailable"
    title = "Database is unavailable"
    retry_after_seconds = 2


class BusyError(ServiceError):
    """Too many requests at once. Please try again."""

    status = 503
    slug = "busy"
    title = "Busy"
    retry_after_seconds = 1
