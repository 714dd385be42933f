"""The local run as people use it, and the demo as the acceptance test that it is."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from infra.local import demo
from infra.local.postgres_binaries import remove_elsewhere
from infra.local.sandbox.catalogue import DEMO_USER, MUG
from infra.local.system import CHECKOUT, running_system
from tests.support.processes import free_port
from tests.support.rabbitmq import Broker

RUN = (sys.executable, "-m", "infra.local.run")
CALLER = {"X-User-ID": DEMO_USER}

Launch = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def system(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A system in this process, on a database of its own; answers its address."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("STOCK_SETTLE_SECONDS", "1")
    with running_system(0, tmp_path, lambda _: None) as url:
        yield url


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Start the command line; whatever still runs at the end is stopped."""
    started = []

    def start(*arguments: str, **environ: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [*RUN, *arguments],
            cwd=CHECKOUT,
            env=os.environ | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=30)


def tell(url: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[Any]]:
    """Run the demo against `url`; answer its exit status and its steps."""
    capsys.readouterr()
    status = demo.main(["--url", url, "--json"])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def wait_until_ready(url: str, http: requests.Session) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if http.get(f"{url}/health/ready").ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise TimeoutError(url)


def check_out(url: str, http: requests.Session) -> requests.Response:
    line = {"product_variation_id": MUG, "quantity": 1}
    path = "/sandbox/shopcart/api/mycart/items/"
    assert http.post(url + path, json=line, headers=CALLER).status_code == 201
    return http.post(f"{url}/api/orders-from-shopcart/", headers=CALLER)


def test_demo_finds_nothing_different_however_often_it_is_told(
    system: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        status, told = tell(system, capsys)
        assert [line for line in told if line.get("mismatches")] == []
        assert told[-1]["steps"] >= 12
        assert status == 0


@pytest.mark.usefixtures("rabbitmq_channel")
def test_demo_works_with_rabbitmq_in_place_of_the_local_bus(
    database_url: str,
    rabbitmq_server: Broker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("EVENT_BUS", "rabbitmq")
    for name, value in rabbitmq_server.environ.items():
        monkeypatch.setenv(name, value)
    with running_system(0, tmp_path, lambda _: None) as url:
        status, told = tell(url, capsys)
    assert [line for line in told if line.get("mismatches")] == []
    assert status == 0


def test_demo_says_what_differs_and_exits_with_1(
    system: str, http: requests.Session, capsys: pytest.CaptureFixture[str]
) -> None:
    http.put(f"{system}/sandbox/faults/product", json={"status": 503})
    status, told = tell(system, capsys)
    assert status == 1
    refused = told[1]
    assert refused["ok"] is False
    assert {"what": "status", "expected": 409, "got": 503} in refused["mismatches"]
    assert told[-1]["mismatches"] > 1


def test_a_page_whose_name_leads_here_can_do_nothing(
    system: str, http: requests.Session
) -> None:
    made = http.post(f"{system}/api/orders/", headers=CALLER, json={})
    path = f"{system}/api/orders/{made.json()['id']}/"
    rebound = {"Host": f"evil.example:{system.rpartition(':')[2]}"}
    assert http.delete(path, headers=CALLER | rebound).status_code == 421
    assert http.get(f"{system}/ops/", headers=rebound).status_code == 421
    elsewhere = {"Origin": "https://evil.example"}
    assert http.delete(path, headers=CALLER | elsewhere).status_code == 403
    assert http.get(path, headers=CALLER).status_code == 200
    assert http.get(f"{system}/ops/").status_code == 200


def test_demo_refuses_an_unknown_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--url", f"http://127.0.0.1:{free_port()}"]) == 1
    assert "no local run answers" in capsys.readouterr().err


def test_demo_starts_a_system_of_its_own_when_none_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", str(free_port()))
    assert demo.main([]) == 0
    output = capsys.readouterr()
    assert "every step as expected" in output.out
    assert "starting one" in output.err


def test_front_page_leads_to_everything_and_loads_nothing_from_outside(
    system: str, http: requests.Session
) -> None:
    page = http.get(f"{system}/").text
    assert f"curl -sS {system}/sandbox/shopcart" in page
    assert "https://" not in page
    links = [part.split('"')[0] for part in page.split('href="')[1:]]
    assert len(links) > 8
    assert {link: http.get(system + link).status_code for link in links} == (
        dict.fromkeys(links, 200)
    )


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"PORT": "eighty"}, "PORT must be a whole number"),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL is malformed"),
        (
            {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"},
            "the database cannot be used",
        ),
    ],
)
def test_wrong_settings(
    launch: Launch, tmp_path: Path, environ: dict[str, str], said: str
) -> None:
    process = launch("--folder", str(tmp_path), **({"PORT": "0"} | environ))
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (1, 2)
    last = errors.splitlines()[-1]
    assert said in last
    assert "Traceback" not in errors


def test_a_taken_port_is_one_line(launch: Launch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = launch("--folder", str(tmp_path), PORT=str(port))
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors == f"error: port {port} is taken: try PORT={port + 1}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for data that is kept from one start to the next."""
    yield tmp_path
    remove_elsewhere(tmp_path / "postgres")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_prints_a_request_stops_when_told_and_keeps_its_data(
    folder: Path, launch: Launch, http: requests.Session, number: signal.Signals
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = ("--port", str(port), "--folder", str(folder))

    first = launch(*arguments)
    wait_until_ready(url, http)
    order = check_out(url, http).json()["order"]
    http.close()
    first.send_signal(number)
    output, errors = first.communicate(timeout=30)
    assert first.returncode == 0
    assert "Traceback" not in errors
    assert f"curl -sS -X POST {url}/api/orders-from-shopcart/" in output

    launch(*arguments)
    wait_until_ready(url, http)
    again = http.get(f"{url}/api/orders/{order['id']}/", headers=CALLER)
    assert again.json() == order
    cart = http.get(f"{url}/sandbox/shopcart/api/mycart/", headers=CALLER).json()
    assert cart["user_uuid"] == DEMO_USER
