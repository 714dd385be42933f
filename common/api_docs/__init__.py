"""The documents that describe the API and the events, and how to read them."""
