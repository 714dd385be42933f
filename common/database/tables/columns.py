"""Columns that many tables have, and the names of constraints and indexes."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    MetaData,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
    }
)


def identity() -> "Column[int]":
    """Return the column `id`, the primary key."""
    # BY DEFAULT: ids are reserved from the sequence before the row is written, so that
    # the same statement can store events and a response that contain them.
    return Column("id", BigInteger, Identity(always=False), primary_key=True)


def order_id() -> "Column[int]":
    """Return the column of the order whose row this is, and goes with."""
    of_order = ForeignKey("orders.id", ondelete="CASCADE")
    return Column("order_id", BigInteger, of_order, nullable=False)


def timestamp(name: str, *, nullable: bool = False) -> "Column[object]":
    """Return a column of moments: when the row was written, or null at first."""
    default = None if nullable else text("clock_timestamp()")
    return Column(
        name, DateTime(timezone=True), nullable=nullable, server_default=default
    )
