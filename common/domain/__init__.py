"""Rules of orders and checkouts: pure functions on plain structs."""
