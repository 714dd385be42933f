"""`python -m infra.local.demo`: run the story of an order and check each step.

The exit status is 1 if anything differed, so this is an acceptance test as well.
"""

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import IO

import requests

from infra.local.narrator import Narrator, StoryError
from infra.local.story import Story

START_SECONDS = 120
STOP_SECONDS = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the story; return 0 when everything was as expected, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.local.demo",
        description="Tell the story of an order against a running system, checking"
        " every step; without one, start one for the while.",
    )
    parser.add_argument(
        "--url", help="the system; default: what runs on PORT, else on 8080"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object a step"
    )
    options = parser.parse_args(arguments)
    narrator = Narrator(as_json=options.json)
    try:
        with requests.Session() as session, _system(options.url, session) as url:
            session.trust_env = False
            print(f"On {url}", file=sys.stderr, flush=True)
            try:
                Story(url, session, narrator).tell()
            finally:
                narrator.end()
    except StoryError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 1 if narrator.mismatches else 0


@contextlib.contextmanager
def _system(url: str | None, session: requests.Session) -> Iterator[str]:
    """Yield the address of the system: the one named, one that runs, or one started."""
    port = os.environ.get("PORT") or "8080"
    found = (url or f"http://127.0.0.1:{port}").rstrip("/")
    if _is_ours(found, session):
        yield found
    elif url:
        raise StoryError(f"{url}: no local run answers there; `make run` starts one")
    else:
        with _started() as started:
            yield started


def _is_ours(url: str, session: requests.Session) -> bool:
    """Return whether a local run, sandbox and all, answers at `url`."""
    session.trust_env = False
    try:
        answer = session.get(f"{url}/sandbox/queues", timeout=30)
        return answer.ok and "shopcart" in answer.json()
    except (requests.RequestException, ValueError):
        return False


@contextlib.contextmanager
def _started() -> Iterator[str]:
    """Run a system of its own, on a free port and with data that goes away."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    print("No local run found: starting one", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "infra.local.run", "--temporary", "--port", port]
    with tempfile.TemporaryFile("w+") as output:
        # Not part of our session: Ctrl-C is for us, who then stop it in good order.
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url, process, output)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(
    url: str, process: "subprocess.Popen[bytes]", output: IO[str]
) -> None:
    deadline = time.monotonic() + START_SECONDS
    with requests.Session() as session:
        while not _is_ours(url, session):
            if process.poll() is not None or time.monotonic() > deadline:
                output.seek(0)
                raise StoryError(f"the local run has not come up:\n{output.read()}")
            time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
