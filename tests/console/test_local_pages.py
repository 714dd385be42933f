"""The pages around a local run in a browser: front page, traces, API viewers, CORS."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from werkzeug.wrappers import Response

from infra.local.http_server import serving
from infra.local.sandbox.catalogue import DEMO_USER
from tests.support.browser import DESK, PHONE, Watched, running_browser, watched_page
from tests.support.local_system import local_system

LOOKS = pytest.mark.parametrize(
    ("is_dark", "width"),
    [(True, PHONE), (False, PHONE), (True, DESK), (False, DESK)],
    ids=["dark phone", "light phone", "dark", "light"],
)
SCREEN = 800  # pixels, of a page in these tests


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
    folder = tmp_path_factory.mktemp("local")
    with local_system(postgres_url, template_database, folder) as (url, _):
        yield url


def check_out(page: Page, url: str) -> int:
    """Buy two mugs with the buttons of the front page; return the order's id."""
    page.goto(url)
    page.get_by_role("button", name="Fill the cart").click()
    expect(page.get_by_role("status")).to_contain_text("in the cart")
    page.get_by_role("button", name="Check out").click()
    said = page.get_by_role("status")
    expect(said).to_contain_text("Order created successfully")
    found = re.search(r"order (\d+)", said.inner_text())
    assert found
    return int(found[1])


def brightness(colour: str) -> int:
    """Return the sum of a colour's red, green and blue, as a browser tells them."""
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3])


def show_traces(page: Page, url: str, order_id: int) -> None:
    """Show the traces of an order, which arrive a moment after its requests."""
    checkout = page.locator("tbody tr", has_text="POST /api/orders-from-shopcart")
    for _ in range(100):
        page.goto(f"{url}/traces/?q={order_id}")
        if checkout.count():
            return
        page.wait_for_timeout(100)
    raise AssertionError(page.inner_text("main"))


def hold(watched: Watched, url: str, width: int) -> None:
    """Fail if a page is not accessible, too wide, or asked somebody else."""
    found = Axe().run(watched.page).response["violations"]
    serious = [
        (each["id"], [node["html"] for node in each["nodes"]])
        for each in found
        if each["impact"] in ("serious", "critical", "moderate")
    ]
    assert not serious, watched.page.url
    wide = watched.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, watched.page.url
    assert watched.hosts <= {urlsplit(url).netloc, ""}
    # A browser asks once for an icon of its own accord.
    assert not [said for said in watched.errors if "404" not in said]


@LOOKS
def test_the_front_page_buys_and_every_page_around_it_can_be_read(
    browser: Browser, url: str, width: int, *, is_dark: bool
) -> None:
    with watched_page(browser, is_dark=is_dark, width=width) as watched:
        page = watched.page
        order_id = check_out(page, url)
        hold(watched, url, width)
        look = (
            "[getComputedStyle(document.body)].map(s => [s.backgroundColor, s.color])"
        )
        [colours] = page.evaluate(look)
        assert (brightness(colours[0]) < brightness(colours[1])) is is_dark
        page.get_by_role("link", name="traces", exact=True).click()
        page.wait_for_url(f"**/traces/?q={order_id}")
        show_traces(page, url, order_id)
        hold(watched, url, width)
        page.locator("tbody a").first.click()
        page.wait_for_url(re.compile(r"/traces/[0-9a-f]{32}/"))
        hold(watched, url, width)
        page.goto(f"{url}/sandbox/")
        hold(watched, url, width)


def test_the_buttons_take_an_order_to_its_approval(browser: Browser, url: str) -> None:
    with watched_page(browser) as watched:
        page = watched.page
        order_id = check_out(page, url)
        said = page.get_by_role("status")

        def deliver() -> bool:
            page.get_by_role("button", name="Let the shop deliver it").click()
            expect(said).to_contain_text(re.compile("Delivered|try again"))
            return "Delivered" in said.inner_text()

        for _ in range(50):
            if deliver():
                break
            page.wait_for_timeout(200)
        page.get_by_role("link", name="console", exact=True).click()
        page.wait_for_url(f"**/ops/orders/{order_id}/")
        assert "Delivered" in page.inner_text("main")


def test_an_empty_cart_is_said_so(browser: Browser, url: str) -> None:
    with watched_page(browser) as watched:
        check_out(watched.page, url)
        page = watched.page
        page.evaluate("controls.checkout.click()")
        expect(page.get_by_role("status")).not_to_be_empty()


