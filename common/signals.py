"""Signals: how far behind events and approvals are, as one log line a minute.

Lives here: measuring it, and the line. Not here: what each order or event waits for
(`diagnosis.py`), when an operator is called. Surprise: `infra/terraform/alerts.tf`
takes its numbers from this line by the names of the fields, so a renamed field is an
alarm that stays silent; a test holds the two together.
"""

from msgspec import Struct, structs

from common import logs
from common.db import Engine, connect, named

log = logs.get("signals")

MESSAGE = "backlog"
_LOOKED_AT = 100  # complete orders
_MANY = 500  # where counting ends


class Signals(Struct, frozen=True):
    """What remains after a relay's pass; ages in seconds, 0 where nothing waits.

    Dead letters are counted to 500. `approved_by_sweep`: orders whose trigger was
    lost or late, or that had none.
    """

    oldest_event_seconds: int
    oldest_event_destination: str | None
    oldest_unapproved_seconds: int
    open_dead_letters: int
    approved_by_sweep: int


_AGE = "CAST(greatest(extract(epoch FROM now() - {}), 0) AS bigint)"
# What is sent once more is as old as what happened, and waits since an operator's word.
_MEASURE = named(
    "signals.measure",
    f"""
WITH oldest AS MATERIALIZED (
  SELECT e.destination, {_AGE.format("e.created_at")} AS seconds FROM outbox e
  WHERE NOT e.is_resend ORDER BY e.id LIMIT 1
),
complete AS MATERIALIZED (
  SELECT o.id, o.created_at FROM orders o
  WHERE o.is_complete AND NOT o.is_approved ORDER BY o.id LIMIT {_LOOKED_AT}
)
SELECT
  coalesce((SELECT seconds FROM oldest), 0),
  (SELECT destination FROM oldest),
  coalesce((SELECT max({_AGE.format("since")}) FROM (
    SELECT coalesce((SELECT h.changed_at FROM order_history h
      WHERE h.order_id = c.id ORDER BY h.id DESC LIMIT 1), c.created_at) AS since
    FROM complete c) AS changed), 0),
  (SELECT count(*) FROM (SELECT FROM dead_letters
    WHERE settled_as IS NULL LIMIT {_MANY}) AS counted)
""",  # noqa: S608 fragments of our own
)


def tell(engine: Engine, approved_by_sweep: int) -> None:
    """Log how far behind everything is.

    Raises DatabaseUnavailableError or BusyError, and logs nothing then.
    """
    with connect(engine) as connection:
        age, destination, unapproved_age, letters = connection.execute(_MEASURE).one()
    signals = Signals(
        oldest_event_seconds=age,
        oldest_event_destination=destination,
        oldest_unapproved_seconds=unapproved_age,
        open_dead_letters=letters,
        approved_by_sweep=approved_by_sweep,
    )
    log.info(MESSAGE, extra={"fields": structs.asdict(signals)})
