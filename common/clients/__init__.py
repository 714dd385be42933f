"""Calls to sibling services: what is asked, and what their responses mean."""
