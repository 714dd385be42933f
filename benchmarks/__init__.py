"""Benchmarks: how fast, and beside which ceiling. Not packaged, and no tests."""
