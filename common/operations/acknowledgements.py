"""Differences of the audit that an operator has acknowledged: who, when, and why.

Kept for good among the operators' actions. Exactly the difference that was seen is
acknowledged: once it says anything else, it counts again.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from msgspec import Struct, json

from common.database.engine import Connection, named
from common.json import encode

ACTION = "acknowledge"  # in `operator_actions`


class Acknowledgement(Struct, frozen=True):
    """What was acknowledged of an order; `what` and `details` are the difference's."""

    order_id: int
    what: str
    details: dict[str, Any]
    at: datetime
    operator: str
    reason: str


_READ = named(
    "acknowledgements.read",
    f"""
SELECT CAST(coalesce(json_agg(json_build_object('order_id', order_id,
  'what', given -> 'what', 'details', given -> 'details', 'at', at,
  'operator', operator, 'reason', reason) ORDER BY id), '[]') AS text)
FROM operator_actions
WHERE order_id BETWEEN CAST(:low AS bigint) AND CAST(:high AS bigint)
  AND action = '{ACTION}'
""",  # noqa: S608 fragments of our own
)
_RECORD = named(
    "acknowledgements.record",
    f"""
INSERT INTO operator_actions (form_id, operator, action, order_id, given, reason,
  outcome)
SELECT gen_random_uuid(), coalesce(CAST(:operator AS text), current_user), '{ACTION}',
  d.order_id, jsonb_build_object('what', d.what, 'details', d.details),
  CAST(:reason AS text), 'done'
FROM jsonb_to_recordset(CAST(:differences AS jsonb)) AS d(
  order_id bigint, what text, details jsonb)
""",  # noqa: S608 fragments of our own
)


def read(connection: Connection, low: int, high: int) -> list[Acknowledgement]:
    """Return the acknowledgements of a range of orders, oldest first."""
    text = connection.execute(_READ, {"low": low, "high": high}).scalar_one()
    return json.decode(text, type=list[Acknowledgement])


def record(
    connection: Connection,
    differences: Iterable[Struct],
    *,
    reason: str,
    operator: str | None = None,
) -> None:
    """Acknowledge differences; without `operator` it was the database's login."""
    given = {"differences": encode(list(differences)), "reason": reason}
    connection.execute(_RECORD, given | {"operator": operator})
