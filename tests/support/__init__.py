"""What several tests share: databases, the broker, clients, and faults on purpose."""
