"""The documentation as a client without a browser sees it: forms, links, files.

What the documents say is held against the code in tests/contract.
"""

import html
import re
import sys
from urllib.parse import urljoin, urlsplit

import pytest
import yaml
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from common.api_docs import documents, pages
from tests.support.documented import documented

JSON, YAML, HTML = "application/json", "application/yaml", "text/html"
OPENAPI_JSON = "application/vnd.oai.openapi+json"
OPENAPI_YAML = "application/vnd.oai.openapi"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
SCHEMA, EVENTS, PROBLEMS = "/api/schema/", "/api/schema/events/", "/problems/"
PAGES = (
    "/api/schema/swagger-ui/",
    "/api/schema/redoc/",
    f"{EVENTS}?format=html",
    PROBLEMS,
    f"{PROBLEMS}cart-repaired/",
)
DOCUMENTS = (
    "/openapi.json",
    f"{SCHEMA}?format=json",
    f"{SCHEMA}?format=yaml",
    f"{EVENTS}?format=json",
    f"{EVENTS}?format=yaml",
)


def get(client: FlaskClient, path: str, **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return documented(client.get(path, headers=named))


def without_slash(path: str) -> str:
    return path.replace("/?", "?").rstrip("/")


@pytest.mark.parametrize("strip", [str, without_slash], ids=["/", "no /"])
@pytest.mark.parametrize(
    ("path", "accept", "given"),
    [
        ("/openapi.json", HTML, JSON),
        (SCHEMA, None, JSON),
        (SCHEMA, "*/*", JSON),
        (SCHEMA, BROWSER, JSON),
        (SCHEMA, "application/*", JSON),
        (SCHEMA, YAML, YAML),
        (SCHEMA, OPENAPI_JSON, OPENAPI_JSON),
        (SCHEMA, f"{OPENAPI_YAML}, */*;q=0.1", OPENAPI_YAML),
        (SCHEMA, f"{JSON};q=0.5, {YAML}", YAML),
        (SCHEMA, f"{JSON};q=0, {YAML};q=0.1", YAML),
        (f"{SCHEMA}?format=yaml", JSON, YAML),
        (f"{SCHEMA}?format=json", HTML, JSON),
        (EVENTS, None, JSON),
        (EVENTS, YAML, YAML),
        (EVENTS, BROWSER, HTML),
        (f"{EVENTS}?format=json", BROWSER, JSON),
        (f"{EVENTS}?format=html", JSON, HTML),
        (PROBLEMS, None, HTML),
        (PROBLEMS, JSON, JSON),
        (f"{PROBLEMS}busy/", BROWSER, HTML),
        (f"{PROBLEMS}busy/", JSON, JSON),
    ],
)
def test_everybody_gets_the_form_that_they_like_best(
    docs: FlaskClient, path: str, accept: str | None, given: str, strip: type[str]
) -> None:
    found = get(docs, strip(path), **({"Accept": accept} if accept else {}))
    assert (found.status_code, found.mimetype) == (200, given)
    assert ("Vary" in found.headers) == (path != "/openapi.json")


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        (SCHEMA, HTML, 406),
        (EVENTS, "image/png", 406),
        (f"{PROBLEMS}busy", "image/png", 406),
        (f"{SCHEMA}?format=html", "*/*", 400),
        (f"{EVENTS}?format=xml", "*/*", 400),
        (f"{PROBLEMS}nothing", "*/*", 404),
        (f"{PROBLEMS}conflict/", "*/*", 404),
        ("/api/schema/nothing/", "*/*", 404),
    ],
)
def test_rest_refused(docs: FlaskClient, path: str, accept: str, status: int) -> None:
    refused = get(docs, path, Accept=accept)
    assert refused.status_code == status
    assert refused.mimetype == "application/problem+json"


@pytest.mark.parametrize(("path", "name"), [(SCHEMA, "openapi"), (EVENTS, "asyncapi")])
def test_yaml_and_json_say_the_same(docs: FlaskClient, path: str, name: str) -> None:
    as_yaml = get(docs, path, Accept=YAML)
    assert as_yaml.data == documents.source(name)
    as_json = get(docs, path, Accept=JSON)
    assert yaml.safe_load(as_yaml.data) == as_json.get_json()


@pytest.mark.parametrize("path", [*DOCUMENTS, *PAGES])
def test_what_a_caller_has_already_costs_no_body(docs: FlaskClient, path: str) -> None:
    found = get(docs, path)
    assert re.fullmatch(r"public, max-age=[1-9]\d+", found.headers["Cache-Control"])
    tag = found.headers["ETag"]
    again = get(docs, path, If_None_Match=tag)
    assert (again.status_code, again.data) == (304, b"")
    for name in ("ETag", "Cache-Control", "Vary"):
        assert again.headers.get(name) == found.headers.get(name)
    assert get(docs, path, If_None_Match='"another"').status_code == 200


