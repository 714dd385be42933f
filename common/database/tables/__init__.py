"""The tables in SQLAlchemy Core; Alembic compares them with the migrations.

An order's `version` increases with every change of the order *or of any of its items*,
which is how concurrent changes of one order exclude each other.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, BIT, JSONB

from common.database.tables.columns import identity, metadata, order_id, timestamp
from common.database.tables.operators import (  # noqa: F401 the rest of the tables
    destination_reports,
    operator_actions,
)

orders = Table(
    "orders",
    metadata,
    identity(),
    Column("user_id", Uuid, nullable=False),
    timestamp("created_at"),
    # Has items, and all of them are final. Every write of the order updates it, so that
    # the sweep finds missed approvals without reading items.
    Column("is_complete", Boolean, nullable=False, server_default=false()),
    Column("is_approved", Boolean, nullable=False, server_default=false()),
    timestamp("approved_at", nullable=True),
    Column("metadata", JSONB, nullable=False, server_default=text("'{}'")),
    # The cart it came from; null: created by `POST /api/orders/`.
    Column("cart_id", BigInteger),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    CheckConstraint("version > 0", name="version"),
    CheckConstraint("is_approved = (approved_at IS NOT NULL)", name="approved_at"),
    CheckConstraint("is_complete OR NOT is_approved", name="approved_is_complete"),
    CheckConstraint("jsonb_typeof(metadata) = 'object'", name="metadata"),
    Index(None, "user_id", "id"),  # a caller's list, newest first
    Index(None, "user_id", "is_approved", "id"),  # the same of (un)approved ones
    Index(  # an operator's search
        None,
        "metadata",
        postgresql_using="gin",
        postgresql_where=text("metadata <> '{}'"),
    ),
    Index(  # the sweep: complete, but not approved
        "orders_unapproved_idx",
        "id",
        postgresql_where=text("is_complete AND NOT is_approved"),
    ),
)

order_items = Table(
    "order_items",
    metadata,
    identity(),
    order_id(),
    # Copied from the order, whose owner never changes: lists of items need no join.
    Column("user_id", Uuid, nullable=False),
    Column("status", SmallInteger, nullable=False, server_default=text("1")),
    Column("quantity", Integer, nullable=False),
    Column("product_variation", Uuid, nullable=False),
    Column("product_id", Uuid),
    Column("shop_id", Uuid),
    Column("price", BigInteger, nullable=False),  # minor units
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("title", Text),  # the product's, when it was ordered; for operators
    CheckConstraint("status BETWEEN 1 AND 4", name="status"),
    CheckConstraint("quantity BETWEEN 1 AND 10000", name="quantity"),
    CheckConstraint("price >= 0", name="price"),
    CheckConstraint("version > 0", name="version"),
    Index(None, "order_id", "id"),
    Index(None, "user_id", "id"),
    Index(None, "shop_id", "order_id"),  # an operator's search, as the next one
    Index(None, "product_variation", "order_id"),
)

# Items as they were when they, or their orders, were deleted: the shops still have rows
# of them. Kept for good, like the history.
deleted_items = Table(
    "deleted_items",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),  # the item's
    Column("order_id", BigInteger, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("product_variation", Uuid, nullable=False),
    Column("product_id", Uuid),
    Column("shop_id", Uuid),
    Column("price", BigInteger, nullable=False),  # minor units
)

# What happened to an order, and which event announced it where: `orderctl audit`
# compares everything else with it. Never updated, but for who a user was when they are
# erased (`operations/lookup/users.py`); without foreign keys, so that it
# outlives the order.
order_history = Table(
    "order_history",
    metadata,
    identity(),
    Column("order_id", BigInteger, nullable=False),
    # Of the order itself: 'order.created', 'order.approved', 'order.deleted'. Of one of
    # its items: 'item.created', 'item.moved', 'item.removed', 'item.changed' (its
    # quantity), and 'item.taken' (from stock, after it was added to an order).
    Column("kind", Text, nullable=False),
    Column("item_id", BigInteger),
    Column("from_status", SmallInteger),  # null: the item was created
    Column("to_status", SmallInteger),
    # Null: the service itself. An operator's is derived from their e-mail address.
    Column("changed_by", Uuid),
    timestamp("changed_at"),
    Column("request_id", Text),
    # The event that announced it, and its destinations; null and empty without one.
    Column("event_id", Uuid),
    Column("destinations", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    # 'user', 'shop' (by a token's claim), 'internal' (the shop service), 'system',
    # 'operator'. Null, like quantities, in rows written before these columns existed.
    Column("actor_kind", Text),
    Column("from_quantity", Integer),
    Column("to_quantity", Integer),
    # Of the event's body: the first half of its SHA-256. Analytics gets another body.
    Column("event_digest", LargeBinary),
    CheckConstraint(
        "kind IN ('order.created', 'order.approved', 'order.deleted',"
        " 'item.created', 'item.moved', 'item.removed', 'item.changed',"
        " 'item.taken')",
        name="kind",
    ),
    CheckConstraint("(kind LIKE 'item.%') = (item_id IS NOT NULL)", name="item_id"),
    CheckConstraint("from_status BETWEEN 1 AND 4", name="from_status"),
    CheckConstraint("to_status BETWEEN 1 AND 4", name="to_status"),
    CheckConstraint(
        "actor_kind IN ('user', 'shop', 'internal', 'system', 'operator')",
        name="actor_kind",
    ),
    CheckConstraint("from_quantity BETWEEN 1 AND 10000", name="from_quantity"),
    CheckConstraint("to_quantity BETWEEN 1 AND 10000", name="to_quantity"),
    CheckConstraint("(event_id IS NULL) = (destinations = '{}')", name="destinations"),
    Index(None, "order_id", "id"),
    Index(None, "event_id", postgresql_using="hash"),  # an operator's search
    Index(None, "request_id", postgresql_using="hash"),
)


def _event_columns() -> "list[Column[object]]":
    return [
        Column("destination", Text, nullable=False),
        Column("order_id", BigInteger, nullable=False),
        Column("event_id", Uuid, nullable=False),
        Column("event_type", Text, nullable=False),
        Column("body", Text, nullable=False),  # exactly the bytes to send
        Column("traceparent", Text),
        timestamp("created_at"),
        Column("attempts", Integer, nullable=False, server_default=text("0")),
        # Attempts whose outcome is unknown.
        Column("doubts", Integer, nullable=False, server_default=text("0")),
        # Sent once more at an operator's request.
        Column("is_resend", Boolean, nullable=False, server_default=false()),
    ]


outbox = Table(
    "outbox",
    metadata,
    identity(),
    *_event_columns(),
    # Not sent before. A claim postpones it, so that no other relay claims the row.
    timestamp("available_at"),
    # Set during an attempt. If it is still set when the claim has run out: in doubt.
    timestamp("sending_since", nullable=True),
    # In doubt, and left to an operator; the order's later events wait behind it.
    timestamp("held_since", nullable=True),
    Column("last_error", Text),
    timestamp("failed_at", nullable=True),  # when the last attempt did
    # Each condition that statements use fits one of the indexes and no other: by order,
    # by what is due, by id. While a snapshot is held, dead rows stay, and statistics
    # say that the table is empty; every index then looks equally cheap to the planner,
    # and the wrong one leads over all that is dead. `id + 0` is no condition on `id`.
    Index("outbox_order_idx", "order_id", text("(id + 0)")),  # first in, first out
    Index(  # what is due
        "outbox_due_idx",
        "destination",
        "available_at",
        "id",
        postgresql_where=text("held_since IS NULL"),
    ),
    Index("outbox_held_idx", "id", postgresql_where=text("held_since IS NOT NULL")),
    Index("outbox_failed_idx", "id", postgresql_where=text("last_error IS NOT NULL")),
)

# From when on rows of a destination may be due: what is older was sent, or is held. So
# no claim passes over all that is dead; `messaging/marks.py` moves it.
outbox_marks = Table(
    "outbox_marks",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("due_from", DateTime(timezone=True), nullable=False),
)

# Rows move here from the outbox when their destination has confirmed them.
sent_events = Table(
    "sent_events",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),  # the outbox's
    *_event_columns(),
    timestamp("sent_at"),
    Index(None, "order_id", "id"),
)

# The orders of which the history knew something, a bit for each of 1024 ids:
# `store/seals.py`.
ledger_seals = Table(
    "ledger_seals",
    metadata,
    Column("block", BigInteger, primary_key=True, autoincrement=False),
    Column("orders", BIT(1024), nullable=False),
)

# Since when a table is complete; older rows may have been deleted, or lack columns.
retention = Table(
    "retention",
    metadata,
    Column("table_name", Text, primary_key=True),
    Column("kept_from", DateTime(timezone=True), nullable=False),
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
    timestamp("created_at"),
    timestamp("expires_at", nullable=True),
    PrimaryKeyConstraint("user_id", "scope", "key"),
    CheckConstraint("scope IN ('key', 'cart')", name="scope"),
    CheckConstraint("scope <> 'cart' OR order_id IS NOT NULL", name="cart_has_order"),
    Index(None, "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    Index(None, "order_id", postgresql_where=text("order_id IS NOT NULL")),
)

# The cart lines of orders: each is ordered once. A line's id is the shopcart service's,
# which gives a line that is added again a new one.
ordered_lines = Table(
    "ordered_lines",
    metadata,
    Column("user_id", Uuid, nullable=False),
    Column("line_id", BigInteger, nullable=False),
    order_id(),
    PrimaryKeyConstraint("user_id", "line_id"),
    Index(None, "order_id"),
)

# No longer used, except by the previous version while both run: its relay deletes from
# it each minute, and with rate limits each request writes to it. So a migration of the
# next version has to drop it.
user_requests = Table(
    "user_requests",
    metadata,
    Column("user_id", Uuid, primary_key=True),
    Column("requests", Integer, nullable=False),
    Column("window_ends_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("requests > 0", name="requests"),
    Index(None, "window_ends_at"),
    prefixes=["UNLOGGED"],
)

dead_letters = Table(
    "dead_letters",
    metadata,
    identity(),
    Column("source", Text, nullable=False),  # 'outbox', 'approval'
    Column("reason", Text, nullable=False),
    Column("destination", Text),
    Column("order_id", BigInteger),
    Column("event_id", Text),
    Column("event_type", Text),
    Column("headers", JSONB, nullable=False, server_default=text("'{}'")),
    Column("body", LargeBinary, nullable=False),  # as it arrived
    timestamp("created_at"),
    # Null while open; else what an operator did: 'replayed', 'discarded'.
    Column("settled_as", Text),
    timestamp("settled_at", nullable=True),
    CheckConstraint("source IN ('outbox', 'approval')", name="source"),
    CheckConstraint("settled_as IN ('replayed', 'discarded')", name="settled_as"),
    CheckConstraint("(settled_as IS NULL) = (settled_at IS NULL)", name="settled_at"),
    Index("dead_letters_open_idx", "id", postgresql_where=text("settled_as IS NULL")),
    Index(  # for retention
        None, "settled_at", postgresql_where=text("settled_at IS NOT NULL")
    ),
    Index(None, "order_id", postgresql_where=text("order_id IS NOT NULL")),
    Index(None, "event_id", postgresql_using="hash"),  # an operator's search
)

# What orders took of a stock that the product service may not have lowered yet:
# `store/holds.py`. Without foreign keys, so that it outlives its order and its item.
stock_holds = Table(
    "stock_holds",
    metadata,
    identity(),
    Column("order_id", BigInteger, nullable=False),
    Column("item_id", BigInteger, nullable=False),
    Column("event_id", Uuid, nullable=False),  # the `order.created` that lowers it
    Column("product_variation", Uuid, nullable=False),
    Column("quantity", Integer, nullable=False),
    # The stock once this and all earlier holds are lowered.
    Column("expected", BigInteger, nullable=False),
    Column("unsent", Integer, nullable=False),  # destinations yet to confirm the event
    timestamp("created_at"),
    timestamp("confirmed_at", nullable=True),  # by all destinations
    timestamp("released_at", nullable=True),  # its item was cancelled or deleted
    # An amount that was read then has shown that it is lowered: it counts no more, but
    # for writes that asked for the amount before.
    timestamp("seen_at", nullable=True),
    # As of `counted_at`, and of later holds: the sum of the quantities that nobody has
    # seen lowered, this one's included, and the highest `expected` of them.
    Column("unseen", BigInteger),
    Column("highest", BigInteger),
    timestamp("counted_at", nullable=True),
    CheckConstraint("quantity > 0", name="quantity"),
    Index(None, "product_variation", "seen_at", "id"),
    Index(None, "order_id"),
)
