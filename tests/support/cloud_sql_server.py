"""The server of a Cloud SQL instance: TLS on both sides, a login, then PostgreSQL.

Lives here: whom it lets in, and passing on. Not here: who gets a certificate
(`cloud_sql_api.py`). Surprise: it logs in to the test PostgreSQL as that one's
administrator and becomes the user there, whose rights alone hold from then on; so
tests need no users with passwords, and roles are real.
"""

import contextlib
import socket
import ssl
import struct
import tempfile
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import pg8000.native

from tests.support.cloud_sql_keys import Authority
from tests.support.tls import CHUNK, Fronting, pass_on

PORT = 3307
_SSL_REQUEST = 80877103


class RefusedError(Exception):
    """A login that is not let in: its SQLSTATE and message."""


class InstanceServer(Fronting):
    """Serves on the listeners it is given, until it is closed."""

    def __init__(
        self,
        database_url: str,
        listeners: list[socket.socket],
        own: Authority,
        clients: Authority,
    ) -> None:
        super().__init__(listeners)
        self.logins: Mapping[int, str] = {}  # accounts by certificate, see `Api`
        self.passwords: dict[str, str] = {}  # by user
        self.served: list[tuple[str, str]] = []  # address and user of each login
        self.is_mute = False  # takes connections, and says nothing
        self.refusal: tuple[str, str] | None = None  # of any login: SQLSTATE, message
        self._url = urlsplit(database_url)
        self.clients = clients
        self.show(own)
        self.start()

    def show(self, authority: Authority) -> None:
        """Have a certificate by this authority from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.clients.pem)
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(authority.identity("instance"))
            file.flush()
            context.load_cert_chain(file.name)
        self._context = context

    def serve(self, plain: socket.socket, address: str) -> None:
        """Log in whoever may, and pass on."""
        with plain, contextlib.suppress(OSError, EOFError):
            with self.counted(plain):
                if self.is_mute:
                    plain.settimeout(30)
                    while plain.recv(CHUNK):
                        pass
                    return
                plain.settimeout(10)
                client = self._context.wrap_socket(plain, server_side=True)
            with client, self.counted(client):
                try:
                    server = self._let_in(client, address)
                except RefusedError as error:
                    code, message = error.args
                    fields = ("SFATAL", "VFATAL", f"C{code}", f"M{message}", "", "")
                    client.sendall(_message(b"E", "\0".join(fields).encode()))
                    return
                with contextlib.closing(server):
                    client.settimeout(None)
                    pass_on(client, server._usock)

    def _let_in(self, client: ssl.SSLSocket, address: str) -> pg8000.native.Connection:
        """Answer the way to PostgreSQL, after the user was told to go on."""
        said = _startup(client)
        user, database = said.pop("user"), said.pop("database")
        if self.refusal is not None:
            raise RefusedError(*self.refusal)
        self._check(client, user)
        try:
            server = pg8000.native.Connection(
                unquote(self._url.username or ""),
                password=unquote(self._url.password or "") or None,
                host=self._url.hostname,
                port=self._url.port,
                database=database,
                application_name=said.pop("application_name", None),
                startup_params=said,
                ssl_context=False,
            )
        except pg8000.native.DatabaseError as error:
            raise RefusedError(error.args[0]["C"], error.args[0]["M"]) from None
        quoted = user.replace('"', '""')
        try:
            server.run(f'SET SESSION AUTHORIZATION "{quoted}"')
        except pg8000.native.DatabaseError:
            server.close()
            raise _refused(f'role "{user}" does not exist') from None
        self.served.append((address, user))
        told = [_message(b"R", struct.pack("!i", 0))]
        for key, value in server.parameter_statuses.items():
            told.append(_message(b"S", f"{key}\0{value}\0".encode()))
        told += [_message(b"K", bytes(8)), _message(b"Z", b"I")]
        client.sendall(b"".join(told))
        return server

    def _check(self, client: ssl.SSLSocket, user: str) -> None:
        shown = client.getpeercert()
        assert shown is not None
        serial = int(str(shown["serialNumber"]), 16)
        account = self.logins.get(serial)
        if account is not None:
            if user != account.removesuffix(".gserviceaccount.com"):
                said = "Cloud SQL IAM service account authentication failed for user"
                raise _refused(f'{said} "{user}"')
            return
        client.sendall(_message(b"R", struct.pack("!i", 3)))
        password = _read(client, 1)
        assert password == b"p"
        given = _read(client, struct.unpack("!i", _read(client, 4))[0] - 4)
        if given.rstrip(b"\0").decode() != self.passwords.get(user):
            raise _refused(f'password authentication failed for user "{user}"')


def _refused(message: str) -> RefusedError:
    return RefusedError("28P01", message)


def _message(code: bytes, body: bytes) -> bytes:
    return code + struct.pack("!i", len(body) + 4) + body


def _read(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = client.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _startup(client: socket.socket) -> dict[str, str]:
    while True:
        size, version = struct.unpack("!ii", _read(client, 8))
        if version != _SSL_REQUEST:
            break
        client.sendall(b"N")
    words = _read(client, size - 8).decode().split("\0")
    return dict(zip(words[0:-2:2], words[1:-2:2], strict=False))
