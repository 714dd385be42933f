"""Certificates for tests, and a front that terminates TLS for a server."""

import contextlib
import datetime as dt
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOOPBACK = "127.0.0.1"
CHUNK = 1 << 16
PEM = serialization.Encoding.PEM
AUTHORITY = "authority.test"


@dataclass(frozen=True)
class Identity:
    """Files of a server's certificate, of its key, and of the authority behind it."""

    ca_file: str
    certificate: str
    key: str


class Authority:
    """Signs certificates; `pem` is its own."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.pem = self.sign(self._key.public_key(), AUTHORITY)

    def sign(self, key: Any, name: str) -> str:
        """Return a certificate of `name` for a public key, good for an hour."""
        now, hour = dt.datetime.now(dt.UTC), dt.timedelta(hours=1)
        signs = name == AUTHORITY
        own = self._key.public_key()
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=signs, path_length=None), True),
            (_key_usage(signs=signs), True),
            (x509.SubjectKeyIdentifier.from_public_key(key), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(own), False),
            (x509.SubjectAlternativeName([x509.DNSName(name)]), False),
        ]
        builder = x509.CertificateBuilder(
            subject_name=_named(name),
            issuer_name=_named(AUTHORITY),
            public_key=key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - hour,
            not_valid_after=now + hour,
        )
        for extension, is_critical in extensions:
            builder = builder.add_extension(extension, critical=is_critical)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(PEM).decode()

    def server(self, name: str = "localhost") -> tuple[str, str]:
        """Return a server's certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self.sign(key.public_key(), name), private_pem(key)


def private_pem(key: Any) -> str:
    """Return a private key in PEM, not encrypted."""
    form, open_to_all = (
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    text: bytes = key.private_bytes(PEM, form, open_to_all)
    return text.decode()


def identity(folder: Path, name: str = "localhost") -> Identity:
    """Return a server's identity for `name`, signed by an authority of its own."""
    authority = Authority()
    contents = (authority.pem, *authority.server(name))
    files = [folder / each for each in ("ca.crt", "server.crt", "server.key")]
    for file, content in zip(files, contents, strict=True):
        file.write_text(content, encoding="ascii")
    return Identity(*map(str, files))


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


class Fronting:
    """Serves each connection of its listeners in a thread, until it is closed."""

    def __init__(self, listeners: Sequence[socket.socket]) -> None:
        """`start` is called once all is there that `serve` needs."""
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listeners = listeners

    def serve(self, plain: socket.socket, address: str) -> None:
        """Serve a connection that came to `address`."""
        raise NotImplementedError

    def start(self) -> None:
        """Take connections."""
        for listener in self._listeners:
            self._run(self._accept, listener)

    @property
    def links(self) -> int:
        """How many connections are open."""
        with self._lock:
            return len(self._open)

    def cut(self) -> None:
        """End every open connection, without a word."""
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(end, socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of everything."""
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    @contextlib.contextmanager
    def counted(self, *links: socket.socket) -> Iterator[None]:
        """Have these be cut with all that is open."""
        with self._lock:
            self._open.update(links)
        try:
            yield
        finally:
            with self._lock:
                self._open.difference_update(links)

    def _run(self, run: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                self._run(self.serve, client, listener.getsockname()[0])


class Front(Fronting):
    """Speaks TLS on its `port`, and passes on what it hears to the port `target`."""

    def __init__(self, target: int, shown: Identity) -> None:
        listener = socket.create_server((LOOPBACK, 0), backlog=64)
        super().__init__([listener])
        self.handshakes = 0  # that were completed
        self.port: int = listener.getsockname()[1]
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(shown.certificate, shown.key)
        self.start()

    def serve(self, plain: socket.socket, address: str) -> None:
        """Take off TLS, and pass on."""
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            stack.enter_context(plain)
            plain.settimeout(10)
            client = self.welcome(plain)
            stack.enter_context(client)
            server = socket.create_connection((address, self._target))
            stack.enter_context(server)
            with self._lock:
                self.handshakes += 1
            with self.counted(client, server):
                pass_on(client, server)

    def welcome(self, plain: socket.socket) -> socket.socket:
        """Return the connection as it is to be read."""
        return self._context.wrap_socket(plain, server_side=True)


def pass_on(client: socket.socket, server: socket.socket) -> None:
    """Carry both ways from one thread: an SSL object is not for two at once."""
    while True:
        for source in select.select([client, server], [], [])[0]:
            data = source.recv(CHUNK)
            while isinstance(source, ssl.SSLSocket) and source.pending():
                data += source.recv(CHUNK)
            if not data:
                return
            (server if source is client else client).sendall(data)


@contextlib.contextmanager
def tls_to(target: int, shown: Identity) -> Iterator[Front]:
    """Yield a front that shows this identity before the server at port `target`."""
    running = Front(target, shown)
    try:
        yield running
    finally:
        running.close()
