"""The audit of dependencies: pip-audit's own code against an index of the test's own.

What an index answers has the shape of PyPI's JSON interface; a live one would answer
something else tomorrow.
"""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from werkzeug.wrappers import Request, Response

from infra.local.http_server import serving
from infra.supply import accepted, audit

FLASK = {
    "id": "PYSEC-2018-66",
    "aliases": ["CVE-2018-1000656", "GHSA-562c-5r94-xh97"],
    "summary": "Denial of service by a body in an unexpected encoding.",
    "fixed_in": ["0.12.3"],
    "withdrawn": None,
}
WITHDRAWN = FLASK | {"id": "PYSEC-2000-1", "withdrawn": "2001-01-01T00:00:00Z"}
NAMED = "flask==0.12.2: PYSEC-2018-66, CVE-2018-1000656, GHSA-562c-5r94-xh97"
TODAY = date(2026, 1, 31)


class Index:
    """An index with a page for each release that it knows."""

    def __init__(self) -> None:
        self.url = ""
        self.pages: dict[str, list[dict[str, object]]] = {}
        self.asked: list[str] = []
        self.failures: list[Response] = []

    def __call__(self, environ: object, start_response: object) -> object:
        path = Request(environ).path  # type: ignore[arg-type]
        self.asked.append(path)
        return self._answer(path)(environ, start_response)  # type: ignore[arg-type]

    def _answer(self, path: str) -> Response:
        if self.failures:
            return self.failures.pop()
        release = path.removeprefix("/pypi/").removesuffix("/json").replace("/", "==")
        if release not in self.pages:
            return Response(status=404)
        body = {"info": {}, "vulnerabilities": self.pages[release]}
        return Response(json.dumps(body), content_type="application/json")


@pytest.fixture
def index() -> Iterator[Index]:
    running = Index()
    with serving(running) as running.url:
        yield running


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "some.txt"
    pins = ("flask==0.12.2", "jinja2==3.1.6 ; sys_platform == 'win32'")
    text = "".join(f"{pin} \\\n    --hash=sha256:{'0' * 64}\n" for pin in pins)
    path.write_text("# made up\n" + text)
    return path


def run(lock: Path, index: Index, mode: str = "required") -> int:
    return audit.main([str(lock), "--service", index.url, "--mode", mode])


def test_a_release_that_is_known_as_vulnerable_is_refused(
    index: Index, lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index.pages = {"flask==0.12.2": [FLASK], "jinja2==3.1.6": []}
    assert run(lock, index) == 1
    assert capsys.readouterr().err == f"audit: {NAMED}; fixed in 0.12.3\n"


def test_all_well_is_said_with_the_number_of_releases(
    index: Index, lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index.pages = {"flask==0.12.2": [WITHDRAWN], "jinja2==3.1.6": []}
    assert run(lock, index) == 0
    assert capsys.readouterr().out == "No known vulnerability in 2 releases\n"


@pytest.mark.parametrize("mode", ["required", "possible"])
def test_a_vulnerability_counts_also_where_others_cannot_be_audited(
    mode: str, index: Index, lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index.pages = {"flask==0.12.2": [FLASK]}
    assert run(lock, index, mode) == 1
    said = capsys.readouterr().err
    assert NAMED in said
    assert "1 of 2 releases were not audited" in said
    assert "(jinja2==3.1.6)" in said


@pytest.mark.parametrize(("mode", "status"), [("required", 1), ("possible", 0)])
def test_an_index_that_knows_no_release_has_not_audited_it(
    mode: str,
    status: int,
    index: Index,
    lock: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(lock, index, mode) == status
    shown = capsys.readouterr()
    assert "2 of 2 releases were not audited" in shown.err
    assert "No known vulnerability" not in shown.out


@pytest.mark.parametrize(("mode", "status"), [("required", 1), ("possible", 0)])
def test_an_index_that_does_not_answer_is_one_line(
    mode: str, status: int, lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(lock), "--service", "http://127.0.0.1:1", "--mode", mode]
    assert audit.main(arguments) == status
    said = capsys.readouterr().err.replace("*" * 72 + "\n", "")
    assert said == (
        "audit: no dependency was audited, the index does not answer"
        " (ConnectionError); AUDIT=off goes on without\n"
    )


def test_an_answer_that_is_no_answer_is_not_taken_for_one(
    index: Index, lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index.failures = [Response("<html>Log in first</html>") for _ in range(2)]
    assert run(lock, index) == 1
    assert "does not answer (JSONDecodeError)" in capsys.readouterr().err


def test_an_index_in_trouble_is_asked_again(index: Index, lock: Path) -> None:
    index.pages = {"flask==0.12.2": [], "jinja2==3.1.6": []}
    index.failures = [Response(status=503)]
    assert run(lock, index) == 0
    assert len(index.asked) == 3


def test_an_index_that_stays_in_trouble_is_told_with_its_status(
    index: Index, lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index.failures = [Response(status=503) for _ in range(8)]
    assert run(lock, index) == 1
    assert "503 Server Error" in capsys.readouterr().err


def test_switched_off_it_says_loudly_that_nothing_was_audited(
    lock: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUDIT", "off")
    assert audit.main([str(lock), "--service", "http://127.0.0.1:1"]) == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines()[1] == "AUDIT=off: no dependency was audited"
    assert not shown.out


def test_a_misspelt_switch_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUDIT", "of")
    with pytest.raises(SystemExit):
        audit.main([])
    assert "AUDIT must be one of required, possible, off" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["PYSEC-2018-66", "CVE-2018-1000656"])
def test_what_is_accepted_passes_up_to_its_day_and_fails_from_the_next(
    name: str, index: Index, lock: Path
) -> None:
    index.pages = {"flask==0.12.2": [FLASK], "jinja2==3.1.6": []}
    found = audit.ask(audit.releases([lock]), index.url)
    rule = accepted.Vulnerability(id=name, package="flask", until=TODAY, reason="x")
    assert audit.judge(found, [rule], TODAY) == []
    [complaint] = audit.judge(found, [rule], date(2026, 2, 1))
    assert complaint == f"{NAMED}; fixed in 0.12.3; accepted until 2026-01-31"


def test_what_is_accepted_and_gone_is_to_be_taken_out(index: Index, lock: Path) -> None:
    index.pages = {"flask==0.12.2": [], "jinja2==3.1.6": []}
    found = audit.ask(audit.releases([lock]), index.url)
    rule = accepted.Vulnerability(id="X-1", package="flask", until=TODAY, reason="x")
    [complaint] = audit.judge(found, [rule], TODAY)
    assert complaint == "accepted.toml: flask no longer has X-1; take it out"


def test_every_pin_of_both_locks_is_asked_about() -> None:
    paths = [audit.CHECKOUT / each for each in audit.LOCKS]
    pinned = audit.releases(paths)
    text = "".join(path.read_text() for path in paths)
    assert set(pinned) == {
        line.partition("==")[0] for line in text.splitlines() if line[0] not in "# "
    }
