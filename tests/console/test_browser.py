"""The console in a browser, against a running system: by keyboard, on a phone, in dark.

Every page is looked at by axe-core, and asks nobody else for anything.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from infra.local.sandbox.catalogue import MUG
from tests.support import database
from tests.support.browser import DESK, PHONE, Watched, running_browser, watched_page
from tests.support.local_system import local_system
from tests.support.service import new_user

REFRESH_SECONDS = 30
# Made by others, who have these to mend: labels, nesting, colours of their own parts.
OTHERS = {
    "/api/schema/swagger-ui/": {"color-contrast", "nested-interactive", "select-name"},
    "/api/schema/redoc/": {"color-contrast", "select-name"},
}
LETTER = """
INSERT INTO dead_letters (source, reason, destination, order_id, event_id, event_type,
  body) SELECT 'outbox', 'refused', 'http', order_id, CAST(event_id AS text),
  'order.created', '{"a": 1}' FROM order_history WHERE kind = 'order.created'
"""
GROUP = {"source": "outbox", "destination": "http", "cause": "refused", "up_to": 1}
HELD = """
INSERT INTO outbox (destination, order_id, event_id, event_type, body, attempts,
  doubts, held_since, available_at) SELECT 'rabbitmq', order_id, event_id,
  'order.created', '{}', 1, 1, now(), now() + interval '1 day'
FROM order_history WHERE kind = 'order.created'
"""

# Two destinations that no relay here serves, and what each has said.
BROKEN = """
INSERT INTO outbox (destination, order_id, event_id, event_type, body, attempts,
  last_error, failed_at, available_at)
SELECT d, n, gen_random_uuid(), 'order.item.status.updated', '{}', 4, e, now(),
  now() + interval '40 s'
