"""Run the services of `compose.yaml` as processes on loopback, without containers.

PostgreSQL and RabbitMQ come from the caller; commands, variables and health checks are
the file's own.
"""

import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.image import ROOT, Image
from tests.support.processes import free_port

COMPOSE = ROOT / "compose.yaml"
INSIDE = 8080  # where each container of ours listens
BESIDE = 8081  # but one, in the gateway's network, where the other port is taken
PATIENCE_SECONDS = 90
STOP_SECONDS = 20


def services() -> dict[str, dict[str, Any]]:
    """Return the services with their anchors resolved."""
    found = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    return dict(found)


def is_ours(service: Mapping[str, Any]) -> bool:
    """Return whether it runs in the image of `infra/Dockerfile`."""
    return str(service["image"]).startswith("order-service:")


def environment(service: Mapping[str, Any]) -> dict[str, str]:
    """Return a service's variables."""
    return {name: str(value) for name, value in service.get("environment", {}).items()}


class Composed:
    """Services of ours as processes, started in the order that they ask for."""

    def __init__(
        self, image: Image, folder: Path, others: Mapping[str, Mapping[str, str]]
    ) -> None:
        self._image = image
        self._folder = folder
        self._others = others
        self._services = {k: v for k, v in services().items() if is_ours(v)}
        self._ports = {name: free_port() for name in self._services}
        self._running: dict[str, subprocess.Popen[str]] = {}

    def url(self, service: str) -> str:
        """Return a service's address."""
        return f"http://127.0.0.1:{self._ports[service]}"

    def up(self) -> None:
        """Start everything; a process that ends or stays unwell fails it."""
        pending = dict(self._services)
        while pending:
            ready = [
                name
                for name, service in pending.items()
                if not service.get("depends_on", {}).keys() & pending.keys()
            ]
            assert ready, f"these wait for each other: {sorted(pending)}"
            for name in ready:
                self._start(name)
            for name in ready:
                self._wait(name)
                del pending[name]

    def down(self) -> None:
        """Stop everything, as an engine does; what does not stop is killed."""
        for process in self._running.values():
            process.terminate()
        for name in list(self._running):
            self.stop(name)

    def stop(self, service: str) -> None:
        """Stop one, and wait until it has ended."""
        process = self._running.pop(service)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def said(self, service: str) -> str:
        """Return what a service has printed."""
        return (self._folder / f"{service}.log").read_text()

    def _here(self, text: str, own_port: int) -> str:
        """Return a text of the file with this machine's addresses in it."""
        for name, port in self._ports.items():
            text = text.replace(f"//{name}:{INSIDE}", f"//127.0.0.1:{port}")
        text = re.sub(rf"\b{BESIDE}\b", str(self._ports["ops-console"]), text)
        text = text.replace("--host=0.0.0.0", "--host=127.0.0.1")
        text = text.replace("--data=/tmp", f"--data={self._folder}")
        return re.sub(rf"\b{INSIDE}\b", str(own_port), text)

    def _environ(self, name: str) -> dict[str, str]:
        port = self._ports[name]
        found = environment(self._services[name])
        found = {key: self._here(value, port) for key, value in found.items()}
        for variable, values in self._others.items():
            if variable in found:
                found |= values
        return found

    def _start(self, name: str) -> None:
        port = self._ports[name]
        command = [self._here(each, port) for each in self._services[name]["command"]]
        if "functions-framework" in command:
            command += ["--host", "127.0.0.1"]
        if name != "migrate" and not name.endswith("worker"):
            command += ["--port", str(port)]
        with (self._folder / f"{name}.log").open("w") as log:
            self._running[name] = self._image.run(command, self._environ(name), log)

    def _wait(self, name: str) -> None:
        process = self._running[name]
        if name == "migrate":
            assert process.wait(PATIENCE_SECONDS) == 0, self.said(name)
            return
        check = self._services[name].get("healthcheck")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while process.poll() is None:
            if check is None or self._is_well(name, check["test"]):
                return
            assert time.monotonic() < deadline, f"{name} stays unwell"
            time.sleep(0.2)
        raise AssertionError(f"{name} ended: {self.said(name)}")

    def _is_well(self, name: str, test: list[str]) -> bool:
        kind, *command = test
        assert kind == "CMD"
        command = [self._here(each, self._ports[name]) for each in command]
        process = self._image.run(command, self._environ(name))
        process.communicate(timeout=PATIENCE_SECONDS)
        return process.returncode == 0
