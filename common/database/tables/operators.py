"""The tables that operators alone read: what relays report, and what operators did."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from common.database.tables.columns import identity, metadata, timestamp

# What the last relay that swept a destination found: `messaging/destination.py`.
destination_reports = Table(
    "destination_reports",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("served_by", Text, nullable=False),
    Column("served_at", DateTime(timezone=True), nullable=False),
    Column("last_error", Text),  # null: the last attempt succeeded
    timestamp("failed_at", nullable=True),
    timestamp("next_try_at", nullable=True),
)

# What operators did, in the console or with `orderctl`, and why. Never updated once the
# outcome is known, and never deleted; without foreign keys, so that it outlives orders
# and dead letters.
operator_actions = Table(
    "operator_actions",
    metadata,
    identity(),
    Column("form_id", Uuid, nullable=False),  # one form, one action
    timestamp("at"),
    Column("operator", Text, nullable=False),  # an e-mail address, or a login
    Column("action", Text, nullable=False),
    Column("order_id", BigInteger),
    # The action's arguments: item, dead letter, event, the new value.
    Column("given", JSONB, nullable=False, server_default=text("'{}'")),
    Column("reason", Text, nullable=False),
    Column("request_id", Text),
    # 'begun' if it is unknown how it ended.
    Column("outcome", Text, nullable=False, server_default=text("'begun'")),
    CheckConstraint("jsonb_typeof(given) = 'object'", name="given"),
    CheckConstraint("reason <> ''", name="reason"),
    Index(None, "order_id", "id", postgresql_where=text("order_id IS NOT NULL")),
    UniqueConstraint("form_id"),
)
