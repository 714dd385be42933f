"""Trying the API out from its own pages, in a real browser on a running platform.

Lives here: what a person does there, step by step. Not here: what the pages show
(test_api_docs_rendered.py). Surprise: the browser is the system's own, and whatever it
is asked for beyond this server makes a test fail.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from infra.local.gateway import Gateway
from infra.local.http_server import HttpServer
from tests.support.browser import running_browser
from tests.support.service import Service, new_user

FUNCTIONS = ("api_docs", "orders_crud", "create_order_from_cart", "item_status")


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    gateway = Gateway()
    gateway.functions = {name: service.client(name).application for name in FUNCTIONS}
    server = HttpServer(gateway)
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
def page(url: str) -> Iterator[Page]:
    with running_browser() as browser:
        page = browser.new_page()
        page.set_default_timeout(30_000)
        asked: list[str] = []
        complaints: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
    here = (urlsplit(url).netloc, "")
    assert not [each for each in asked if urlsplit(each).netloc not in here]
    assert not complaints


def identify(page: Page, user: str) -> None:
    page.get_by_role("button", name="Authorize").first.click()
    page.locator("#api_key_value").fill(user)
    page.locator("form", has=page.locator("#api_key_value")).get_by_role(
        "button", name="Apply credentials"
    ).click()
    page.get_by_role("button", name="Close").first.click()


@pytest.mark.parametrize("prefix", ["", "/order"])
def test_an_order_is_made_and_listed_from_swagger_ui(
    url: str, page: Page, service: Service, prefix: str
) -> None:
    user = new_user()
    article = service.sandbox.add_article(amount=5)
    page.goto(f"{url}{prefix}/api/schema/swagger-ui/")
    identify(page, user)

    made = page.locator("#operations-Orders-create_order")
    made.locator("button.opblock-summary-control").click()
    body = f'{{"items": [{{"product_variation": "{article}", "quantity": 2}}]}}'
    made.locator("textarea.body-param__text").fill(body)
    made.get_by_role("button", name="Execute").click()
    answer = made.locator(".live-responses-table .response-col_status")
    expect(answer.nth(1)).to_contain_text("201")

    listed = page.locator("#operations-Orders-list_orders")
    listed.locator("button.opblock-summary-control").click()
    listed.get_by_role("button", name="Execute").click()
    answer = listed.locator(".live-responses-table .response-col_status")
    expect(answer.nth(1)).to_contain_text("200")
    shown = listed.locator(".live-responses-table .response-col_description")
    expect(shown.nth(1)).to_contain_text(article)
    [order] = service.crud("GET", "/api/orders/", user).get_json()
    assert order["items"][0]["product_variation"] == article


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_problem_types_can_be_read_by_everybody(
    url: str, page: Page, scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": 360, "height": 700})
    page.goto(f"{url}/order/problems/")
    assert not Axe().run(page).response["violations"]
    page.get_by_role("link", name="cart-repaired").click()
    expect(page.get_by_role("heading")).to_contain_text("Cart updated")
    assert not Axe().run(page).response["violations"]
    wide = "document.documentElement.scrollWidth > window.innerWidth"
    assert page.evaluate(wide) is False
    page.get_by_role("link", name="All problem types").click()
    expect(page).to_have_url(f"{url}/order/problems/")
