"""Headers that a gateway adds: signed tokens, and API Gateway's claims.

Any claim can be replaced, or left out with None.
"""

import base64
import json
import time
from typing import Any

import jwt

SECRET = "the gateway's own secret, 40 letters long"


def bearer(
    user: str, *, secret: str = SECRET, algorithm: str = "HS256", **claims: Any
) -> dict[str, str]:
    """Return the header Authorization with a token of the user's."""
    named = {"sub": user, "exp": int(time.time()) + 600} | claims
    kept = {name: value for name, value in named.items() if value is not None}
    return {"Authorization": f"Bearer {jwt.encode(kept, secret, algorithm)}"}


def userinfo(**claims: Any) -> dict[str, str]:
    """Return the header that Google API Gateway adds, unpadded as it sends it."""
    encoded = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()
    return {"X-Apigateway-Api-Userinfo": encoded.rstrip("=")}
