"""The documentation's pages in a real browser, where there is one.

Lives here: that both pages show the operations, complain of nothing and ask nobody
outside. Surprise: the browser can resolve no name and reach this machine only; what it
was still asked to load from elsewhere, its own record of requests tells.
"""

import html
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import functions_framework
import pytest

from common import wiring
from common.openapi import document
from infra.local.gateway import Gateway
from infra.local.http_server import HttpServer
from tests.support.browser import chromium

MAIN = Path(__file__).parents[2] / "functions" / "api_docs" / "main.py"
SWITCHES = (
    "--headless",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--virtual-time-budget=20000",
    "--window-size=1300,1600",
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with mock.patch.dict(os.environ, {"LOG_LEVEL": "WARNING"}):
        app = functions_framework.create_app("api_docs", str(MAIN))
        gateway = Gateway()
        gateway.functions = {"api_docs": app}
        server = HttpServer(gateway)
        server.start()
        yield server.url
        server.stop()
    wiring.close()
    wiring._needs.clear()


def browse(url: str, folder: Path) -> tuple[str, list[str], set[str]]:
    """Open a page; answer what it became, its complaints, and who was asked for it."""
    record = folder / "requests.json"
    # The sandbox of a browser needs rights that a container seldom has.
    switches = [*SWITCHES, "--no-sandbox", f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run(
        [chromium(), *switches, f"--log-net-log={record}", "--dump-dom", url],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    log = json.loads(record.read_text())
    # What the browser asks for on its own behalf has no page as its initiator.
    origin = "/".join(url.split("/")[:3])
    requests = [event.get("params", {}) for event in log["events"]]
    asked = {
        request["url"]
        for request in requests
        if "url" in request and request.get("initiator") == origin
    }
    return done.stdout, complaints, asked


@pytest.mark.parametrize("page", ["swagger-ui", "redoc/"])
def test_a_page_shows_every_operation_and_asks_nobody_outside(
    url: str, page: str, tmp_path: Path
) -> None:
    shown, complaints, asked = browse(f"{url}/order/api/schema/{page}", tmp_path)
    summaries = [
        operation["summary"]
        for item in document()["paths"].values()
        for operation in item.values()
    ]
    text = html.unescape(re.sub(r"<[^>]+>", "", shown))
    missing = [summary for summary in summaries if summary not in text]
    assert not missing
    assert not complaints
    assert f"{url}/order/api/schema/" in asked
    assert not [there for there in asked if not there.startswith(f"{url}/order/api/")]
