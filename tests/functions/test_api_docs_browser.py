"""The documentation's pages in a real browser, below the gateway's prefix.

The browser is the system's own; whatever a page asks of anybody but this server, and
whatever it complains of, makes a test fail.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from common.api_docs.documents import operations, parsed
from common.api_docs.pages import LOCAL_USER
from infra.local.gateway import Gateway
from infra.local.http_server import HttpServer
from tests.support.browser import Watched, running_browser, watched_page
from tests.support.service import Service

FUNCTIONS = ("api_docs", "orders_crud", "create_order_from_cart", "item_status")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    gateway = Gateway()
    gateway.functions = {name: service.client(name).application for name in FUNCTIONS}
    server = HttpServer(gateway)
    server.start()
    yield f"{server.url}/order"
    server.stop()


def hold(watched: Watched, url: str) -> None:
    """Fail if a page complained, or asked somebody else."""
    assert watched.errors == []
    assert watched.hosts - {""} == {urlsplit(url).netloc}  # a blob has no host


@pytest.mark.parametrize("name", ["swagger-ui", "redoc/"])
def test_a_page_shows_every_operation(browser: Browser, url: str, name: str) -> None:
    with watched_page(browser) as watched:
        watched.page.goto(f"{url}/api/schema/{name}")
        for _, _, operation in operations(parsed("openapi")):
            shown = watched.page.get_by_text(operation["summary"], exact=True).first
            expect(shown).to_be_attached(timeout=60_000)
        hold(watched, url)


def test_an_order_is_made_from_swagger_ui_through_the_prefix(
    browser: Browser, url: str, service: Service
) -> None:
    """As the local run's user, who is filled in."""
    article = service.sandbox.add_article(amount=5)
    with watched_page(browser) as watched:
        page = watched.page
        page.set_default_timeout(60_000)
        page.goto(f"{url}/api/schema/swagger-ui/")
        made = page.locator("#operations-Orders-create_order")
        made.locator("button.opblock-summary-control").click()
        body = f'{{"items": [{{"product_variation": "{article}", "quantity": 2}}]}}'
        made.locator("textarea.body-param__text").fill(body)
        made.get_by_role("button", name="Execute").click()
        answer = made.locator(".live-responses-table .response-col_status")
        expect(answer.nth(1)).to_contain_text("201")
        hold(watched, url)
    [order] = service.crud("GET", "/api/orders/", LOCAL_USER).get_json()
    assert order["items"][0]["product_variation"] == article


@pytest.mark.parametrize(
    ("is_dark", "width"), [(False, 1280), (True, 360)], ids=["light", "dark phone"]
)
@pytest.mark.parametrize(
    "path", ["api/schema/events/", "problems/", "problems/cart-repaired/"]
)
def test_pages_can_be_read_by_everybody(
    browser: Browser, url: str, path: str, width: int, *, is_dark: bool
) -> None:
    with watched_page(browser, is_dark=is_dark, width=width) as watched:
        page = watched.page
        page.goto(f"{url}/{path}")
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") is not is_dark
        page.evaluate(
            "document.querySelectorAll('details').forEach(d => d.open = true)"
        )
        found = Axe().run(page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
        wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wider <= 0
        hold(watched, url)


def test_an_example_is_opened_by_keyboard_alone(browser: Browser, url: str) -> None:
    with watched_page(browser) as watched:
        watched.page.goto(f"{url}/api/schema/events/")
        example = watched.page.get_by_label("Example body of order.item.created")
        assert not example.is_visible()
        watched.tab_to("Example of order.item.created")
        watched.page.keyboard.press("Enter")
        assert example.is_visible()
