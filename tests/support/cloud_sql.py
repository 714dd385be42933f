"""A stand-in for Cloud SQL: an instance before the test PostgreSQL, and its Admin API.

The instance speaks TLS and wants a certificate that the API has signed; the rest is
PostgreSQL's. Cloud SQL is on port 3307 wherever it is, so each instance gets loopback
addresses of its own, of which Linux has 16 million.
"""

import contextlib
import functools
import json
import random
import socket
import ssl
import struct
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from werkzeug.wrappers import Request, Response

from common import wiring
from common.config import settings as config
from common.database.engine import Engine
from common.database.migrations import grant
from infra.local.http_server import serving
from tests.support.database import execute, plain_engine
from tests.support.tls import CHUNK, Authority, Fronting, pass_on, private_pem

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PORT = 3307
IP_TYPES = ("PRIVATE", "PRIMARY")  # as the API calls them
PASSWORD = "s3cret-of-orders"
SCOPE = "https://www.googleapis.com/auth/sqlservice."


class Instance(Fronting):
    """Serves at `addresses` by type, and its API at `url`; what it is may be changed.

    `refusal` is a status with which the API refuses, `is_mute` an API, and `is_asleep`
    an instance, that take what comes and say nothing.
    """

    def __init__(self, database_url: str, key_file: Path) -> None:
        unique = uuid.uuid4().hex[:12]
        self.name = f"shop-42:europe-west1:orders-{unique}"
        self.account = f"orders-{unique}@shop-42.iam.gserviceaccount.com"
        self.iam_user = self.account.removesuffix(".gserviceaccount.com")
        self.region, self.version = "europe-west1", "POSTGRES_16"
        self.key_file = key_file
        self.own, self.clients = Authority(), Authority()
        self.asked: list[str] = []  # paths
        self.tokens: dict[str, str] = {}  # their scopes
        self.logins: set[int] = set()  # certificates that let in without a password
        self.served: list[str] = []  # addresses
        self.refusal: int | None = None
        self.is_mute = self.is_asleep = False
        self.released = threading.Event()
        self.url = ""
        self.database = database_url.rpartition("/")[2]
        self._target = urlsplit(database_url)
        listeners = {kind: _listen() for kind in IP_TYPES}
        self.addresses = {kind: s.getsockname()[0] for kind, s in listeners.items()}
        super().__init__(list(listeners.values()))

    def settings(self, **more: str) -> dict[str, str]:
        """Return the variables of a process that logs in as the account."""
        return {
            "CLOUD_SQL_CONNECTION_NAME": self.name,
            "CLOUD_SQL_API_ENDPOINT": self.url,
            "POSTGRES_DB": self.database,
            "POSTGRES_USER": self.iam_user,
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.key_file),
            **more,
        }

    def count(self, ending: str) -> int:
        """Return how often the API was asked for what so ends."""
        return sum(path.endswith(ending) for path in self.asked)

    def serve(self, plain: socket.socket, address: str) -> None:
        """Let in who shows a certificate of the API's, and pass on to PostgreSQL."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.clients.pem)
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write("".join(self.own.server()))
            file.flush()
            context.load_cert_chain(file.name)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            stack.enter_context(plain)
            stack.enter_context(self.counted(plain))
            plain.settimeout(30)
            while self.is_asleep:
                if not plain.recv(1):
                    return
            client = context.wrap_socket(plain, server_side=True)
            stack.enter_context(client)
            target = (self._target.hostname or "", self._target.port or 5432)
            server = stack.enter_context(socket.create_connection(target))
            self.served.append(address)
            with self.counted(client, server):
                shown = client.getpeercert() or {}
                if int(str(shown["serialNumber"]), 16) in self.logins:
                    server.sendall(client.recv(CHUNK))
                    _log_in(client, server)
                pass_on(client, server)

    def api(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Return what the connector asks of Google: a token, or the Admin API."""
        return self._respond(Request(environ))(environ, start_response)

    def _respond(self, request: Request) -> Response:
        self.asked.append(request.path)
        if self.is_mute:
            self.released.wait(30)
        if request.path == "/token":
            signed = jwt.decode(
                request.form["assertion"], options={"verify_signature": False}
            )
            token = f"ya29.{uuid.uuid4().hex}"
            self.tokens[token] = signed["scope"]
            return _json(access_token=token, expires_in=3600, token_type="Bearer")
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.refusal is None and self.tokens.get(token) != f"{SCOPE}admin":
            return _json(401)
        project, _, name = self.name.split(":")
        path = f"/sql/v1beta4/projects/{project}/instances/{name}"
        answers = {
            f"{path}/connectSettings": self._settings,
            f"{path}:generateEphemeralCert": self._certificate,
        }
        if self.refusal is not None or request.path not in answers:
            return _json(self.refusal or 404)
        return answers[request.path](request.get_json(silent=True) or {})

    def _settings(self, _: Mapping[str, str]) -> Response:
        addresses = self.addresses.items()
        return _json(
            region=self.region,
            databaseVersion=self.version,
            ipAddresses=[{"type": k, "ipAddress": a} for k, a in addresses],
            serverCaCert={"cert": self.own.pem},
        )

    def _certificate(self, asked: Mapping[str, str]) -> Response:
        key = serialization.load_pem_public_key(asked["public_key"].encode())
        signed = self.clients.sign(key, "client.test")
        if login := asked.get("access_token"):
            assert self.tokens[login] == f"{SCOPE}login"
            certificate = x509.load_pem_x509_certificate(signed.encode())
            self.logins.add(certificate.serial_number)
        return _json(ephemeralCert={"cert": signed})


