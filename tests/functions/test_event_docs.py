"""The event document as a function answers it: forms, caching, links.

Lives here: what a client without a browser sees. Not here: the document's content
(tests/contract/test_asyncapi.py), the page in a browser (test_event_docs_rendered.py).
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock
from urllib.parse import urljoin, urlsplit

import functions_framework
import pytest
import yaml
from flask.testing import FlaskClient

from common import wiring
from common.asyncapi import document
from common.asyncapi_parts import GUARANTEES, KINDS
from infra.local.front_page import front_page
from infra.local.gateway import function_of
from tests.support.documented import documented

MAIN = Path(__file__).parents[2] / "functions" / "api_docs" / "main.py"
PATH = "/api/schema/events/"
JSON, YAML, HTML = "application/json", "application/yaml", "text/html"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture(scope="module")
def client() -> Iterator[FlaskClient]:
    with mock.patch.dict(os.environ, {"LOG_LEVEL": "WARNING"}, clear=True):
        app = functions_framework.create_app("api_docs", str(MAIN))
        yield app.test_client()
    wiring.close()
    wiring._needs.clear()


@pytest.mark.parametrize(
    ("accept", "query", "media_type"),
    [
        (None, "", JSON),
        ("*/*", "", JSON),
        (JSON, "", JSON),
        (YAML, "", YAML),
        (BROWSER, "", HTML),
        (BROWSER, "?format=json", JSON),
        (BROWSER, "?format=yaml", YAML),
        (JSON, "?format=html", HTML),
    ],
)
@pytest.mark.parametrize("path", [PATH, PATH.rstrip("/")])
def test_programs_get_a_document_and_browsers_a_page(
    client: FlaskClient, path: str, accept: str | None, query: str, media_type: str
) -> None:
    headers = {} if accept is None else {"Accept": accept}
    found = documented(client.get(path + query, headers=headers))
    assert found.status_code == 200
    assert found.mimetype == media_type
    assert "Accept" in found.headers["Vary"]


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_json_and_yaml_say_the_same(client: FlaskClient, form: str) -> None:
    found = client.get(PATH, query_string={"format": form}).text
    assert yaml.safe_load(found) == document()


def test_a_form_that_there_is_not_is_refused(client: FlaskClient) -> None:
    found = documented(client.get(f"{PATH}?format=xml"))
    assert found.status_code == 400
    assert found.get_json()["errors"] == {"format": ["must be one of json, yaml, html"]}


@pytest.mark.parametrize("form", ["json", "yaml", "html"])
def test_who_has_it_already_is_told_so(client: FlaskClient, form: str) -> None:
    found = client.get(PATH, query_string={"format": form})
    tag = found.headers["ETag"]
    asked = {"If-None-Match": tag}
    again = documented(client.get(PATH, query_string={"format": form}, headers=asked))
    assert (again.status_code, again.headers["ETag"]) == (304, tag)
    assert "Accept" in again.headers["Vary"]


def test_each_form_has_a_tag_of_its_own(client: FlaskClient) -> None:
    tags = {
        client.get(PATH, query_string={"format": form}).headers["ETag"]
        for form in ("json", "yaml", "html")
    }
    assert len(tags) == 3


def test_the_page_tells_every_event_and_every_guarantee(client: FlaskClient) -> None:
    page = client.get(f"{PATH}?format=html").text
    told = [f"<code>{name}</code>" for name in KINDS]
    told += [f"<h3>{each.title}</h3>" for each in GUARANTEES]
    assert [each for each in told if each not in page] == []


@pytest.mark.parametrize("prefix", ["", "/order"])
@pytest.mark.parametrize("path", [PATH, PATH.rstrip("/")])
def test_the_pages_links_lead_somewhere_below_any_prefix(
    client: FlaskClient, path: str, prefix: str
) -> None:
    page = client.get(f"{path}?format=html").text
    links = set(re.findall(r'href="([^"]*)"', page)) - {"data:,"}
    ids = set(re.findall(r'id="([^"]*)"', page))
    assert {link[1:] for link in links if link.startswith("#")} <= ids
    others = [link for link in links if not link.startswith("#")]
    assert len(others) == 4
    for link in others:
        there = urlsplit(urljoin(f"https://shop.example{prefix}{path}", link))
        assert there.path.startswith(f"{prefix}/api/schema/")
        inside = there.path.removeprefix(prefix)
        assert client.get(f"{inside}?{there.query}").status_code == 200


def test_the_page_needs_no_script_and_nobody_outside(client: FlaskClient) -> None:
    page = client.get(f"{PATH}?format=html").text
    assert "<script" not in page
    assert "src=" not in page
    assert "url(" not in page
    assert "//" not in page


@pytest.mark.parametrize("path", ["swagger-ui/", "swagger-ui", "redoc/", "redoc"])
def test_the_pages_of_the_api_lead_to_it(client: FlaskClient, path: str) -> None:
    page = client.get(f"/api/schema/{path}").text
    [link] = re.findall(r'<a href="([^"]*)">its events</a>', page)
    assert urljoin(f"https://shop.example/api/schema/{path}", link).endswith(PATH)


def test_the_front_page_of_a_local_run_leads_to_it() -> None:
    environ = {"wsgi.url_scheme": "http", "HTTP_HOST": "127.0.0.1:8000"}
    environ |= {"REQUEST_METHOD": "GET", "SERVER_NAME": "x", "SERVER_PORT": "8000"}
    page = b"".join(front_page(environ, lambda *_: lambda _: None)).decode()
    assert f'<a href="{PATH}">' in page
    assert function_of(PATH) == "api_docs"
