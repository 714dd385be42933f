"""What keeps it running: audit, diagnosis, the log of events, retention."""
