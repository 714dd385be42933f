"""TLS to PostgreSQL: when it is used, when it is demanded, whom it believes.

The embedded server is built without TLS, so a front that speaks it stands before it.
"""

import contextlib
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from common.database.engine import Engine, ping
from common.errors import DatabaseUnavailableError
from tests.support import tls
from tests.support.relaying import engine_on

SSL_REQUEST = bytes.fromhex("0000000804d2162f")


class Front(tls.Front):
    """Speaks TLS, or plain to who does not ask for it, and passes on what it hears."""

    def __init__(self, target: int, shown: tls.Identity) -> None:
        self.encrypted: list[bool] = []  # of each connection that got through
        super().__init__(target, shown)

    def welcome(self, plain: socket.socket) -> socket.socket:
        wants_tls = plain.recv(8, socket.MSG_PEEK) == SSL_REQUEST
        client = plain
        if wants_tls:
            plain.recv(8)
            plain.sendall(b"S")
            client = super().welcome(plain)
        self.encrypted.append(wants_tls)
        return client


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> tls.Identity:
    return tls.identity(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def front(database_url: str, identity: tls.Identity) -> Iterator[Front]:
    running = Front(urlsplit(database_url).port or 0, identity)
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


def test_verifying_believes_a_known_certificate_for_its_own_name_only(
    front: Front,
    database_url: str,
    identity: tls.Identity,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def verify(host: str) -> None:
        with through(front, database_url, host, "verify-full") as engine:
            ping(engine)

    with pytest.raises(DatabaseUnavailableError):
        verify("localhost")
    monkeypatch.setenv("SSL_CERT_FILE", identity.ca_file)
    verify("localhost")
    with pytest.raises(DatabaseUnavailableError):
        verify("127.0.0.1")


def test_an_idle_encrypted_connection_is_used_again_and_replaced_when_closed(
    front: Front, database_url: str
) -> None:
    with through(front, database_url, "127.0.0.1", "require") as engine:
        for _ in range(3):
            ping(engine)
        assert front.encrypted == [True]
        front.cut()
        ping(engine)
    assert front.encrypted == [True, True]
