"""The API document as JSON and as YAML, and who is given which.

Lives here: media types of /api/schema/. Not here: caching and paths, which all of the
documentation has alike (test_api_docs.py).
"""

import time

import pytest
import yaml
from flask.testing import FlaskClient

from tests.support.documented import documented

JSON = "application/json"
YAML = "application/yaml"
OPENAPI_JSON = "application/vnd.oai.openapi+json"
OPENAPI_YAML = "application/vnd.oai.openapi"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize("path", ["/api/schema/", "/api/schema"])
@pytest.mark.parametrize(
    ("accept", "given"),
    [
        (None, JSON),
        ("*/*", JSON),
        (BROWSER, JSON),
        ("application/*", JSON),
        (JSON, JSON),
        (YAML, YAML),
        (OPENAPI_JSON, OPENAPI_JSON),
        (OPENAPI_YAML, OPENAPI_YAML),
        (f"{OPENAPI_YAML}, */*;q=0.1", OPENAPI_YAML),
        (f"{JSON};q=0.5, {YAML}", YAML),
        (f"{JSON}, {YAML};q=0.5", JSON),
        (f"{JSON};q=0, {YAML};q=0.1", YAML),
    ],
)
def test_the_document_comes_in_the_form_that_is_liked_best(
    docs: FlaskClient, path: str, accept: str | None, given: str
) -> None:
    found = documented(docs.get(path, headers={"Accept": accept} if accept else {}))
    assert found.status_code == 200
    assert found.mimetype == given
    assert found.headers["Vary"] == "Accept"


@pytest.mark.parametrize(
    ("path", "given"),
    [("/api/schema/?format=yaml", YAML), ("/api/schema?format=json", JSON)],
)
@pytest.mark.parametrize("accept", [JSON, YAML, "text/html"])
def test_a_format_in_the_query_wins(
    docs: FlaskClient, path: str, given: str, accept: str
) -> None:
    found = documented(docs.get(path, headers={"Accept": accept}))
    assert found.mimetype == given


def test_all_forms_say_the_same_and_each_has_its_own_tag(docs: FlaskClient) -> None:
    as_json = docs.get("/api/schema/")
    as_yaml = docs.get("/api/schema/?format=yaml")
    assert yaml.safe_load(as_yaml.data) == as_json.get_json()
    assert b"&id0" not in as_yaml.data
    assert as_json.headers["ETag"] != as_yaml.headers["ETag"]
    again = {"If-None-Match": as_yaml.headers["ETag"]}
    assert docs.get("/api/schema/?format=yaml", headers=again).status_code == 304
    assert docs.get("/api/schema/", headers=again).status_code == 200


def test_what_there_is_not_is_refused_and_what_there_is_is_named(
    docs: FlaskClient,
) -> None:
    refused = documented(docs.get("/api/schema/", headers={"Accept": "text/html"}))
    assert refused.status_code == 406
    for name in (JSON, YAML, OPENAPI_JSON, OPENAPI_YAML):
        assert name in refused.get_json()["detail"]
    events = docs.get("/api/schema/events/", headers={"Accept": "image/png"})
    assert documented(events).status_code == 406
    unknown = documented(docs.get("/api/schema/?format=xml"))
    assert unknown.status_code == 400
    assert unknown.get_json()["errors"] == {"format": ["must be json or yaml"]}


def test_who_polls_the_plain_address_gets_json_whatever_it_accepts(
    docs: FlaskClient,
) -> None:
    found = docs.get("/openapi.json", headers={"Accept": "text/html"})
    assert found.status_code == 200
    assert found.mimetype == JSON


def test_yaml_is_made_once(docs: FlaskClient) -> None:
    docs.get("/api/schema/?format=yaml")
    began = time.process_time()
    for _ in range(20):
        docs.get("/api/schema/?format=yaml")
    assert time.process_time() - began < 1  # each would take a tenth of a second
