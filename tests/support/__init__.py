"""What several tests share: databases, the broker, the network's limits.

Not here: fixtures, which stand in the conftest.py that offers them.
"""
