"""One request of one client: when it was sent, when and how it was answered."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

NEVER = math.inf
# After these it is not known whether anything was done, now or later.
UNCERTAIN = (500, 502, 503, 504)


@dataclass(frozen=True)
class Answer:
    """What came back; `version` is the ETag's."""

    status: int
    body: Any = None
    version: int | None = None
    is_replayed: bool = False
    next: str = ""  # the query of the next page

    @property
    def order(self) -> Any:
        """Return the order in the body of a created or read order."""
        return (
            self.body.get("order", self.body)
            if "items_count" in self.body
            else self.body
        )

    @property
    def problem(self) -> str:
        """Return the name of the problem that the body tells of, if it does."""
        if not isinstance(self.body, dict):
            return ""
        return str(self.body.get("type", "")).rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A request; `answer` is None where the connection was cut before it came.

    `returned` is NEVER then: what was asked may happen at any later moment, or never.
    """

    client: str
    user_id: str
    kind: str  # a name of `model.RULES`, or "list"
    invoked: float
    returned: float = NEVER
    answer: Answer | None = None
    order_id: int | None = None
    item_id: int | None = None
    key: str = ""  # the Idempotency-Key
    lines: tuple[str, ...] = ()  # the variations of an order by hand
    status: int | None = None  # asked for by a shop
    if_match: int | None = None
    if_none_match: int | None = None
    query: str = ""  # of a page
    below: int | None = None  # of a page: the smallest id of the page before

    @property
    def is_known(self) -> bool:
        """Return whether it is known what came of it."""
        return self.answer is not None


def parsed(status: int, headers: Mapping[str, str], content: bytes) -> Answer | None:
    """Return the answer, None if it leaves open whether anything was done."""
    if status in UNCERTAIN:
        return None
    tag = headers.get("etag", "").strip('"')
    return Answer(
        status,
        json.loads(content) if content else None,
        int(tag) if tag.isdigit() else None,
        is_replayed=headers.get("idempotency-replayed") == "true",
        next=urlsplit(headers.get("link", "").partition(">")[0].strip("<")).query,
    )
