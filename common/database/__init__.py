"""PostgreSQL: the engine and its sessions, the tables, their migrations."""
