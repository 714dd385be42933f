"""A stand-in for Cloud SQL: an instance before the test PostgreSQL, and its API.

Lives here: an account with a key, an instance with its addresses, both started and
stopped. Not here: the API (`cloud_sql_api.py`), the server
(`cloud_sql_server.py`). Surprise: Cloud SQL is on port 3307 wherever it is, so each
instance gets loopback addresses of its own, of which Linux has 16 million.
"""

import contextlib
import json
import random
import socket
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.cloud_sql_api import Api, Known
from tests.support.cloud_sql_keys import Authority
from tests.support.cloud_sql_server import PORT, InstanceServer

IP_TYPES = ("PRIVATE", "PRIMARY", "PSC")  # as the API calls them


@dataclass
class CloudSqlInstance:
    """One that runs, and what a process needs to reach it."""

    name: str
    account: str
    addresses: dict[str, str]  # by type
    api: Api
    server: InstanceServer
    own: Authority  # of the instance's certificate
    key_file: str
    database: str

    @property
    def iam_user(self) -> str:
        """Answer the database's user for the account."""
        return self.account.removesuffix(".gserviceaccount.com")

    def settings(self, **more: str) -> dict[str, str]:
        """Answer the variables of a process that logs in as the account."""
        return {
            "CLOUD_SQL_CONNECTION_NAME": self.name,
            "CLOUD_SQL_API_ENDPOINT": self.api.url,
            "POSTGRES_DB": self.database,
            "POSTGRES_USER": self.iam_user,
            "GOOGLE_APPLICATION_CREDENTIALS": self.key_file,
            **more,
        }


@contextlib.contextmanager
def cloud_sql(database_url: str, folder: Path) -> Iterator[CloudSqlInstance]:
    """Yield an instance whose databases are those of the server of `database_url`."""
    if sys.platform != "linux":
        pytest.skip("only Linux has loopback addresses for as many instances")
    unique = uuid.uuid4().hex[:12]
    account = f"orders-{unique}@shop-42.iam.gserviceaccount.com"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    own, clients = Authority("instance"), Authority("clients")
    instance = f"orders-{unique}"
    with contextlib.ExitStack() as stack:
        sockets = {kind: stack.enter_context(_listen()) for kind in IP_TYPES}
        addresses = {kind: each.getsockname()[0] for kind, each in sockets.items()}
        known = Known(
            project="shop-42",
            region="europe-west1",
            instance=instance,
            account=account,
            account_key=key.public_key(),
            addresses=dict(addresses),
            server_ca=own.pem,
            clients=clients,
        )
        api = stack.enter_context(contextlib.closing(Api(known)))
        server = InstanceServer(database_url, list(sockets.values()), own, clients)
        server.logins = known.logins
        stack.enter_context(contextlib.closing(server))
        key_file = folder / f"{unique}.json"
        key_file.write_text(json.dumps(_key_file(account, key, api.url)))
        yield CloudSqlInstance(
            name=f"shop-42:europe-west1:{instance}",
            account=account,
            addresses=addresses,
            api=api,
            server=server,
            own=own,
            key_file=str(key_file),
            database=database_url.rpartition("/")[2],
        )


def _listen() -> socket.socket:
    """Answer a listener on an address that nobody else has taken."""
    while True:
        numbers = (random.randint(1, 254) for _ in range(3))
        address = "127." + ".".join(map(str, numbers))
        with contextlib.suppress(OSError):
            return socket.create_server((address, PORT), backlog=64)


def _key_file(account: str, key: rsa.RSAPrivateKey, url: str) -> dict[str, str]:
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account",
        "project_id": "shop-42",
        "private_key_id": "1",
        "private_key": private.decode(),
        "client_email": account,
        "client_id": "1",
        "token_uri": f"{url}/token",
    }