def test_traces_are_found_by_order_request_and_failure(
    browser: Browser, url: str
) -> None:
    with watched_page(browser) as watched:
        page = watched.page
        order_id = check_out(page, url)
        show_traces(page, url, order_id)
        row = page.locator("tbody tr", has_text="POST /api/orders-from-shopcart")
        expect(row).to_contain_text("201")
        expect(row).to_contain_text(re.compile(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d"))
        console = row.get_by_role("link", name=str(order_id), exact=True)
        assert console.get_attribute("href") == f"/ops/orders/{order_id}/"
        row.locator("a").first.click()
        page.wait_for_url(re.compile("/traces/[0-9a-f]{32}/"))
        request_id = page.locator("dt:has-text('Request id') + dd").inner_text()
        page.goto(f"{url}/traces/?q={request_id}")
        assert page.locator("tbody tr").count() == 1
        page.get_by_label("Show").select_option("failed")
        page.get_by_role("button", name="Filter").click()
        expect(page.locator("main")).to_contain_text("None of those")


def test_the_console_leads_to_the_traces_of_an_order_and_of_a_request(
    browser: Browser, url: str
) -> None:
    with watched_page(browser) as watched:
        page = watched.page
        order_id = check_out(page, url)
        show_traces(page, url, order_id)
        page.goto(f"{url}/ops/orders/{order_id}/")
        page.get_by_role("link", name="what its requests did").click()
        page.wait_for_url(f"**/traces/?q={order_id}")
        page.go_back()
        of_request = page.locator(".timeline a[href*='/traces/']").first
        request_id = of_request.inner_text()
        of_request.click()
        page.wait_for_url(f"**/traces/?q={request_id}")
        assert "POST /api/orders-from-shopcart" in page.inner_text("tbody")


def test_a_page_of_another_port_uses_the_api(browser: Browser, url: str) -> None:
    """As a front end that somebody develops on this machine."""
    front_end = Response(
        "<!doctype html><title>front end</title>", mimetype="text/html"
    )
    with serving(front_end) as elsewhere, watched_page(browser) as watched:
        watched.page.goto(elsewhere.replace("127.0.0.1", "localhost"))
        made = watched.page.evaluate(
            """async ([url, user]) => {
              const response = await fetch(`${url}/api/orders/`, {method: "POST",
                headers: {"X-User-ID": user, "Content-Type": "application/json",
                  "Idempotency-Key": "cors"}, body: "{}"});
              const order = await response.json();
              const changed = await fetch(`${url}/api/orders/${order.id}/`,
                {method: "PATCH", headers: {"X-User-ID": user,
                  "Content-Type": "application/json",
                  "If-Match": response.headers.get("ETag")},
                body: '{"metadata": {"a": "b"}}'});
              const list = await fetch(`${url}/api/orders/?limit=1`,
                {headers: {"X-User-ID": user}});
              return {status: response.status, changed: changed.status,
                location: response.headers.get("Location"),
                request: response.headers.get("X-Request-ID"),
                next: list.headers.get("Link")};
            }""",
            [url, DEMO_USER],
        )
        assert (made["status"], made["changed"]) == (201, 200)
        assert "/api/orders/" in made["location"]
        assert made["request"]
        assert 'rel="next"' in made["next"]
        refused = watched.page.evaluate(
            "url => fetch(`${url}/ops/`).then(() => 'read', () => 'refused')", url
        )
        assert refused == "refused"


@LOOKS
@pytest.mark.parametrize("viewer", ["swagger-ui", "redoc"])
def test_a_viewer_fits_says_who_one_is_and_leads_back(
    browser: Browser, url: str, viewer: str, width: int, *, is_dark: bool
) -> None:
    with watched_page(browser, is_dark=is_dark, width=width) as watched:
        page = watched.page
        page.goto(f"{url}/api/schema/{viewer}/")
        first = page.get_by_text("Order what is in the cart", exact=True).first
        expect(first).to_be_attached(timeout=60_000)
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") is not is_dark
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width
        page.get_by_role("link", name="Local run").click()
        page.wait_for_url(f"{url}/")
        assert watched.hosts <= {urlsplit(url).netloc, ""}


def test_every_operation_of_swagger_ui_fits_on_two_screens(
    browser: Browser, url: str
) -> None:
    with watched_page(browser) as watched:
        page = watched.page
        page.goto(f"{url}/api/schema/swagger-ui/")
        blocks = page.locator(".opblock")
        expect(blocks.first).to_be_visible(timeout=60_000)
        heights = {}
        for index in range(blocks.count()):
            block = blocks.nth(index)
            block.locator("button.opblock-summary-control").click()
            expect(block.locator(".responses-wrapper")).to_be_visible()
            box = block.bounding_box()
            assert box
            path = block.locator(".opblock-summary-path").inner_text()
            method = block.locator(".opblock-summary-method").inner_text()
            heights[f"{method} {path}"] = box["height"]
            block.locator("button.opblock-summary-control").click()
        assert len(heights) > 10
        assert not {k: h for k, h in heights.items() if h > 2 * SCREEN}


def test_the_user_in_swagger_ui_is_filled_in_and_stays(
    browser: Browser, url: str
) -> None:
    other = "d0d0d0d0-0000-4000-8000-000000000007"
    with watched_page(browser) as watched:
        page = watched.page
        page.set_default_timeout(60_000)

        def credentials() -> None:
            page.goto(f"{url}/api/schema/swagger-ui/")
            page.get_by_role("button", name="Authorize").first.click()

        def used() -> str:
            page.get_by_role("button", name="Close").first.click()
            block = page.locator("#operations-Orders-list_orders")
            block.locator("button.opblock-summary-control").click()
            with page.expect_request("**/api/orders/**") as asked:
                block.get_by_role("button", name="Execute").click()
            return asked.value.headers["x-user-id"]

        credentials()
        assert used() == DEMO_USER
        credentials()
        page.get_by_role("button", name="Remove authorization").click()
        page.locator("#api_key_value").fill(other)
        form = page.locator("form", has=page.locator("#api_key_value"))
        form.get_by_role("button", name="Apply credentials").click()
        assert used() == other
        credentials()
        assert used() == other
