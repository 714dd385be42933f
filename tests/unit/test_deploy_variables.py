"""What Terraform is told of a deployment, and what of it is kept."""

import json
from pathlib import Path

import pytest

from infra import package
from infra.deploy import functions
from infra.deploy_variables import main

OLD, NEW = "0" * 64, "1" * 64
IMAGE = "europe-west1-docker.pkg.dev/acme/order-service/tools@sha256:" + "a" * 64


def outputs(tmp_path: Path, content: object) -> str:
    path = tmp_path / "outputs.json"
    path.write_text(json.dumps(content))
    return str(path)


def deployed(**images: str) -> dict[str, object]:
    return {"function_images": {"value": images}}


def test_what_is_named_replaces_what_is_kept(tmp_path: Path) -> None:
    kept = deployed(a=f"host/a:{OLD}-2026-12-01", b_c=f"host/b-c:{OLD}")
    image = tmp_path / "image"
    image.write_text(f"{IMAGE}\n")
    out = tmp_path / "deep" / "told.json"
    new = ["--keep", outputs(tmp_path, kept), "--package", f"b_c=b_c/{NEW}.zip"]
    assert main(["--out", str(out), "--image-in", str(image), *new]) == 0
    assert json.loads(out.read_text()) == {
        "packages": {"a": f"a/{OLD}-2026-12-01.zip", "b_c": f"b_c/{NEW}.zip"},
        "image": IMAGE,
    }


def test_without_an_image_none_is_named(tmp_path: Path) -> None:
    out = tmp_path / "told.json"
    assert main(["--out", str(out), "--package", f"a=a/{NEW}.zip"]) == 0
    assert json.loads(out.read_text()) == {"packages": {"a": f"a/{NEW}.zip"}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "nothing is deployed yet: deploy all functions first"),
        (deployed(), "nothing is deployed yet"),
        (deployed(a="host/a:latest"), "a's image host/a:latest is not named by its"),
        ("no object", "holds no outputs of Terraform"),
    ],
    ids=str,
)
def test_outputs_that_do_not_tell_what_is_deployed_are_refused(
    tmp_path: Path, content: object, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "told.json"
    assert main(["--out", str(out), "--keep", outputs(tmp_path, content)]) == 1
    assert said in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("text", ["", "host/tools:latest", "ERROR: not found"])
def test_an_image_without_its_digest_is_refused(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "image"
    image.write_text(text)
    out = tmp_path / "told.json"
    assert main(["--out", str(out), "--image-in", str(image)]) == 1
    assert "names no image by its digest" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("said", "is_deployed"),
    [
        ("ops_console = true", True),
        ("ops_console    = true # for the night", True),
        ("ops_console = false", False),
        ("# ops_console = true", False),
        ("", False),
    ],
)
def test_console_is_deployed_where_wanted(said: str, *, is_deployed: bool) -> None:
    found = functions(f'region = "x"\n{said}\n')
    assert ("ops_console" in found) == is_deployed
    assert {*found, "ops_console"} == package.NEEDS.keys()
