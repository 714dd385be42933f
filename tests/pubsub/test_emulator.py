"""Google's emulator is started, ended with its run, or missed with a reason.

Lives here: its process. Not here: what it does otherwise
(tests/support/pubsub_gaps.py).
"""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.pubsub_clients import PATIENCE_SECONDS
from tests.support.pubsub_emulator import (
    Emulator,
    NoEmulatorError,
    emulator_program,
    running_emulator,
)


def test_the_emulator_ends_with_its_block(emulator: Emulator | str) -> None:
    if isinstance(emulator, str):
        pytest.skip(emulator)
    with running_emulator() as running:
        assert running.host != emulator.host
        port = f"--port={running.host.partition(':')[2]}"
        [pid] = [pid for pid, text in processes.running().items() if port in text]
    processes.wait_until_gone(pid)


def test_the_emulator_ends_with_its_run_even_if_that_is_killed(
    emulator: Emulator | str,
) -> None:
    if isinstance(emulator, str):
        pytest.skip(emulator)
    script = """if True:
        import os
        from tests.support.pubsub_emulator import running_emulator
        with running_emulator() as running:
            print(running.host, flush=True)
            os.kill(os.getpid(), 9)
    """
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        capture_output=True,
        text=True,
        cwd=root,
        timeout=120,
    )
    port = f"--port={done.stdout.strip().partition(':')[2]}"
    assert len(port) > len("--port=")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(port in text for text in processes.running().values()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_where_there_is_no_emulator_it_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("bin/gcloud", "platform/pubsub-emulator/bin/cloud-pubsub-emulator"):
        with pytest.raises(NoEmulatorError, match="no Pub/Sub emulator: gcloud is"):
            emulator_program()
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        file.touch(0o755)
    with pytest.raises(NoEmulatorError, match="java is not installed"):
        emulator_program()
