"""Keep the service running: audit, diagnosis, the event log, retention, lag."""
