"""The bare framework: a function that does nothing. What any other could do at most."""

from typing import Any

import functions_framework
from flask import Request


@functions_framework.http
def hello(_request: Request) -> dict[str, Any]:
    """Return a small JSON object; the framework's target."""
    return {"status": "ok"}
