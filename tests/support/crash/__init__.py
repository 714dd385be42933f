"""Killing processes on purpose, at every point where a crash could lose something.

Lives here: processes that die on demand (`nursery`), the world around them (`world`),
what they do when they die (`scenarios`). Not here: the assertion that nothing was lost
(`tests/faults/test_crashes.py`).
"""