@contextlib.contextmanager
def cloud_sql(database_url: str, folder: Path) -> Iterator[Instance]:
    """Yield an instance whose database is this one, which is migrated.

    The user of its account has the rights of a function.
    """
    if sys.platform != "linux":
        pytest.skip("only Linux has loopback addresses for as many instances")
    instance = Instance(database_url, folder / "key.json")
    with contextlib.ExitStack() as stack:
        instance.url = stack.enter_context(serving(instance.api))
        stack.callback(instance.close)
        stack.callback(instance.released.set)
        instance.start()
        account = {
            "type": "service_account",
            "project_id": "shop-42",
            "private_key_id": "1",
            "private_key": _account_key(),
            "client_email": instance.account,
            "client_id": "1",
            "token_uri": f"{instance.url}/token",
        }
        instance.key_file.write_text(json.dumps(account))
        stack.enter_context(role(database_url, instance.iam_user))
        with plain_engine(database_url) as engine:
            grant(engine, [instance.iam_user])
        dropped = f'DROP OWNED BY "{instance.iam_user}"'
        stack.callback(execute, database_url, dropped)
        stack.callback(socket.setdefaulttimeout, socket.getdefaulttimeout())
        yield instance


@contextlib.contextmanager
def role(server_url: str, name: str) -> Iterator[str]:
    """Yield a role of the server that may log in with `PASSWORD`, and nothing else."""
    quoted = name.replace('"', '""')
    execute(server_url, f"CREATE ROLE \"{quoted}\" LOGIN PASSWORD '{PASSWORD}'")
    try:
        yield name
    finally:
        execute(server_url, f'DROP ROLE "{quoted}"')


@contextlib.contextmanager
def engine_by_name(settings: Mapping[str, str]) -> Iterator[Engine]:
    """Yield the service's engine as these settings make it."""
    found = config.load(settings, needs=("DATABASE",)).database
    assert found is not None
    engine = wiring.engine_on(found)
    try:
        yield engine
    finally:
        engine.dispose()


class UnixSocket(Fronting):
    """The socket that Cloud Run mounts for an instance, in a folder of its own."""

    def __init__(self, database_url: str, folder: str, instance: str) -> None:
        self.folder = folder
        path = Path(folder) / instance / ".s.PGSQL.5432"
        path.parent.mkdir()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        self._target = urlsplit(database_url)
        super().__init__([listener])

    def serve(self, plain: socket.socket, address: str) -> None:
        """Pass on to PostgreSQL."""
        del address
        target = (self._target.hostname or "", self._target.port or 5432)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            stack.enter_context(plain)
            server = stack.enter_context(socket.create_connection(target))
            with self.counted(plain, server):
                pass_on(plain, server)


@contextlib.contextmanager
def unix_socket(database_url: str, instance: str) -> Iterator[UnixSocket]:
    """Yield an instance's socket; its path is short, as the system wants it."""
    with tempfile.TemporaryDirectory() as folder:
        running = UnixSocket(database_url, folder, instance)
        running.start()
        yield running
        running.close()


def _log_in(client: socket.socket, server: socket.socket) -> None:
    """Give PostgreSQL the password where it wants one of who need not know it."""
    wanted = server.recv(9, socket.MSG_WAITALL)
    if wanted == struct.pack("!cii", b"R", 8, 3):
        message = PASSWORD.encode() + b"\0"
        server.sendall(struct.pack("!ci", b"p", len(message) + 4) + message)
    else:
        client.sendall(wanted)


def _listen() -> socket.socket:
    """Return a listener on an address that nobody else has taken."""
    while True:
        numbers = (random.randint(1, 254) for _ in range(3))
        address = "127." + ".".join(map(str, numbers))
        with contextlib.suppress(OSError):
            return socket.create_server((address, PORT), backlog=64)


def _json(status: int = 200, **fields: object) -> Response:
    if status != 200:
        fields = {"error": {"code": status, "message": "no, said at length"}}
    return Response(json.dumps(fields), status, content_type="application/json")


@functools.cache
def _account_key() -> str:
    """Return a key that all accounts of a test run share: it is dear to make."""
    return private_pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
