"""Google's Pub/Sub emulator, where it is installed.

A run starts at most one, since that takes seconds; it ends with the test run, even if
that is killed.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc  # type: ignore[import-untyped]
from google.pubsub_v1 import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from tests.support.processes import free_ports, guard
from tests.support.pubsub import PROJECT, TOPIC

LOOPBACK = "127.0.0.1"
START_SECONDS = 60
STOP_SECONDS = 20
PROGRAM = Path("platform/pubsub-emulator/bin/cloud-pubsub-emulator")
# One thread for each kind of work is enough, and a start takes half the time.
JAVA_OPTIONS = "-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"


class NoEmulatorError(Exception):
    """There is no emulator; the message is one line that says why."""


class Emulator:
    """A running emulator, with one topic, TOPIC."""

    def __init__(self, port: int) -> None:
        self.host = f"{LOOPBACK}:{port}"

    @property
    def environ(self) -> dict[str, str]:
        """The service's variables for it."""
        return {
            "PUBSUB_EMULATOR_HOST": self.host,
            "PUBSUB_PROJECT": PROJECT,
            "PUBSUB_TOPIC": TOPIC,
        }


def emulator_program() -> Path:
    """Return where the emulator is; raise NoEmulatorError."""
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        raise NoEmulatorError("no Pub/Sub emulator: gcloud is not installed")
    program = Path(gcloud).resolve().parents[1] / PROGRAM
    if not program.exists():
        raise NoEmulatorError("no Pub/Sub emulator: gcloud is here without it")
    if shutil.which("java") is None:
        raise NoEmulatorError("no Pub/Sub emulator: java is not installed")
    return program


@contextmanager
def running_emulator() -> Iterator[Emulator]:
    """Start one on a port of its own, and end it; raise NoEmulatorError."""
    program, [port] = emulator_program(), free_ports(1)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        output = Path(folder) / "output"
        with output.open("wb") as sink:
            process = subprocess.Popen(
                [program, f"--host={LOOPBACK}", f"--port={port}"],
                cwd=folder,
                env=os.environ | {"HOME": folder, "JAVA_OPTS": JAVA_OPTIONS},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        guarding = guard('kill -9 -"$1"; rm -rf "$2"', str(process.pid), folder)
        try:
            emulator = Emulator(port)
            _wait_until_up(emulator, process, output)
            yield emulator
        finally:
            guarding.kill()
            guarding.communicate()
            _end(process)


def _wait_until_up(
    emulator: Emulator, process: "subprocess.Popen[bytes]", output: Path
) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _make_topic(emulator):
        if process.poll() is not None or time.monotonic() > deadline:
            said = output.read_text(errors="replace").split() or ["nothing"]
            raise NoEmulatorError(
                f"no Pub/Sub emulator: it does not come up: {' '.join(said)[-200:]}"
            )
        time.sleep(0.1)


def _make_topic(emulator: Emulator) -> bool:
    """Make the topic; answer False when nobody serves yet."""
    address, port = emulator.host.split(":")
    with suppress(OSError), socket.create_connection((address, int(port)), 1):
        with grpc.insecure_channel(emulator.host) as channel:
            client = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
            name = client.topic_path(PROJECT, TOPIC)
            client.create_topic(name=name, timeout=START_SECONDS)
        return True
    return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it and what it has started; it keeps nothing that a kill would harm."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_SECONDS)
