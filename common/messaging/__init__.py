"""The outbox, the relay that empties it, incoming events, dead letters."""
