"""The tables, as SQLAlchemy Core sees them.

Lives here: columns, constraints, indexes; alembic compares them with the migrations.
Not here: statements (`store.py`, `outbox.py`, `idempotency.py`). Surprise: an order's
`version` moves with every change of the order *or of any of its items*; it is what
makes concurrent changes of one order exclude each other.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
    }
)


def _identity() -> "Column[int]":
    # BY DEFAULT: ids are reserved from the sequence before the row is written,
    # so that events and the stored answer can name them in the same statement.
    return Column("id", BigInteger, Identity(always=False), primary_key=True)


def _moment(name: str, *, nullable: bool = False) -> "Column[object]":
    default = None if nullable else text("clock_timestamp()")
    return Column(
        name, DateTime(timezone=True), nullable=nullable, server_default=default
    )


orders = Table(
    "orders",
    metadata,
    _identity(),
    Column("user_id", Uuid, nullable=False),
    _moment("created_at"),
    # Has items, and all of them are final. Kept by every write of the order, so that
    # the sweep finds forgotten approvals without reading items.
    Column("is_complete", Boolean, nullable=False, server_default=false()),
    Column("is_approved", Boolean, nullable=False, server_default=false()),
    _moment("approved_at", nullable=True),
    Column("metadata", JSONB, nullable=False, server_default=text("'{}'")),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    CheckConstraint("version > 0", name="version"),
    CheckConstraint("is_approved = (approved_at IS NOT NULL)", name="approved_at"),
    CheckConstraint("is_complete OR NOT is_approved", name="approved_is_complete"),
    CheckConstraint("jsonb_typeof(metadata) = 'object'", name="metadata"),
    Index(None, "user_id", "id"),  # a caller's list, newest first
    Index(  # the sweep: complete, and nobody approved it
        "orders_unapproved_idx",
        "id",
        postgresql_where=text("is_complete AND NOT is_approved"),
    ),
)

order_items = Table(
    "order_items",
    metadata,
    _identity(),
    Column(
        "order_id",
        BigInteger,
        ForeignKey("orders.id", ondelete="CASCADE"),
        nullable=False,
    ),
    # The order's, which never changes: lists of items need no join.
    Column("user_id", Uuid, nullable=False),
    Column("status", SmallInteger, nullable=False, server_default=text("1")),
    Column("quantity", Integer, nullable=False),
    Column("product_variation", Uuid, nullable=False),
    Column("product_id", Uuid),
    Column("shop_id", Uuid),
    Column("price", BigInteger, nullable=False),  # minor units
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    CheckConstraint("status BETWEEN 1 AND 4", name="status"),
    CheckConstraint("quantity BETWEEN 1 AND 10000", name="quantity"),
    CheckConstraint("price >= 0", name="price"),
    CheckConstraint("version > 0", name="version"),
    Index(None, "order_id", "id"),
    Index(None, "user_id", "id"),
)

item_history = Table(
    "item_history",
    metadata,
    _identity(),
    # No foreign keys: what happened stays known after an order is deleted.
    Column("order_id", BigInteger, nullable=False),
    Column("item_id", BigInteger, nullable=False),
    Column("from_status", SmallInteger),  # null: the item was created
    Column("to_status", SmallInteger, nullable=False),
    Column("changed_by", Uuid),  # null: the service itself
    _moment("changed_at"),
    Column("request_id", Text),
    CheckConstraint("from_status BETWEEN 1 AND 4", name="from_status"),
    CheckConstraint("to_status BETWEEN 1 AND 4", name="to_status"),
    Index(None, "order_id", "id"),
)

outbox = Table(
    "outbox",
    metadata,
    _identity(),
    Column("destination", Text, nullable=False),
    Column("order_id", BigInteger, nullable=False),
    Column("event_id", Uuid, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("body", Text, nullable=False),  # to the byte what is sent
    Column("traceparent", Text),
    _moment("created_at"),
    # Not before. A claim moves it ahead, so that no other relay takes the row.
    _moment("available_at"),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    # Set while an attempt runs. Still set when the claim has run out: in doubt.
    _moment("sending_since", nullable=True),
    Column("last_error", Text),
    Index(None, "destination", "order_id", "id"),  # first in, first out
)

idempotency_records = Table(
    "idempotency_records",
    metadata,
    Column("user_id", Uuid, nullable=False),
    Column(
        "scope", Text, nullable=False
    ),  # 'key': a caller's header; 'cart': its lines
    Column("key", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("body", Text, nullable=False),
    # A cart's record lives as long as its order; a key's record does not need one.
    Column("order_id", BigInteger, ForeignKey("orders.id", ondelete="CASCADE")),
    _moment("created_at"),
    _moment("expires_at", nullable=True),
    PrimaryKeyConstraint("user_id", "scope", "key"),
    CheckConstraint("scope IN ('key', 'cart')", name="scope"),
    CheckConstraint("scope <> 'cart' OR order_id IS NOT NULL", name="cart_has_order"),
    Index(None, "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    Index(None, "order_id", postgresql_where=text("order_id IS NOT NULL")),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    _identity(),
    Column("source", Text, nullable=False),  # 'outbox', 'approval'
    Column("reason", Text, nullable=False),
    Column("destination", Text),
    Column("order_id", BigInteger),
    Column("event_id", Text),
    Column("event_type", Text),
    Column("headers", JSONB, nullable=False, server_default=text("'{}'")),
    Column("body", LargeBinary, nullable=False),  # what arrived, whatever it was
    _moment("created_at"),
    CheckConstraint("source IN ('outbox', 'approval')", name="source"),
    Index(None, "order_id", postgresql_where=text("order_id IS NOT NULL")),
)
