"""The documentation as a site: whole, without a broken link, asking nobody outside."""

import ast
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe

from infra import docs_site
from tests.support.browser import running_browser
from tests.support.pages import ROOT

# What a browser fetches by itself; a link that people follow is none of it.
FETCHED = {
    *(("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src")),
    *(("link", "href"), ("object", "data"), ("use", "href"), ("video", "src")),
}
SERIOUS = ("serious", "critical")


def build(checkout: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "infra/docs_site.py", "--folder", str(folder)],
        cwd=checkout,
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(
        r"^docs: .*\n\t@\S+ -m infra\.docs_site ",
        (ROOT / "Makefile").read_text(),
        re.MULTILINE,
    )
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout of what makes the site, to be spoilt."""
    for path in [*docs_site.published(), "mkdocs.yml", "infra/docs_site.py"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    return tmp_path


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Log nothing."""

    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class Fetched(HTMLParser):
    """Addresses that a page has its browser fetch, and links to follow."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.links: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if (tag, name) in FETCHED:
                self.addresses.append(value or "")
            elif (tag, name) == ("a", "href"):
                self.links.append(value or "")


def titles_and_paths(nav: object) -> Iterator[tuple[str, str]]:
    if isinstance(nav, list):
        for each in nav:
            yield from titles_and_paths(each)
    elif isinstance(nav, dict):
        for title, inside in nav.items():
            if isinstance(inside, str):
                yield title, inside
            else:
                yield from titles_and_paths(inside)


def test_every_page_of_the_checkout_is_in_the_menu() -> None:
    # mkdocs.yml names no Python, so that it is read like any other file.
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    pages = {path for path in docs_site.published() if path.endswith(".md")}
    assert {path for _, path in titles_and_paths(menu)} == pages
    assert {"README.md", "DECISIONS.md", "docs/runbook.md"} <= pages
    assert not [path for path in pages if ".venv" in path]


def test_no_page_has_a_browser_fetch_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        found = Fetched(page).addresses
        assert found
        outside = [each for each in found if re.match(r"(\w+:)?//", each)]
        assert not outside, page
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", text), style


def test_a_link_between_pages_leads_to_the_page_and_one_to_code_is_text(
    site: Path,
) -> None:
    operations = site / "docs" / "operations" / "index.html"
    links = Fetched(operations).links
    for path in ("../../infra/terraform/", "../rollout/"):
        assert path in links
        assert (operations.parent / path / "index.html").exists()
    assert not [each for each in links if "compose.yaml" in each]
    assert "compose.yaml" in operations.read_text()
    # The README says infra/rabbitmq; the page is the README there.
    assert "infra/rabbitmq/" in Fetched(site / "index.html").links


def test_files_and_tests_that_a_page_names_are_there() -> None:
    sources = [path.read_text() for path in (ROOT / "tests").rglob("*.py")]
    defined = set(re.findall(r"def (\w+)\(", "\n".join(sources)))
    folders = "common|functions|infra|tests|benchmarks"
    lost: list[str] = []
    for page in docs_site.published():
        if not page.endswith(".md") or page == "CHANGELOG.md":  # that is history
            continue
        text = (ROOT / page).read_text()
        paths = re.findall(rf"`((?:{folders})/[\w./*-]+)`", text)
        # Files that a reader is to make have NAME or NNNN in theirs.
        paths = [path for path in paths if not re.search(r"[A-Z]{4}", path)]
        lost += [f"{page}: {path}" for path in paths if not list(ROOT.glob(path))]
        names = re.findall(r"`(test_\w+)`", text)
        if page == "CONTRIBUTING.md":  # which names rules within tests, too
            names += re.findall(r"`([a-z]+(?:_[a-z]+){3,})`", text)
        lost += [f"{page}: {name}" for name in names if name not in defined]
    assert not lost


def test_every_name_of_the_walk_through_the_code_is_in_its_file() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    steps = re.findall(r"^\d\. `([\w./]+\.py)` ((?:`\w+`(?:, )?)+)", text, re.MULTILINE)
    assert len(steps) == 3 + 5 + 7
    for file, names in steps:
        tree = ast.parse((ROOT / file).read_text())
        found = {getattr(n, "name", getattr(n, "id", "")) for n in ast.walk(tree)}
        assert set(re.findall(r"\w+", names)) <= found, file


def test_a_link_that_leads_nowhere_fails_and_is_named(copy: Path) -> None:
    page = copy / "docs" / "limits.md"
    page.write_text(
        f"{page.read_text()}\n[one](nothing.md) [two](capacity.md#no-such-heading)\n"
    )
    done = build(copy, copy / "built")
    assert done.returncode == 1
    assert "nothing.md" in done.stderr
    assert "no-such-heading" in done.stderr


def test_in_a_browser_it_fits_a_phone_finds_words_and_asks_nobody_else(
    served: str,
) -> None:
    asked: list[str] = []
    said: list[str] = []
    with running_browser() as browser:
        page = browser.new_page(
            color_scheme="dark", viewport={"width": 390, "height": 800}
        )
        page.set_default_timeout(15_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda line: said.append(f"{line.type}: {line.text}"))
        page.goto(f"{served}/docs/architecture/", wait_until="networkidle")
        width = page.evaluate("document.documentElement.scrollWidth")
        drawn = page.evaluate(
            "[...document.querySelectorAll('article img')].map(i => i.naturalWidth)"
        )
        scheme = page.evaluate("document.body.dataset.mdColorScheme")
        page.locator("label[for=__search]:visible").first.click()
        page.locator("input.md-search__input").press_sequentially("dead letter")
        page.locator(".md-search-result__link").first.wait_for()
        found = []
        # A page of its own for each: a browser remembers which colours it had.
        for scheme_ in ("dark", "light"):
            page = browser.new_page(color_scheme=scheme_)
            page.goto(f"{served}/docs/runbook/")
            found += Axe().run(page).response["violations"]
    assert not [each["id"] for each in found if each["impact"] in SERIOUS]
    assert not [each for each in asked if not each.startswith((served, "data:"))]
    assert not [line for line in said if line.startswith("error")]
    assert width <= 390
    assert drawn == [360, 360]
    assert scheme == "slate"


def test_what_was_not_tried_without_an_account_fits_on_one_screen(served: str) -> None:
    with running_browser() as browser:
        page = browser.new_page(viewport={"width": 1920, "height": 1080})
        page.goto(f"{served}/infra/terraform/#not-tried-without-an-account")
        items = page.locator("#not-tried-without-an-account ~ ul").last
        shown = items.bounding_box()
    assert shown
    assert shown["height"] <= 1080
