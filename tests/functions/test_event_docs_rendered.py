"""The page of events in a real browser, where there is one: large, small, light, dark.

Lives here: that it can be read, used by keyboard, and asks for nothing else. Not here:
what it says (`test_event_docs.py`). Surprise: no server of its own is asked for twice,
since one request is all that the page is.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import functions_framework
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from common import wiring
from infra.local.http_server import HttpServer
from tests.support.browser import running_browser

MAIN = Path(__file__).parents[2] / "functions" / "api_docs" / "main.py"
SIZES = {"desktop": (1280, 900), "phone": (360, 740)}
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with mock.patch.dict(os.environ, {"LOG_LEVEL": "WARNING"}):
        app = functions_framework.create_app("api_docs", str(MAIN))
        server = HttpServer(app)
        server.start()
        yield f"{server.url}/api/schema/events/"
        server.stop()
    wiring.close()
    wiring._needs.clear()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture(params=SIZES)
def page(browser: Browser, url: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    width, height = SIZES[request.param]
    opened = browser.new_page(viewport={"width": width, "height": height})
    complaints: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("request", lambda each: asked.append(each.url))
    opened.goto(url)
    yield opened
    opened.close()
    assert complaints == []
    assert [each for each in asked if each != "data:,"] == [url]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_anybodys_way(page: Page, scheme: str) -> None:
    dark = scheme == "dark"
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    if folder := os.environ.get("SCREENSHOTS"):
        width = page.evaluate("innerWidth")
        page.screenshot(path=f"{folder}/events-{width}-{scheme}.png", full_page=True)
    found = Axe().run(page).response["violations"]
    serious = [
        (each["id"], [node["html"] for node in each["nodes"]][:3])
        for each in found
        if each["impact"] in SERIOUS
    ]
    assert serious == []
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is not dark


def test_a_page_is_never_wider_than_its_screen(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wider <= 0


def test_an_example_is_opened_by_keyboard_alone(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    example = page.get_by_label("Example body of order.item.created")
    assert not example.is_visible()
    page.keyboard.press("Enter")
    assert example.is_visible()
