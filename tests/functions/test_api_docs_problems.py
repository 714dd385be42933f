"""/problems/: a page and JSON for each type that the code can answer, and none else.

Lives here: that nothing is missing, and what a reader is told. Not here: whether an
answer of a type comes as documented (test_openapi_examples.py).
"""

import re
from pathlib import Path
from urllib.parse import urljoin

import pytest
from flask.testing import FlaskClient

from common import problems
from common.errors import ServiceError
from common.problem_types import ADVICE, NEVER_ANSWERED, problem_types
from tests.support.documented import documented

JSON = {"Accept": "application/json"}
ROOT = Path(__file__).parents[2]


def answered() -> set[str]:
    """Answer every slug that the code has, for errors of ours and of the transport."""
    slugs = {slug for slug, _ in problems._TITLES.values()}
    kinds = [ServiceError]
    for kind in kinds:
        slugs.add(kind.slug)
        kinds += kind.__subclasses__()
    return slugs


def test_every_type_is_explained_and_nothing_else_is() -> None:
    assert problem_types().keys() == answered() - NEVER_ANSWERED
    assert ADVICE.keys() == problem_types().keys()


def test_what_is_said_to_be_never_answered_is_for_operators_alone() -> None:
    sources = [*(ROOT / "common").rglob("*.py"), *(ROOT / "functions").rglob("main.py")]
    raised = {p.name for p in sources if "raise ConflictError" in p.read_text()}
    assert {"conflict"} == NEVER_ANSWERED
    assert raised == {"backlog.py", "dead_letters.py"}


def test_all_types_are_listed_as_a_page_with_a_link_to_each(docs: FlaskClient) -> None:
    for path in ("/problems/", "/problems"):
        page = documented(docs.get(path))
        assert page.mimetype == "text/html"
        links = re.findall(r'<a href="([^"]+)"', page.text)
        assert [urljoin(path, link) for link in links] == [
            each.type for each in problem_types().values()
        ]


def test_all_types_are_listed_as_json(docs: FlaskClient) -> None:
    listed = documented(docs.get("/problems/", headers=JSON)).get_json()
    assert [each["name"] for each in listed] == list(problem_types())


@pytest.mark.parametrize("name", sorted(problem_types()))
def test_a_type_is_explained_where_its_uri_leads(docs: FlaskClient, name: str) -> None:
    told = problem_types()[name]
    page = documented(docs.get(told.type))
    text = re.sub(r"<[^>]+>", "", page.text)
    for part in (told.title, str(told.status), told.type):
        assert part in text
    for sentence in (told.meaning, told.occurs, told.remedy):
        assert sentence.split("'")[0].split("`")[0].strip() in text
    as_json = documented(docs.get(told.type, headers=JSON)).get_json()
    assert as_json["type"] == as_json["example"]["type"] == told.type
    assert as_json["remedy"] == told.remedy
    up = re.search(r'<a href="([^"]+)">All', page.text)
    assert up
    assert urljoin(told.type, up[1]) == "/problems/"


def test_a_type_that_there_is_not_is_not_found(docs: FlaskClient) -> None:
    for path in ("/problems/nothing", "/problems/conflict/", "/problems/..%2f"):
        assert docs.get(path).status_code == 404
    assert documented(docs.get("/problems/nothing")).status_code == 404


def test_pages_are_kept_by_their_form(docs: FlaskClient) -> None:
    page = docs.get("/problems/busy")
    again = {"If-None-Match": page.headers["ETag"]}
    assert documented(docs.get("/problems/busy", headers=again)).status_code == 304
    assert docs.get("/problems/busy", headers=again | JSON).status_code == 200
    assert page.headers["Vary"] == "Accept"


def test_neither_page_nor_json_is_refused(docs: FlaskClient) -> None:
    refused = docs.get("/problems/busy", headers={"Accept": "image/png"})
    assert documented(refused).status_code == 406


def test_a_page_needs_no_script_and_nothing_from_outside(docs: FlaskClient) -> None:
    for path in ("/problems/", "/problems/cart-repaired"):
        page = docs.get(path).text
        assert "<script" not in page
        assert not re.search(r"(https?:)?//", page.removeprefix("<!doctype html>"))
