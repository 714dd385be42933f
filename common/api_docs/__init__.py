"""The documents of the API and its events, and their pages."""
