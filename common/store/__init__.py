"""All SQL about orders: loading, writing, reading."""
