"""A headless Chromium with its requests, errors and keyboard observed.

Without a browser the tests skip, and the run's summary says so.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support import debian

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MOST_TABS = 120

PHONE, DESK = 375, 1280  # widths of a page, in pixels


def chromium() -> str:
    """Return the browser's program; skip where there is none, nor can it be had."""
    if path := next(filter(None, map(shutil.which, NAMES)), None):
        return path
    try:
        debian.install("chromium", NAMES[0])
    except debian.InstallError as error:
        pytest.skip(f"no Chromium, so no page is looked at in a browser: {error}")
    return NAMES[0]


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Yield a browser; skip where this machine has none."""
    program = chromium()
    with sync_playwright() as playwright:
        # The sandbox of a browser needs rights that a container seldom has.
        browser = playwright.chromium.launch(
            executable_path=shutil.which(program), args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page, and what it did besides being shown."""

    page: Page
    hosts: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    def tab_to(self, name: str) -> None:
        """Press Tab until what is called `name` has the focus."""
        seen = []
        for _ in range(MOST_TABS):
            self.page.keyboard.press("Tab")
            seen.append(self.focused())
            if seen[-1] == name:
                return
        raise AssertionError(f"Tab never reaches {name!r}, but {seen}")

    def focused(self) -> str:
        """Return what has the focus is called: its label, or its text."""
        found: str = self.page.evaluate(
            """() => { const e = document.activeElement;
            if (!e || e === document.body) return "";
            const label = e.labels && e.labels[0];
            return (label || e).textContent.trim(); }"""
        )
        return found


@contextmanager
def watched_page(
    browser: Browser, *, is_dark: bool = False, width: int = DESK
) -> Iterator[Watched]:
    """Yield a new page in a browser context of its own."""
    context = browser.new_context(
        color_scheme="dark" if is_dark else "light",
        viewport={"width": width, "height": 800},
    )
    page = context.new_page()
    watched = Watched(page)
    page.on("request", lambda asked: _note(watched, asked.url))
    page.on("console", lambda said: watched.errors.append(said.text))
    page.on("pageerror", lambda error: watched.errors.append(str(error)))
    try:
        yield watched
    finally:
        context.close()


def _note(watched: Watched, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "data":
        watched.hosts.add(parts.netloc)
