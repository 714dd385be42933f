"""The documentation as a function: pages, their files, caching, paths.

Lives here: what a client without a browser sees. Not here: the document's content
(tests/contract/test_openapi.py), the pages in a browser (test_api_docs_rendered.py).
"""

import re
import sys
from pathlib import Path
from unittest import mock
from urllib.parse import urljoin, urlsplit

import pytest
from flask.testing import FlaskClient
from werkzeug.test import Client

from infra.local.gateway import Gateway

MAIN = Path(__file__).parents[2] / "functions" / "api_docs" / "main.py"
DOCUMENTS = ("/openapi.json", "/openapi.json/", "/api/schema/", "/api/schema")
PAGES = (
    "/api/schema/swagger-ui/",
    "/api/schema/swagger-ui",
    "/api/schema/redoc/",
    "/api/schema/redoc",
)
PREFIXES = ("", "/order", "/deep/er")


@pytest.fixture
def client(docs: FlaskClient) -> FlaskClient:
    return docs


def loaded_by(page: str) -> list[str]:
    """Answer every address that a page names."""
    return re.findall(r'(?:src|href|data-document)="([^"]*)"', page)


@pytest.mark.parametrize("path", DOCUMENTS)
def test_the_document_is_open_to_everybody(client: FlaskClient, path: str) -> None:
    found = client.get(path)
    assert found.status_code == 200
    assert found.mimetype == "application/json"
    assert found.get_json()["openapi"] == "3.1.0"


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("path", DOCUMENTS)
def test_the_server_is_where_the_paths_start_below_any_prefix(
    client: FlaskClient, path: str, prefix: str
) -> None:
    [server] = client.get(path).get_json()["servers"]
    asked = f"https://shop.example{prefix}{path}"
    assert urljoin(asked, server["url"]).rstrip("/") == f"https://shop.example{prefix}"


@pytest.mark.parametrize("path", [*DOCUMENTS, *PAGES])
def test_who_has_it_already_is_told_so(client: FlaskClient, path: str) -> None:
    found = client.get(path)
    assert re.fullmatch(r"public, max-age=[1-9]\d+", found.headers["Cache-Control"])
    again = client.get(path, headers={"If-None-Match": found.headers["ETag"]})
    assert again.status_code == 304
    assert again.data == b""
    assert again.headers["ETag"] == found.headers["ETag"]
    assert again.headers["Cache-Control"] == found.headers["Cache-Control"]
    changed = client.get(path, headers={"If-None-Match": '"another"'})
    assert changed.status_code == 200


def test_the_document_is_rendered_once(client: FlaskClient) -> None:
    client.get("/openapi.json")
    target = "common.openapi._operation"
    with mock.patch(target, side_effect=AssertionError("rendered again")):
        assert client.get("/openapi.json").status_code == 200


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("path", PAGES)
def test_all_that_a_page_loads_is_there_below_any_prefix(
    client: FlaskClient, path: str, prefix: str
) -> None:
    page = client.get(path)
    assert page.mimetype == "text/html"
    named = [name for name in loaded_by(page.text) if name != "data:,"]
    assert len(named) >= 3
    for name in named:
        there = urlsplit(urljoin(f"https://shop.example{prefix}{path}", name))
        assert there.netloc == "shop.example"
        assert there.path.startswith(f"{prefix}/api/schema/")
        inside = there.path.removeprefix(prefix)
        found = client.get(f"{inside}?{there.query}")
        assert found.status_code == 200, name


@pytest.mark.parametrize("path", PAGES)
def test_a_page_names_no_address_outside(client: FlaskClient, path: str) -> None:
    page = client.get(path).text
    assert not re.search(r"(https?:)?//", page.removeprefix("<!doctype html>"))
    for name in loaded_by(page):
        if name.endswith(".css"):
            sheet = client.get(urljoin(path, name)).text
            assert "@import" not in sheet
            assert not re.search(r"url\(\s*[\"']?(https?:)?//", sheet)


def test_redoc_does_not_load_its_makers_logo(client: FlaskClient) -> None:
    assert b"cdn.redoc.ly" not in client.get("/api/schema/assets/redoc.js").data


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("swagger_bundle.js", "text/javascript"),
        ("swagger_style.css", "text/css"),
        ("redoc.js", "text/javascript"),
    ],
)
def test_a_file_is_kept_for_ever_only_under_its_own_version(
    client: FlaskClient, name: str, media_type: str
) -> None:
    path = f"/api/schema/assets/{name}"
    found = client.get(path)
    assert found.mimetype == media_type
    assert len(found.data) > 100_000
    assert found.headers["Cache-Control"] == "no-cache"
    version = found.headers["ETag"].strip('"')
    kept = client.get(f"{path}?v={version}").headers["Cache-Control"]
    assert "immutable" in kept
    assert client.get(f"{path}?v=older").headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nothing.js",
        "scalar.js",
        "__init__.py",
        "swagger-ui.html",
        "../main.py",
        "..%2fmain.py",
        "%2e%2e/main.py",
        "..%5cmain.py",
        "%2fetc%2fpasswd",
        "redoc.js%00",
        "redoc.js/../../main.py",
    ],
)
def test_no_other_file_can_be_had(client: FlaskClient, name: str) -> None:
    assert client.get(f"/api/schema/assets/{name}").status_code == 404


@pytest.mark.parametrize("path", [*DOCUMENTS, *PAGES, "/api/schema/assets/redoc.js"])
def test_answers_allow_nothing_from_elsewhere(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    sources = {word for word in policy.replace(";", " ").split() if ":" in word}
    assert sources == {"data:", "blob:"}
    scripts = next(p for p in policy.split("; ") if p.startswith("script-src"))
    assert scripts == "script-src 'self'"


def test_methods_and_paths_that_are_not_there_are_problems(client: FlaskClient) -> None:
    assert client.head("/openapi.json").status_code == 200
    assert client.options("/openapi.json").status_code == 200
    refused = client.post("/openapi.json")
    assert refused.status_code == 405
    assert refused.headers["Allow"]
    assert client.get("/api/schema/nothing/").mimetype == "application/problem+json"


def test_the_packages_own_code_is_not_loaded(client: FlaskClient) -> None:
    client.get("/api/schema/assets/redoc.js")
    assert "offapi" not in sys.modules


@pytest.mark.parametrize("prefix", ["", "/order"])
@pytest.mark.parametrize("path", [*DOCUMENTS, *PAGES])
def test_the_local_gateway_leads_here(
    client: FlaskClient, path: str, prefix: str
) -> None:
    gateway = Gateway()
    gateway.functions = {"api_docs": client.application}
    assert Client(gateway).get(f"{prefix}{path}").status_code == 200
