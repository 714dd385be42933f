"""TLS to PostgreSQL: when it is used, when it is demanded, whom it believes.

The embedded server is built without TLS, so a front that speaks it stands before it.
"""

import contextlib
import select
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from common.db import Engine, ping
from common.errors import DatabaseUnavailableError
from tests.support.relaying import engine_on

SSL_REQUEST = bytes.fromhex("0000000804d2162f")


class Front:
    """Speaks TLS, or plain to who does not ask for it, and passes on what it hears."""

    def __init__(self, target: int, context: ssl.SSLContext) -> None:
        self.encrypted: list[bool] = []  # of each connection that got through
        self._target = target
        self._context = context
        self._links: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def hang_up(self) -> None:
        """End every open connection."""
        for link in self._links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let nobody in any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            client,
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._target)) as server,
        ):
            wants_tls = client.recv(8, socket.MSG_PEEK) == SSL_REQUEST
            if wants_tls:
                client.recv(8)
                client.sendall(b"S")
                client = self._context.wrap_socket(client, server_side=True)
            self.encrypted.append(wants_tls)
            self._links.append(client)
            with client:
                self._pass_on(client, server)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            for source in select.select([client, server], [], [])[0]:
                data = source.recv(1 << 16)
                while isinstance(source, ssl.SSLSocket) and source.pending():
                    data += source.recv(1 << 16)
                if not data:
                    return
                (server if source is client else client).sendall(data)


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for `localhost`, signed by nobody, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "server.crt", folder / "server.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@pytest.fixture
def front(database_url: str, identity: tuple[Path, Path]) -> Iterator[Front]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*identity)
    running = Front(urlsplit(database_url).port or 0, context)
    yield running
    running.close()


def through(
    front: Front, database_url: str, host: str, sslmode: str
) -> contextlib.AbstractContextManager[Engine]:
    """Yield an engine that goes through the front, under some name of this machine."""
    login, _, rest = database_url.partition("@")
    name = rest.partition("/")[2]
    return engine_on(f"{login}@{host}:{front.port}/{name}?sslmode={sslmode}")


@pytest.mark.parametrize(
    ("host", "sslmode", "encrypted"),
    [
        ("127.0.0.1", "disable", False),
        ("127.0.0.1", "prefer", False),  # loopback is private, and TLS is not free
        ("0.0.0.0", "prefer", True),
        ("127.0.0.1", "require", True),
    ],
)
def test_the_mode_decides_whether_tls_is_spoken(
    front: Front, database_url: str, host: str, sslmode: str, *, encrypted: bool
) -> None:
    with through(front, database_url, host, sslmode) as engine:
        ping(engine)
    assert front.encrypted == [encrypted]


def test_preferring_makes_do_with_a_server_without_tls(database_url: str) -> None:
    address = database_url.replace("127.0.0.1", "0.0.0.0")
    with engine_on(f"{address}?sslmode=prefer") as engine:
        ping(engine)


@pytest.mark.parametrize("sslmode", ["require", "verify-full"])
def test_demanding_takes_no_server_without_tls(database_url: str, sslmode: str) -> None:
    address = database_url.replace("127.0.0.1", "localhost")
    with (
        engine_on(f"{address}?sslmode={sslmode}") as engine,
        pytest.raises(DatabaseUnavailableError),
    ):
        ping(engine)


def test_verifying_believes_nobody_it_does_not_know(
    front: Front, database_url: str
) -> None:
    with (
        through(front, database_url, "localhost", "verify-full") as engine,
        pytest.raises(DatabaseUnavailableError),
    ):
        ping(engine)


def test_verifying_believes_a_known_certificate_for_its_own_name_only(
    front: Front,
    database_url: str,
    identity: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(identity[0]))
    with through(front, database_url, "localhost", "verify-full") as engine:
        ping(engine)
    with (
        through(front, database_url, "127.0.0.1", "verify-full") as engine,
        pytest.raises(DatabaseUnavailableError),
    ):
        ping(engine)


def test_an_idle_encrypted_connection_is_used_again_and_replaced_when_closed(
    front: Front, database_url: str
) -> None:
    with through(front, database_url, "127.0.0.1", "require") as engine:
        for _ in range(3):
            ping(engine)
        assert front.encrypted == [True]
        front.hang_up()
        ping(engine)
    assert front.encrypted == [True, True]
