"""Identity-Aware Proxy for tests: signed assertions, and a server of public keys."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from werkzeug.wrappers import Request, Response

from infra.local.http_server import serving

AUDIENCE = "/projects/123/locations/europe-west1/services/ops-console"
KEY_ID = "key-1"


class Iap:
    """Signs as Google does; `asked` counts who fetched the keys, from `url`."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.url = ""
        self.asked = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def keys(self) -> str:
        """Return the public keys in PEM, by id."""
        pem = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return json.dumps({KEY_ID: pem.decode()})

    def assertion(
        self, email: str, *, key: object = None, kid: str = KEY_ID, **claims: Any
    ) -> str:
        """Return a signed header's value; a claim that is None is left out."""
        now = int(time.time())
        said = {
            "iss": "https://cloud.google.com/iap",
            "aud": AUDIENCE,
            "sub": "accounts.google.com:118",
            "email": email,
            "iat": now,
            "exp": now + 600,
        } | claims
        kept = {name: value for name, value in said.items() if value is not None}
        signer: Any = key or self.key
        return jwt.encode(kept, signer, algorithm="ES256", headers={"kid": kid})


@contextmanager
def running_iap() -> Iterator[Iap]:
    """Yield it, its keys served on loopback while the block runs."""
    iap = Iap()

    @Request.application
    def tell(_request: Request) -> Response:
        iap.asked += 1
        iap.may_answer.wait(10)
        return Response(iap.keys(), mimetype="application/json")

    with serving(tell) as url:
        iap.url = f"{url}/keys"
        yield iap
