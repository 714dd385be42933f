"""All SQL about orders: reads, writes, idempotency keys."""