FROM (VALUES ('rabbitmq', '530 vhost orders not found'),
  ('pubsub', '403 permission denied')) broken(d, e), generate_series(1, 3) n
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def url(
    browser: Browser,  # noqa: ARG001 without one no system is started
    postgres_url: str,
    template_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """A running system with one order, a dead letter and a held event."""
    folder = tmp_path_factory.mktemp("console")
    with local_system(postgres_url, template_database, folder) as (url, database_url):
        order(url)
        database.execute(database_url, LETTER)
        database.execute(database_url, HELD)
        database.execute(database_url, BROKEN)
        yield url


def order(url: str) -> int:
    """Check out as a new customer, and answer the order's id."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers["X-User-ID"] = new_user()
        line = {"product_variation_id": MUG, "quantity": 2}
        session.post(f"{url}/sandbox/shopcart/api/mycart/items/", json=line)
        return int(session.post(f"{url}/api/orders-from-shopcart/").json()["order_id"])


def pages(watched: Watched, url: str) -> list[str]:
    """Return the address of every kind of page there is."""
    watched.page.goto(f"{url}/ops/events/?place=held")
    event = watched.page.get_attribute("tbody a", "href")
    paths = [
        *("", "orders/", "orders/1/", "events/", "events/?place=held", "letters/"),
        *("events/?place=sent", "letters/1/", "actions/", "charts/orders-hours/"),
        *("charts/backlog-days/", "charts/latency-hours/", "orders/999/", "nothing/"),
        *("search/", "search/?q=1", "?refresh=off"),
        "do/delete-order/?order=1&version=1",
        "do/replay-letter/?letter=1",
        "do/set-quantity/?order=1&version=1&item=1&quantity=0",
        f"do/discard-letters/?{urlencode(GROUP)}",
    ]
    others = [url, f"{url}/sandbox/"]
    return [*(f"{url}/ops/{path}" for path in paths), f"{url}{event}", *others]


@pytest.mark.parametrize(
    ("is_dark", "width"), [(True, PHONE), (False, DESK)], ids=["dark phone", "light"]
)
def test_every_page_is_accessible_fits_and_stays_at_home(
    browser: Browser, url: str, *, is_dark: bool, width: int
) -> None:
    with watched_page(browser, is_dark=is_dark, width=width) as watched:
        page, axe = watched.page, Axe()
        for address in pages(watched, url):
            page.goto(address)
            found = axe.run(page).response["violations"]
            serious = [
                (each["id"], [node["html"] for node in each["nodes"]])
                for each in found
                if each["impact"] in ("serious", "critical", "moderate")
            ]
            assert not serious, address
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, address
            broken = "[...document.images].filter(i => !i.naturalWidth).length"
            assert page.evaluate(broken) == 0, address
        assert watched.hosts == {urlsplit(url).netloc}
        # What is not there, and a form with a wrong value.
        known = ("404", "400")
        assert not [e for e in watched.errors if not any(k in e for k in known)]


def test_an_item_is_shipped_by_keyboard_on_a_phone(browser: Browser, url: str) -> None:
    order_id = order(url)
    with watched_page(browser, is_dark=True, width=PHONE) as watched:
        page = watched.page
        page.goto(f"{url}/ops/")
        page.keyboard.press("Tab")
        assert watched.focused() == "Skip to the content"
        watched.tab_to("Find anything: number, UUID or text")
        page.keyboard.type(str(order_id))
        page.keyboard.press("Enter")
        page.wait_for_url("**/ops/search/**")
        watched.tab_to(f"Order {order_id}")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/ops/orders/{order_id}/")
        item = re.findall(r"Quantity of item (\d+)", page.inner_text("main"))[0]
        watched.tab_to(f"Mark item {item} as shipped…")
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(outline) == "solid"
        page.keyboard.press("Enter")
        page.wait_for_url("**/ops/do/move-item/**")
        assert "Processing to Shipped" in page.inner_text("main")
        watched.tab_to("Why? The reason is recorded with your name.")
        page.keyboard.type("the shop called")
        watched.tab_to(f"Mark item {item} as shipped")
        page.keyboard.press("Enter")
        page.wait_for_url("**/ops/actions/*/")
        assert "done" in page.inner_text("h1")
        watched.tab_to("To the order")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/ops/orders/{order_id}/")
        timeline = page.inner_text(".timeline")
        assert "changed, Processing to Shipped" in timeline
        assert "by operator@localhost" in timeline
        assert not watched.errors


def test_going_back_shows_that_it_is_done_already(browser: Browser, url: str) -> None:
    order_id = order(url)
    with watched_page(browser) as watched:
        page = watched.page
        page.goto(f"{url}/ops/orders/{order_id}/")
        page.get_by_label("Key", exact=True).fill("note")
        page.get_by_label("Value, empty to remove").fill("call back")
        page.get_by_role("button", name="Change metadata…").click()
        page.get_by_label(re.compile("Why")).fill("asked for")
        page.get_by_role("button", name="Change metadata").click()
        page.wait_for_url("**/ops/actions/*/")
        page.go_back()
        assert "has changed since you looked" in page.inner_text("main")
        page.goto(f"{url}/ops/orders/{order_id}/")
        assert page.inner_text(".timeline").count("Operator: Change metadata") == 1


def test_the_front_page_of_a_local_run_leads_here(browser: Browser, url: str) -> None:
    with watched_page(browser) as watched:
        page = watched.page
        page.goto(url)
        page.get_by_role("main").get_by_role("link", name="Console").first.click()
        page.wait_for_url("**/ops/")
        assert "Status" in page.inner_text("h1")


@pytest.mark.parametrize("is_dark", [True, False], ids=["dark", "light"])
def test_the_pages_around_it_are_accessible_and_stay_at_home(
    browser: Browser, url: str, *, is_dark: bool
) -> None:
    with watched_page(browser, is_dark=is_dark) as watched:
        page, axe = watched.page, Axe()
        page.goto(f"{url}/traces/")
        trace = page.get_attribute("tbody a", "href")
        for path in [
            "/",
            "/traces/",
            trace,
            "/problems/",
            *([] if is_dark else OTHERS),
        ]:
            page.goto(f"{url}{path}", wait_until="networkidle")
            found = axe.run(page).response["violations"]
            serious = {
                each["id"]
                for each in found
                if each["impact"] in ("serious", "critical")
            }
            assert serious <= OTHERS.get(str(path), set()), path
        # What a page makes itself, such as ReDoc's worker, has no host.
        assert watched.hosts <= {urlsplit(url).netloc, ""}
        # A browser asks once for an icon of its own accord.
        assert not [said for said in watched.errors if "404" not in said]


def test_the_home_page_reads_itself_again_until_told_to_stop(
    browser: Browser, url: str
) -> None:
    with watched_page(browser) as watched:
        page = watched.page
        response = page.goto(f"{url}/ops/")
        assert response
        assert response.headers["refresh"] == str(REFRESH_SECONDS)
        page.get_by_role("link", name="Stop that").click()
        page.wait_for_url("**/ops/?refresh=off")
        response = page.reload()
        assert response
        assert "refresh" not in response.headers
        assert "530 vhost orders not found" in page.inner_text("main")
        assert "403 permission denied" in page.inner_text("main")


def test_a_sibling_is_switched_on_the_sandboxs_page(browser: Browser, url: str) -> None:
    with watched_page(browser, width=PHONE) as watched:
        page = watched.page
        page.goto(f"{url}/sandbox/")
        with page.expect_navigation():
            page.get_by_label("How late shopcart is").select_option("after 5 s")
        with page.expect_navigation():
            page.get_by_role("button", name="Switch off").first.click()
        queues = requests.get(f"{url}/sandbox/queues", timeout=10).json()
        assert queues["shopcart"]["delay_seconds"] == [5, 5]
        assert queues["product"]["paused"] is True
        with page.expect_navigation():
            page.get_by_role("button", name="Switch on").click()
        queues = requests.get(f"{url}/sandbox/queues", timeout=10).json()
        assert queues["product"]["paused"] is False
        with page.expect_navigation():
            page.get_by_label("How late shopcart is").select_option("at once")


ASSETS = Path(__file__).parents[2] / "docs" / "assets"
PICTURES = {  # page, dark, width
    "console-home": ("", False, DESK),
    "console-letters": ("letters/", False, DESK),
    "console-order": ("orders/1/", True, PHONE),
    "console": ("orders/1/", False, DESK),
}


@pytest.mark.parametrize("name", PICTURES)
def test_the_documents_pictures_are_of_these_pages(
    browser: Browser, url: str, name: str, tmp_path: Path
) -> None:
    """`PICTURES=docs/assets make test ARGS=…` makes them anew."""
    path, is_dark, width = PICTURES[name]
    folder = Path(os.environ.get("PICTURES", tmp_path))
    with watched_page(browser, is_dark=is_dark, width=width) as watched:
        watched.page.goto(f"{url}/ops/{path}", wait_until="networkidle")
        shot = watched.page.screenshot(path=folder / f"{name}.png", full_page=True)
    assert shot.startswith(b"\x89PNG")
    assert (ASSETS / f"{name}.png").is_file()
