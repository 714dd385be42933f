"""What Google's API Gateway is configured with: an OpenAPI document of its own.

Lives here: making it (`document.py`), and the command (`__main__.py`). Not here: the
platform's own gateway, which needs none; docs/gateway.md tells of both. No surprise.
"""
