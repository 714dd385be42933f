"""Placeholders: numbers in place of ids that the saving statement will draw.

Lives here: making them, and turning a text that holds them into one with real values,
here or in PostgreSQL. Not here: the statement that draws (`changes.py`). Surprise: they
are ints like any id, so that rules, events and replies are made before there are ids,
and nothing but the last step knows the difference.
"""

import random
import re
from datetime import datetime

from msgspec import Struct

# Nineteen digits that nobody can foresee: no id, price or caller's text has them.
_PREFIX = str(random.SystemRandom().randrange(10**12, 9 * 10**12))
_DIGITS = 6
_HOLE = re.compile(rf"{_PREFIX}(\d{{{_DIGITS}}})")
_FIRST = int(_PREFIX) * 10**_DIGITS
_MOMENT, _ORDER, _ITEMS = 1, 2, 3  # places in the list of values, the first is 1


class Ids(Struct, frozen=True):
    """An order's id, its new items' ids, and the moment (RFC 3339) they came to be."""

    order_id: int
    item_ids: list[int]
    at: str

    @property
    def moment(self) -> datetime:
        """Answer the moment as a time; aware, UTC."""
        return datetime.fromisoformat(self.at)


def placeholders(items: int, order_id: int | None = None) -> Ids:
    """Answer placeholders for a moment, `items` items, and an order if it is new."""
    return Ids(
        order_id=_FIRST + _ORDER if order_id is None else order_id,
        item_ids=[_FIRST + _ITEMS + n for n in range(items)],
        at=str(_FIRST + _MOMENT),
    )


def place(number: int) -> int | None:
    """Answer which of the new items a placeholder stands for, 1 for the first."""
    return number - _FIRST - _ITEMS + 1 if number > _FIRST else None


def template(text: str) -> str:
    """Answer `text` for PostgreSQL's `format()`, whose arguments are `values`."""
    return _HOLE.sub(lambda hole: f"%{int(hole[1])}$s", text.replace("%", "%%"))


def fill(text: str, ids: Ids) -> str:
    """Answer `text` with what was drawn."""
    values = [ids.at, str(ids.order_id), *map(str, ids.item_ids)]
    return _HOLE.sub(lambda hole: values[int(hole[1]) - 1], text)


# The arguments that `template` counts on, made of `at`, `order_id` and `item_ids`.
VALUES = "ARRAY[{moment}, CAST({order_id} AS text)] || CAST({item_ids} AS text[])"
