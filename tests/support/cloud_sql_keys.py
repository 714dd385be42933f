"""Certificates of a Cloud SQL instance: its own, and those it has made for clients.

Lives here: an authority that signs. Not here: who gets one (`cloud_sql_api.py`), who is
believed (`cloud_sql_server.py`). Surprise: as in Cloud SQL, the authority of the
instance and that of its clients are two.
"""

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

_PEM = serialization.Encoding.PEM
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class Authority:
    """Signs certificates; `pem` is its own."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(f"authority of {name}")
        public = self._key.public_key()
        certificate = (
            self._certificate(f"authority of {name}", public, 86_400)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(public), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(_PEM).decode()

    def sign(self, name: str, key: PublicKey, seconds: float) -> tuple[str, int]:
        """Answer a certificate that is good for `seconds`, and its serial number."""
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            self._certificate(name, key, seconds)
            .add_extension(own, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(_PEM).decode(), certificate.serial_number

    def identity(self, name: str) -> str:
        """Answer a certificate and its key, one after the other, for a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(
            _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self.sign(name, key.public_key(), 86_400)[0] + private.decode()

    def _certificate(
        self, name: str, key: PublicKey, seconds: float
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(seconds=seconds))
        )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
