"""One call to a sibling service, and its response."""

from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

MAX_DETAIL_CHARACTERS = 300
UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

T = TypeVar("T")


class Call(Struct, frozen=True):
    """One request, which may be repeated; `path` is appended to the base URL.

    There is no POST, because a POST must not be repeated.
    """

    method: Literal["GET", "PUT", "DELETE"]
    path: str
    body: bytes | None = None
    # The product service's read cache may return another row unless it is bypassed
    # (no-store). With no-cache it reads the row anew, too, and stores it.
    cache_control: Literal["no-store", "no-cache"] = "no-store"


class UpstreamResponse(Struct, frozen=True):
    """A sibling's complete response to a call."""

    call: Call
    status: int
    body: bytes
    location: str | None = None

    def is_refusal(self, *statuses: int) -> bool:
        """Return whether the service itself refused with one of `statuses`.

        It does so with JSON that has a `detail`. A page of a front end is no refusal.
        """
        return self.status in statuses and self.detail() is not None

    def detail(self) -> str | None:
        """Return the service's own words on a refusal, cut to fit a log line."""
        try:
            refusal = decode(self.body, _Refusal)
        except UNDECODABLE:
            return None
        words = refusal.detail
        text = words if isinstance(words, str) else self.body.decode()
        return text[:MAX_DETAIL_CHARACTERS]

    def is_success(self, *statuses: int) -> bool:
        """Return whether the service itself succeeded with one of `statuses`."""
        is_from_service = not self.body or _is_json(self.body)
        return self.status in statuses and is_from_service


def decode(body: bytes, shape: type[T]) -> T:
    """Return JSON, as text: msgspec does not check bytes of fields that it ignores."""
    return msgspec.json.decode(body.decode(), type=shape)


class _Refusal(Struct):
    detail: str | list[object] | dict[str, object]


def _is_json(body: bytes) -> bool:
    try:
        decode(body, object)
    except UNDECODABLE:
        return False
    return True
