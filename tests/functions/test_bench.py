"""`make bench`, as small as can be; its clients and its siblings by themselves."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from benchmarks import load, traffic
from benchmarks.load import Period
from infra.local.http_server import HttpServer

CHECKOUT = Path(__file__).parents[2]
SMALL = ["--rounds", "1", "--seconds", "0.3", "--clients", "2", "--orders", "300"]
SERVERS = ["--workers", "1", "--threads", "2", "--bus", "http"]


def bench(postgres_url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "benchmarks.bench", *SMALL, *SERVERS, *arguments]
    environ = os.environ | {"TEST_DATABASE_URL": postgres_url}
    environ.pop("DATABASE_URL", None)
    return subprocess.run(
        command, cwd=CHECKOUT, env=environ, check=False, capture_output=True, text=True
    )


def test_two_versions_are_served_at_once_and_measured_in_turns(
    postgres_url: str,
) -> None:
    small = ["--pairs", "6", "--seconds", "0.2", "--clients", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_versions", ".", *small, "--json"],
        cwd=CHECKOUT,
        env=os.environ | {"TEST_DATABASE_URL": postgres_url},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["unexpected"] == 0
    for ratio in results["ratios"].values():
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]


def test_a_small_run_measures_every_row(postgres_url: str, tmp_path: Path) -> None:
    wanted = ["checkout", "read", "list", "status", "replay", "database", "memory"]
    wanted += ["overload"]
    done = bench(postgres_url, "--json", "--results", str(tmp_path), "--only", *wanted)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert json.loads((tmp_path / "bench.json").read_text()) == results
    rows = {row["operation"]: row for row in results["rows"]}
    ceilings = {"hello", "health", "pgbench"}
    if "pgbench" not in rows:
        assert "pgbench is not installed" in results["remarks"][0]
        ceilings.remove("pgbench")
    measured = {"checkout", "read", "list", "status", "first call", "replay"}
    beyond = {"checkout, plateau", "checkout, saturated"}
    assert set(rows) == ceilings | measured | {"database part"} | beyond
    for name in rows.keys() - beyond:
        row = rows[name]
        assert row["rate"] > 0, name
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"], name
    assert rows["read"]["of_hello"] > 0
    assert results["conditions"]["bus"] == "http"
    assert (tmp_path / "throughput.svg").exists()
    assert min(results["memory"]["orders_crud"]) > 0
    past = results["past saturation"]
    assert [each["clients"] for each in past] == [64, 128]
    for each in past:
        assert each["of_plateau"] is not None
        assert sum(each["statuses"].values()) > 0
        assert set(each["statuses"]) <= {"201", "503", "no answer"}


def test_a_request_that_fails_fails_the_run(postgres_url: str, tmp_path: Path) -> None:
    for name in ("common", "infra", "tests"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    shutil.copytree(CHECKOUT / "functions", tmp_path / "functions")
    main = tmp_path / "functions" / "orders_crud" / "main.py"
    main.write_text(main.read_text() + "\n\nreads.read_order = None\n")
    done = bench(postgres_url, "--json", "--checkout", str(tmp_path), "--only", "read")
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["unexpected"]["read"] > 0
    assert "500" in done.stderr


App = Callable[[WSGIEnvironment, StartResponse], list[bytes]]


def answering(status: str, body: bytes = b"{}") -> App:
    def app(_environ: WSGIEnvironment, start: StartResponse) -> list[bytes]:
        start(status, [("Content-Length", str(len(body)))])
        return [body]

    return app


@contextmanager
def served(app: App) -> Iterator[int]:
    server = HttpServer(app)
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


def asked(port: int, seconds: float = 0.2, **settings: Any) -> load.Outcome:
    spell = Period(clients=3, seconds=seconds, warm_up_seconds=0.0, **settings)
    return load.ask(port, cycle([traffic.request("GET", "/", "u")]), spell)


def test_clients_count_and_time_what_was_asked_for() -> None:
    with served(answering("200 OK", b"x" * 100_000)) as port:
        outcome = asked(port)
    assert outcome.unexpected == 0
    assert outcome.statuses == {200: outcome.sent}
    assert outcome.sent - 3 <= len(outcome.latencies) <= outcome.sent
    assert outcome.latencies == sorted(outcome.latencies)


def test_what_is_allowed_is_no_failure_and_no_success_and_a_hang_up_is_one() -> None:
    with served(answering("503 Busy")) as port:
        outcome = asked(port, allowed=frozenset({503}))
    assert (outcome.unexpected, outcome.latencies) == (0, [])
    assert outcome.statuses[503] > 3
    assert asked(port).unexpected > 0  # nobody there

    def app(environ: WSGIEnvironment, _start: StartResponse) -> list[bytes]:
        environ["infra.drop_connection"] = True
        _start("200 OK", [])
        return []

    with served(app) as port:
        outcome = asked(port)
    assert outcome.unexpected == outcome.statuses[load.BROKEN] > 0
