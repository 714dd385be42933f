"""Fixtures for contracts: a sandbox and ways to ask it, a sibling, packages."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from common.clients.batch import Upstream
from infra import package
from tests.support.odd_server import OddServer, odd_server
from tests.support.sandbox import Sandbox, running_sandbox

NO_STORE = {"Cache-Control": "no-store"}

Read = Callable[..., requests.Response]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def read(sandbox: Sandbox, http: requests.Session) -> Read:
    """Read a variation; `fresh` goes past the read cache."""

    def read_variation(variation: str, *, fresh: bool = True) -> requests.Response:
        base = sandbox.environ["PRODUCT_SERVICE"]
        headers = NO_STORE if fresh else {}
        return http.get(f"{base}/api/products/variations/{variation}", headers=headers)

    return read_variation


@pytest.fixture(scope="session")
def zips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the package of each function."""
    folder = tmp_path_factory.mktemp("zips")
    package.build(folder, sorted(package.NEEDS))
    return folder


@pytest.fixture
def server() -> Iterator[OddServer]:
    """Serve a sibling whose replies a test sets."""
    with odd_server() as running:
        yield running


@pytest.fixture
def upstream(server: OddServer) -> Iterator[Upstream]:
    """Call that sibling, below a path of its own."""
    opened = Upstream("product", server.url + "/base")
    yield opened
    opened.close()
