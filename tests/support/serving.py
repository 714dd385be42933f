"""Run a function in the functions framework's own server process."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.support.processes import free_port

CHECKOUT = Path(__file__).parents[2]
START_SECONDS = 60
TIMEOUT = 20


def command(function: str, port: int, source: Path | None = None) -> list[str]:
    """Return the command line that the documentation gives, or from another source."""
    framework = str(Path(sys.executable).with_name("functions-framework"))
    main = str(source or f"functions/{function}/main.py")
    place = ["--host", "127.0.0.1", "--port", str(port)]
    return [framework, "--source", main, "--target", function, *place]


def environment(**settings: str) -> dict[str, str]:
    """Return an environment of these settings and what any program needs."""
    kept = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(CHECKOUT)}
    return kept | settings


@contextmanager
def served(
    function: str,
    environ: Mapping[str, str],
    log: Path | None = None,
    *,
    source: Path | None = None,
) -> Iterator[str]:
    """Start a function as the documentation says; yields its address."""
    port = free_port()
    with (log or Path(os.devnull)).open("wb") as said:
        process = subprocess.Popen(
            command(function, port, source),
            cwd=CHECKOUT,
            env=environ,
            stdout=said if log else None,
            stderr=said if log else None,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until_it_answers(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def until_it_answers(url: str, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a function is live; fails where its process ends instead."""
    deadline = time.monotonic() + START_SECONDS
    while not _answers(f"{url}/health/live"):
        assert process.poll() is None, f"{process.args!r} ended"
        assert time.monotonic() < deadline, f"{process.args!r} does not answer"
        time.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        return send("GET", url).status_code == 200
    except requests.ConnectionError:
        return False


def send(method: str, url: str, **kwargs: Any) -> requests.Response:
    """Send one request on a connection of its own."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, timeout=TIMEOUT, **kwargs)