def test_each_form_has_a_tag_of_its_own(docs: FlaskClient) -> None:
    paths = {*DOCUMENTS[1:], *PAGES}
    tags = {get(docs, path).headers["ETag"] for path in paths}
    assert len(tags) == len(paths)


@pytest.mark.parametrize("prefix", ["", "/order", "/deep/er"])
@pytest.mark.parametrize("strip", [str, without_slash], ids=["/", "no /"])
@pytest.mark.parametrize("path", PAGES)
def test_a_page_leads_only_to_what_is_there_below_any_prefix(
    docs: FlaskClient, path: str, strip: type[str], prefix: str
) -> None:
    page = get(docs, strip(path), Accept=HTML).text
    named = set(re.findall(r'(?:src|href|data-document)="([^"]*)"', page)) - {"data:,"}
    ids = set(re.findall(r'id="([^"]*)"', page))
    assert {link[1:] for link in named if link.startswith("#")} <= ids
    others = [link for link in named if not link.startswith("#")]
    assert others
    for name in others:
        asked = urljoin(f"https://shop.example{prefix}{strip(path)}", name)
        there = urlsplit(asked)
        assert there.netloc == "shop.example"
        assert there.path.startswith(f"{prefix}/"), name
        inside = there.path.removeprefix(prefix)
        assert docs.get(f"{inside}?{there.query}").status_code == 200, name


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_nothing_from_outside_and_no_script_that_it_does_not_need(
    docs: FlaskClient, path: str
) -> None:
    found = get(docs, path, Accept=HTML)
    page = found.text.removeprefix("<!doctype html>")
    assert not re.search(r"(https?:)?//", page)
    has_script = "<script" in page
    assert has_script == ("swagger" in path or "redoc" in path)
    for name in re.findall(r'href="([^"]*\.css[^"]*)"', page):
        sheet = docs.get(urljoin(path, name)).text
        assert "@import" not in sheet
        assert not re.search(r"url\(\s*[\"']?(https?:)?//", sheet)
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    policy = found.headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'"} <= set(policy)
    sources = {word for word in " ".join(policy).split() if ":" in word}
    assert sources == {"data:", "blob:"}


def test_every_problem_type_has_a_page_and_json_at_its_uri(docs: FlaskClient) -> None:
    listed = get(docs, PROBLEMS, Accept=JSON).get_json()
    assert [each["name"] for each in listed] == list(pages.problems())
    linked = re.findall(r'<a href="([^"]+)"', get(docs, PROBLEMS).text)
    assert [urljoin(PROBLEMS, link) for link in linked] == [e["type"] for e in listed]
    for each in listed:
        assert get(docs, each["type"], Accept=JSON).get_json() == each
        assert each["type"] in get(docs, each["type"]).text


def test_what_is_code_in_a_problem_s_text_is_code_on_its_page(
    docs: FlaskClient,
) -> None:
    spans = 0
    for each in get(docs, PROBLEMS, Accept=JSON).get_json():
        text = html.unescape(get(docs, each["type"]).text)
        assert "`" not in text, each["type"]
        for value in each.values():
            for code in re.findall(r"`([^`]+)`", str(value)):
                assert f"<code>{code}</code>" in text, code
                spans += 1
    assert spans > 0


@pytest.mark.parametrize("name", pages.ASSETS)
def test_file_is_kept_only_under_its_own_version(docs: FlaskClient, name: str) -> None:
    path = f"/api/schema/assets/{name}"
    found = docs.get(path)
    assert found.mimetype == pages.ASSETS[name]
    assert found.headers["Cache-Control"] == "no-cache"
    assert b"cdn.redoc.ly" not in found.data
    version = found.headers["ETag"].strip('"')
    kept = docs.get(f"{path}?v={version}").headers["Cache-Control"]
    assert "immutable" in kept
    assert docs.get(f"{path}?v=older").headers["Cache-Control"] == "no-cache"
    assert "offapi" not in sys.modules


@pytest.mark.parametrize(
    "name",
    [
        *("", "nothing.js", "__init__.py", "swagger-ui.html", "../openapi.yaml"),
        *("..%2fopenapi.yaml", "%2e%2e/openapi.yaml", "..%5copenapi.yaml"),
        *("%2fetc%2fpasswd", "redoc.js%00", "redoc.js/../../openapi.yaml"),
    ],
)
def test_no_other_file_can_be_had(docs: FlaskClient, name: str) -> None:
    assert docs.get(f"/api/schema/assets/{name}").status_code == 404


@pytest.mark.parametrize("path", [*PAGES, *DOCUMENTS])
def test_a_tag_that_does_not_hold_is_a_problem_and_no_document(
    docs: FlaskClient, path: str
) -> None:
    response = docs.get(path, headers={"If-Match": '"stale"'})
    assert (response.status_code, response.mimetype) == (
        412,
        "application/problem+json",
    )
    assert response.get_json()["type"] == "/problems/precondition-failed"
    current = docs.get(path).headers["ETag"]
    assert docs.get(path, headers={"If-Match": current}).status_code == 200
