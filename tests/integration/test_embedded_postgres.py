"""The embedded PostgreSQL: starts, stops, keeps its data, recovers from a kill."""

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from infra.local import reset
from infra.local.postgres import URL_FILE, postgres_server
from infra.local.postgres_binaries import (
    EmbeddedPostgresError,
    find_installation,
    remove_elsewhere,
    within_reach,
)
from tests.support.database import execute
from tests.support.processes import running, wait_until_gone

SERVE = """
import sys, time, pathlib
from infra.local.postgres import postgres_server
with postgres_server(pathlib.Path(sys.argv[1]), durable=False) as url:
    print(url, flush=True)
    time.sleep(100)
"""


@pytest.fixture
def folder(scratch_folder: Path) -> Path:
    return scratch_folder


@pytest.fixture
def served_elsewhere(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that serves the folder."""
    command = [sys.executable, "-c", SERVE, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("postgresql://")
        pid = postmaster(folder)
        yield process
        process.kill()
    wait_until_gone(pid)  # until then it writes to the folder that is removed next


def postmaster(folder: Path) -> int:
    return int((folder / "cluster/data/postmaster.pid").read_text().splitlines()[0])


def test_a_server_is_set_up_as_the_deployed_one_and_keeps_its_data_when_stopped(
    folder: Path,
) -> None:
    names = "timezone", "server_encoding", "max_connections", "fsync"
    with postgres_server(folder) as url:
        pid = postmaster(folder)
        found = [execute(url, f"SHOW {name}")[0][0] for name in names]
        assert found == ["UTC", "UTF8", "200", "on"]
        assert execute(url, "SELECT 'a' > 'B', upper('ä')")[0][0] is True
        execute(url, "CREATE TABLE kept AS SELECT 7 AS number")
        password = url.split(":")[2].split("@")[0]
        with pytest.raises(Exception, match="password authentication failed"):
            execute(url.replace(password, "guessed"), "SELECT 1")
    wait_until_gone(pid)
    kept = (folder / "cluster" / "password").stat()
    assert stat.S_IMODE(kept.st_mode) == 0o600
    assert stat.S_IMODE((folder / "cluster").stat().st_mode) == 0o700
    began = time.monotonic()
    with postgres_server(folder, durable=False) as url:
        assert time.monotonic() - began < 2
        assert execute(url, "SELECT number FROM kept") == [[7]]


def test_two_processes_cannot_serve_one_folder_and_a_server_ends_with_its_parent(
    folder: Path, served_elsewhere: "subprocess.Popen[str]"
) -> None:
    assert served_elsewhere.poll() is None
    with (
        pytest.raises(EmbeddedPostgresError, match="another process"),
        postgres_server(folder),
    ):
        pass
    pid = postmaster(folder)
    served_elsewhere.kill()
    wait_until_gone(pid)


def test_a_killed_server_recovers_with_its_data(
    folder: Path, served_elsewhere: "subprocess.Popen[str]"
) -> None:
    os.kill(postmaster(folder), signal.SIGKILL)
    served_elsewhere.kill()
    served_elsewhere.wait()
    assert (folder / "cluster/data/postmaster.pid").exists()
    with postgres_server(folder, durable=False) as url:
        assert execute(url, "SELECT 1") == [[1]]


def test_a_pid_file_of_another_program_is_dropped_and_another_version_s_data_refused(
    folder: Path,
) -> None:
    with postgres_server(folder, durable=False):
        pass
    stale = folder / "cluster/data/postmaster.pid"
    # Our parent is alive, and no PostgreSQL.
    stale.write_text(f"{os.getppid()}\n{stale.parent}\n")
    with postgres_server(folder, durable=False) as url:
        assert execute(url, "SELECT 1") == [[1]]
    (folder / "cluster/data/PG_VERSION").write_text("11\n")
    with (
        pytest.raises(EmbeddedPostgresError, match=r"made by PostgreSQL 11.*reset"),
        postgres_server(folder),
    ):
        pass


def test_a_server_that_nobody_looks_after_is_taken_over(
    folder: Path, served_elsewhere: "subprocess.Popen[str]"
) -> None:
    pid = postmaster(folder)
    for guard, command in running().items():
        if "exec 3<&0" in command and str(folder) in command:
            os.kill(guard, signal.SIGKILL)
    served_elsewhere.kill()
    served_elsewhere.wait()
    assert pid in running()
    with postgres_server(folder, durable=False) as url:
        assert execute(url, "SELECT 1") == [[1]]
    wait_until_gone(pid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as somebody else")
def test_root_serves_from_elsewhere_what_nobody_can_enter(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.chmod(0o700)
    with postgres_server(folder, durable=False) as url:
        assert execute(url, "SELECT 1") == [[1]]
        outside = (folder / "elsewhere").resolve()
        assert outside.exists()
    assert str(outside) in capsys.readouterr().err
    assert not outside.exists()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as somebody else")
def test_root_copies_the_programs_that_nobody_can_enter(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = find_installation()
    if not (found.home / "share").exists():
        pytest.skip("the system's PostgreSQL is spread over folders all can enter")
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    hidden = closed / found.home.parent.name / found.home.name
    for part in ("bin", "lib", "share"):
        shutil.copytree(found.home / part, hidden / part)
    libraries = found.home.parent.with_name(f"{found.home.parent.name}.libs")
    shutil.copytree(libraries, closed / libraries.name)

    reached, home = within_reach(replace(found, home=hidden), folder)

    try:
        assert home == folder
        assert str(closed) in capsys.readouterr().err
        nobody = pwd.getpwnam("nobody")
        for program in ("initdb", "postgres"):
            command = [reached.program(program), "--version"]
            subprocess.run(
                command, check=True, user=nobody.pw_uid, group=nobody.pw_gid, cwd="/"
            )
    finally:
        remove_elsewhere(folder)


def test_the_address_stays_and_is_kept_for_orderctl(folder: Path) -> None:
    with postgres_server(folder, durable=False) as first:
        assert (folder / URL_FILE).read_text() == first
    assert stat.S_IMODE((folder / URL_FILE).stat().st_mode) == 0o600
    with postgres_server(folder, durable=False) as second:
        assert second == first


def test_a_port_that_was_taken_meanwhile_is_replaced(folder: Path) -> None:
    with postgres_server(folder, durable=False) as first:
        port = urlsplit(first).port or 0
    with (
        socket.create_server(("127.0.0.1", port)),
        postgres_server(folder, durable=False) as second,
    ):
        assert urlsplit(second).port != port
        assert execute(second, "SELECT 1") == [[1]]
        assert (folder / URL_FILE).read_text() == second


def test_a_reset_forgets_the_data_but_not_while_somebody_uses_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    postgres = folder / "postgres"
    with postgres_server(postgres, durable=False) as url:
        execute(url, "CREATE TABLE kept ()")
        assert reset.main(["--folder", str(folder)]) == 1
        assert "another process is serving" in capsys.readouterr().err
        assert execute(url, "SELECT count(*) FROM kept") == [[0]]
    assert reset.main(["--folder", str(folder)]) == 0
    assert not folder.exists()
    assert reset.main(["--folder", str(folder)]) == 0
    with postgres_server(postgres, durable=False) as url:
        assert execute(url, "SELECT to_regclass('kept')") == [[None]]
