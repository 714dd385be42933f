"""HTTP: the Flask app, requests, replies, callers, problems."""
