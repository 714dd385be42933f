"""A stand-in for what Cloud SQL's connector asks of Google: tokens, and the Admin API.

Lives here: tokens for an account's key, an instance's connect settings, certificates
for a client's key. Not here: the instance itself (`cloud_sql_server.py`). Surprise: a
certificate that was asked for with a login token lets its bearer in without a password;
the server reads that from `logins`, Cloud SQL's own from the certificate.
"""

import contextlib
import json
import threading
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tests.support.cloud_sql_keys import Authority

SCOPE = "https://www.googleapis.com/auth/sqlservice."
Answer = tuple[int, dict[str, Any]]


@dataclass
class Known:
    """What Google knows, to be changed by tests: the next answer says so."""

    project: str
    region: str
    instance: str
    account: str
    account_key: rsa.RSAPublicKey
    addresses: dict[str, str]
    server_ca: str
    clients: Authority
    version: str = "POSTGRES_16"
    certificate_seconds: float = 3600
    tokens: dict[str, str] = field(default_factory=dict)  # their scopes
    logins: dict[int, str] = field(default_factory=dict)  # by certificate


@dataclass(frozen=True)
class Asked:
    """One request that came in."""

    path: str
    agent: str


class Api:
    """Answers at `url`, which stays the same while it is away and back."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.asked: list[Asked] = []
        self.refusal: tuple[int, str] | None = None  # a status and its message
        self._hold: threading.Event | None = None
        self._holds: list[threading.Event] = []
        self._holds_tokens = False
        self._server = self._serve(0)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def count(self, ending: str) -> int:
        """Answer how often was asked for what so ends."""
        return sum(each.path.endswith(ending) for each in self.asked)

    def go_away(self) -> None:
        """Let nobody in until `come_back`."""
        self._server.shutdown()
        self._server.server_close()

    def come_back(self) -> None:
        """Answer again."""
        self._server = self._serve(self.port)

    def hold(self, *, tokens: bool = False) -> None:
        """Leave who asks the Admin API, or for `tokens`, without an answer from now."""
        self._hold = threading.Event()
        self._holds_tokens = tokens
        self._holds.append(self._hold)

    def resume(self) -> None:
        """Answer who asks from now on; who waits goes on waiting."""
        self._hold = None

    def release(self) -> None:
        """Answer who waits, and who asks from now on."""
        self.resume()
        for hold in self._holds:
            hold.set()

    def close(self) -> None:
        """Stop for good."""
        self.release()
        self.go_away()

    def _serve(self, port: int) -> ThreadingHTTPServer:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(b"")

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers["Content-Length"])))

            def _answer(self, body: bytes) -> None:
                api.asked.append(Asked(self.path, self.headers.get("User-Agent", "")))
                if (hold := api._hold) and (api._holds_tokens or self.path != "/token"):
                    hold.wait(30)
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                status, answer = api.answer(self.path, token, body)
                content = json.dumps(answer).encode()
                with contextlib.suppress(OSError):  # who asked may have gone
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 its own
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        server.daemon_threads = True
        serve = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        serve.start()
        return server

    def answer(self, path: str, token: str, body: bytes) -> Answer:
        """Answer a request, if its bearer may ask."""
        if path == "/token":
            return self._token(body)
        if self.refusal is not None:
            return _error(*self.refusal)
        known = self.known
        if known.tokens.get(token) != f"{SCOPE}admin":
            return _error(401, "Request had invalid authentication credentials.")
        instances = f"/sql/v1beta4/projects/{known.project}/instances/"
        if path == f"{instances}{known.instance}/connectSettings":
            return self._settings()
        if path == f"{instances}{known.instance}:generateEphemeralCert":
            return self._certificate(json.loads(body))
        return _error(404, "The Cloud SQL instance does not exist.")

    def _token(self, body: bytes) -> Answer:
        """Answer a token for what an account's key has signed (RFC 7523)."""
        form = parse_qs(body.decode())
        try:
            claims = jwt.decode(
                form["assertion"][0],
                self.known.account_key,
                algorithms=["RS256"],
                audience="https://oauth2.googleapis.com/token",
            )
        except jwt.InvalidTokenError:
            return 400, {"error": "invalid_grant", "error_description": "no"}
        if claims["iss"] != self.known.account:
            return 400, {"error": "invalid_grant", "error_description": "no"}
        token = f"ya29.{uuid.uuid4().hex}"
        self.known.tokens[token] = claims["scope"]
        given = {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}
        return 200, given

    def _settings(self) -> Answer:
        known = self.known
        addresses = [
            {"type": kind, "ipAddress": address}
            for kind, address in known.addresses.items()
            if kind != "PSC"
        ]
        answer: dict[str, Any] = {
            "kind": "sql#connectSettings",
            "region": known.region,
            "databaseVersion": known.version,
            "backendType": "SECOND_GEN",
            "ipAddresses": addresses,
            "serverCaCert": {"cert": known.server_ca},
        }
        if name := known.addresses.get("PSC"):
            entry = {"connectionType": "PRIVATE_SERVICE_CONNECT"}
            entry |= {"dnsScope": "INSTANCE", "name": f"{name}."}
            answer |= {"pscEnabled": True, "dnsNames": [entry]}
        return 200, answer

    def _certificate(self, request: dict[str, str]) -> Answer:
        known = self.known
        key = load_pem_public_key(request["public_key"].encode())
        assert isinstance(key, rsa.RSAPublicKey)
        login = request.get("access_token")
        if login is not None and known.tokens.get(login) != f"{SCOPE}login":
            return _error(400, "The access token is not one for logins.")
        signed, serial = known.clients.sign("client", key, known.certificate_seconds)
        if login is not None:
            known.logins[serial] = known.account
        return 200, {"ephemeralCert": {"cert": signed}}


def _error(status: int, message: str) -> Answer:
    return status, {"error": {"code": status, "message": message}}
