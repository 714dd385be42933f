"""The secret scan: what it finds among some files, what it says, what it skips."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from infra.supply import accepted, secret_scan

ROOT = Path(__file__).parents[2]
GIT = ["git", "-c", "user.name=n", "-c", "user.email=e@example.com"]
# In pieces, so that this file holds none.
AWS = "AKIA" + "Y7QGH2LDXM4PNZ3T"
GOOGLE = "AIza" + "SyD3kL9xQ2mV7" + "bN4cR8tW1zE6y" + "U5iO0pAsd"
CLAIMS = "eyJzdWIiOiI3ZDFj" + "MmE5MCIsImV4cCI6" + "MTk5OTk5OTk5OX0"
JWT = f"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{CLAIMS}.dBjftJeZ4CVPmB92K27uhbUJU1p1r"
WORD = "Tr0ub4dor3"


def private_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def service_account_key() -> str:
    key = {"type": "service_account", "private_key": private_key()}
    return json.dumps(key, indent=2)


PLANTED = {
    "private key": ("certs/server.pem", private_key, "Private Key"),
    "service account": ("key.json", service_account_key, "Private Key"),
    "aws": ("a.py", lambda: f"key = {AWS!r}", "AWS Access Key"),
    "google": ("deploy.sh", lambda: f"export MAPS={GOOGLE}", "Google Key"),
    "jwt": ("README.md", lambda: f"curl -H 'Authorization: Bearer {JWT}'", "JSON Web"),
    "password": ("s.py", lambda: f"db_password = {WORD!r}", "Secret Keyword"),
    "address": (
        "compose.yaml",
        lambda: f"url: amqp://orders:{WORD}@broker",
        "Basic Auth",
    ),
    "swagger": ("swagger/a.py", lambda: f"key = {AWS!r}", "AWS Access Key"),
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run([*GIT, "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    (tmp_path / "first.py").write_text("first = 1\n")
    return tmp_path


def track(repository: Path) -> None:
    subprocess.run([*GIT, "-C", repository, "add", "--all"], check=True)


@pytest.mark.parametrize("kind", sorted(PLANTED))
def test_a_planted_secret_is_named_by_file_and_line_and_not_shown(
    kind: str, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, make, said = PLANTED[kind]
    secret = make()
    path = repository / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"first line\n{secret}\n")
    track(repository)
    assert secret_scan.main([str(repository)]) == 1
    shown = "".join(capsys.readouterr())
    line = 2 + next(
        number
        for number, text in enumerate(secret.splitlines())
        if not text.strip().startswith(("{", '"type"'))
    )
    assert f"{name}:{line}: {said}" in shown
    for word in (secret, AWS, GOOGLE, JWT, WORD, *secret.splitlines()[1:-1]):
        assert word not in shown


def test_a_machine_gets_file_line_and_kind(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "a.py").write_text(f"key = {AWS!r}\n")
    track(repository)
    assert secret_scan.main([str(repository), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found == [{"file": "a.py", "line": 1, "kind": "AWS Access Key"}]


def test_what_git_does_not_track_is_nobody_else_s(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    track(repository)
    (repository / "notes.txt").write_text(AWS)
    assert secret_scan.main([str(repository)]) == 0
    assert capsys.readouterr().out == "No secret in 2 files\n"


def test_an_archive_without_git_is_scanned_but_for_what_would_be_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    for folder in (".venv-3.13/lib", "common/__pycache__", "common"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "a.py").write_text(f"key = {AWS!r}\n")
    assert secret_scan.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("a.py:") == 1


def test_no_ignored_name_is_a_path_which_the_scan_of_an_archive_would_not_know() -> (
    None
):
    names = (ROOT / ".gitignore").read_text().split()
    assert not [name for name in names if "/" in name.rstrip("/") or name[0] in "!#"]


def test_what_is_no_secret_is_so_for_its_reason_only() -> None:
    for rule in accepted.read().not_secret:
        assert rule.reason
        # Either a value, wherever it stands, or kinds in files: half of that is none.
        assert bool(rule.values) != bool(rule.files and rule.kinds)
        assert bool(rule.files) == bool(rule.kinds)


def test_a_value_is_accepted_and_another_one_beside_it_is_not(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"password = {word!r}" for word in ("s3cret", "s3cret-2")]
    (repository / "a.py").write_text("\n".join(lines))
    track(repository)
    assert secret_scan.main([str(repository)]) == 1
    assert "a.py:2: Secret Keyword" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["[[not_secret]]\nvalues = ['x']", "[[not_secrets]]\nreason = 'x'", "a ="],
    ids=["no reason", "misspelt", "no toml"],
)
def test_a_list_that_is_not_well_formed_accepts_nothing(
    text: str,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = repository / "accepted.toml"
    path.write_text(text)
    monkeypatch.setattr(accepted, "ACCEPTED", path)
    assert secret_scan.main([str(repository)]) == 1
    assert capsys.readouterr().err.startswith("secrets: accepted.toml: ")


def test_many_files_are_scanned_as_few_are(repository: Path) -> None:
    for number in range(60):
        (repository / f"{number}.py").write_text(f"key = {AWS!r}\n")
    track(repository)
    done = subprocess.run(
        [sys.executable, "-m", "infra.supply.secret_scan", repository, "--json"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert len(json.loads(done.stdout)) == 60
