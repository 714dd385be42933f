"""The commands on what comes with the project: secrets, vulnerabilities, licences.

They run as `make` runs them. What indexes know changes from day to day, so the audit
asks an index of the test's own, or is given what pip-audit wrote at another time.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from werkzeug.wrappers import Request, Response

from infra.local.http_server import serving

ROOT = Path(__file__).parents[2]
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


PLANTED = {
    "server.pem": private_key,
    "key.json": lambda: json.dumps({"private_key": private_key()}, indent=2),
    "aws.py": lambda: f"key = {AWS!r}",
    "README.md": lambda: f"curl -H 'Authorization: Bearer {JWT}'",
    "settings.py": lambda: f"db_password = {WORD!r}",
    "compose.yaml": lambda: f"url: amqp://orders:{WORD}@broker",
    "swagger.py": lambda: f"key = {AWS!r}",
}


def make(
    *arguments: str, folder: Path = ROOT, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a target of the Makefile in a folder, with this checkout's programs."""
    # The environment is there; nobody looks whether it is new enough.
    done = [
        "STAMP=installed",
        "--assume-old=installed",
        f"BIN={Path(sys.prefix, 'bin')}",
        "ARGS=",
    ]
    # What a make that runs these tests was given is not meant for this one.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    return subprocess.run(
        ["make", "-C", folder, "-f", ROOT / "Makefile", *done, *arguments],
        env=inherited | environ,
        capture_output=True,
        text=True,
        check=False,
    )


# Secrets


@pytest.fixture(params=["repository", "archive"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    baseline = (ROOT / ".secrets.baseline").read_text()
    (tmp_path / ".secrets.baseline").write_text(baseline)
    (tmp_path / "first.py").write_text("password = 's3cret'\n")
    if request.param == "repository":
        subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


def scan(project: Path) -> subprocess.CompletedProcess[str]:
    if (project / ".git").exists():
        subprocess.run(["git", "-C", project, "add", "--all"], check=True)
    # The folder may lie in another repository's.
    return make("secrets", folder=project, GIT_CEILING_DIRECTORIES=str(project.parent))


def test_planted_secret_is_named_and_not_shown(project: Path) -> None:
    for name, text in PLANTED.items():
        (project / name).write_text(f"first line\n{text()}\n")
    done = scan(project)
    shown = done.stdout + done.stderr
    assert done.returncode != 0
    assert [name for name in PLANTED if name not in shown] == []
    assert not [word for word in (AWS, GOOGLE, JWT, WORD) if word in shown]


def test_key_of_google_is_found_beside_nothing_else(project: Path) -> None:
    assert scan(project).returncode == 0
    (project / "deploy.sh").write_text(f"export MAPS={GOOGLE}")
    done = scan(project)
    assert done.returncode != 0
    assert "deploy.sh" in done.stdout


# Known vulnerabilities


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """An index of vulnerabilities that knows one, of flask."""
    pins = ("flask==0.12.2", "jinja2==3.1.6")
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "dev.txt").write_text(
        "".join(f"{pin} \\\n    --hash=sha256:{'0' * 64}\n" for pin in pins)
    )

    @Request.application
    def tell(request: Request) -> Response:
        package = request.get_json(force=True)["package"]["name"]
        fixed = [{"introduced": "0"}, {"fixed": "0.12.3"}]
        affected = {
            "package": {"name": "flask", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": fixed}],
        }
        known = {"id": "PYSEC-2018-66", "affected": [affected]}
        return Response(json.dumps({"vulns": [known]} if package == "flask" else {}))

    with serving(tell) as url:
        yield url


def audit(index: str, folder: Path, *options: str) -> tuple[int, str]:
    asked = f"ARGS=--vulnerability-service osv --osv-url {index}"
    done = make("audit", asked, *options, folder=folder)
    return done.returncode, done.stdout + done.stderr


def test_known_vulnerability_is_refused_unless_accepted(
    index: str, tmp_path: Path
) -> None:
    for mode in ("required", "possible"):
        status, shown = audit(index, tmp_path, f"AUDIT={mode}")
        assert status != 0
        assert "PYSEC-2018-66" in shown
    accepted = ["ACCEPTED_VULNERABILITIES=PYSEC-2018-66", "AUDIT=required"]
    assert audit(index, tmp_path, *accepted)[0] == 0


@pytest.mark.parametrize(("mode", "is_fine"), [("required", False), ("possible", True)])
@pytest.mark.usefixtures("index")
def test_what_nobody_could_audit_is_told_and_fails_where_required(
    mode: str, *, is_fine: bool, tmp_path: Path
) -> None:
    status, shown = audit("http://127.0.0.1:1", tmp_path, f"AUDIT={mode}")
    assert (status == 0) is is_fine
    assert "*** audit: no dependency was audited: the index does not answer" in shown
    # What pip-audit wrote on another day.
    skipped = "Dependency not found on PyPI and could not be audited"
    mirror = f"PIP_AUDIT=printf 'Name Skip Reason\\nflask {skipped}\\n' \\#"
    done = make("audit", mirror, f"AUDIT={mode}", folder=tmp_path)
    assert (done.returncode == 0) is is_fine
    assert "*** audit: the index does not know 1 releases ***" in done.stderr


def test_audit_switched_off_is_told_and_a_misspelt_switch_refused() -> None:
    off = make("audit", AUDIT="off")
    assert off.returncode == 0
    assert "AUDIT=off: no dependency was audited" in off.stderr
    assert make("audit", AUDIT="of").returncode != 0


# Licences


@pytest.mark.parametrize(
    ("licence", "is_fine"),
    [("MIT", True), ("AGPL-3.0", False), ("MPL-2.0", False), ("", False)],
)
def test_licence_that_nobody_agreed_to_is_refused(
    licence: str, *, is_fine: bool, tmp_path: Path
) -> None:
    (tmp_path / "new-1.0.dist-info").mkdir()
    text = f"Metadata-Version: 2.4\nName: new\nVersion: 1.0\nLicense: {licence}\n"
    (tmp_path / "new-1.0.dist-info" / "METADATA").write_text(text)
    done = make("licences", PYTHONPATH=str(tmp_path))
    assert (done.returncode == 0) is is_fine, done.stderr
    assert is_fine or "new:1.0" in done.stderr
