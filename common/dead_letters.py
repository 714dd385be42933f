"""Dead letters: what can never succeed is kept here, for an operator to see.

Lives here: keeping one. Not here: the outbox's own, which move in the statement that
settles an attempt (`outbox.py`). Surprise: the body is kept as bytes, because what
arrives broken need not be text.
"""

from collections.abc import Mapping

from msgspec import Struct
from sqlalchemy import Connection, insert

from common import logs
from common.models import dead_letters

log = logs.get("dead_letters")


class DeadLetter(Struct, frozen=True):
    """A message that was given up, and why; `source` is 'approval' or 'outbox'."""

    source: str
    reason: str
    body: bytes
    headers: Mapping[str, str]
    event_id: str | None = None
    event_type: str | None = None
    order_id: int | None = None


def bury(connection: Connection, letter: DeadLetter) -> None:
    """Keep the letter, and say so loudly enough for an alarm."""
    connection.execute(
        insert(dead_letters).values(
            source=letter.source,
            reason=letter.reason,
            body=letter.body,
            # PostgreSQL's JSON has no NUL; AMQP headers may.
            headers={k: v.replace("\0", "\ufffd") for k, v in letter.headers.items()},
            event_id=letter.event_id,
            event_type=letter.event_type,
            order_id=letter.order_id,
        )
    )
    fields = {"source": letter.source, "reason": letter.reason}
    log.error("a message became a dead letter", extra={"fields": fields})
