"""Calls to sibling services, and what their responses mean."""
