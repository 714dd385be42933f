"""The page for containers and plain machines: its commands are there and start."""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import yaml

from infra import orderctl
from infra.package import NEEDS
from tests.support import pages
from tests.support.pages import ROOT
from tests.support.processes import free_port
from tests.support.serving import environment, until_it_answers

PAGE = ROOT / "docs" / "own-machines.md"
CHECKOUT = "/opt/orders"
BIN = Path(sys.executable).parent


def written() -> list[list[str]]:
    """Return the words of each command that stands in the page's text and tables."""
    found = re.findall(r"`([^`]+)`", pages.prose(PAGE).replace("\\|", "|"))
    return [shlex.split(each.partition("|")[0]) for each in found if " " in each]


def unit() -> configparser.ConfigParser:
    [text] = pages.blocks(PAGE, "ini")
    parsed = configparser.ConfigParser()
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read_string(text)
    return parsed


def start(words: list[str], **settings: str) -> "tuple[subprocess.Popen[bytes], str]":
    """Start a server as the page does, on a port that is free."""
    at = words.index("--port") + 1
    port = str(free_port())
    process = subprocess.Popen(
        [str(BIN / Path(words[0]).name), *words[1:at], port, *words[at + 1 :]],
        cwd=ROOT,
        env=environment(**settings),
    )
    url = f"http://127.0.0.1:{port}"
    until_it_answers(url, process)
    return process, url


def test_every_command_of_orderctl_in_the_text_is_one_that_it_understands() -> None:
    parser = orderctl._parser()
    found = [
        words for words in written() if "orderctl" in {Path(w).name for w in words}
    ]
    assert len(found) > 8
    for words in found:
        at = [Path(word).name for word in words].index("orderctl")
        parser.parse_args(words[at + 1 :])


def test_every_service_of_compose_is_there() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    found = [words[2:] for words in written() if words[:2] == ["docker", "compose"]]
    assert len(found) > 5
    for verb, *rest in found:
        known = {"run": 1, "up": 0, "restart": 0, "logs": 2, "ps": 0}
        named = rest[known[verb] :][:1]
        assert set(named) <= set(services), [verb, *rest]


def test_every_unit_is_named_as_a_function() -> None:
    units = {f"order-{name.replace('_', '-')}" for name in NEEDS} | {"order-*"}
    text = PAGE.read_text()
    named = re.findall(r"(?:-u|restart|list-units) '?(order-[\w*-]+)", text)
    named += re.findall(r"system/(order-[\w-]+)\.service", text)
    assert len(named) > 4
    assert set(named) <= units


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if not (verify := shutil.which("systemd-analyze")):
        pytest.skip("systemd-analyze is not installed")
    [text] = pages.blocks(PAGE, "ini")
    file = tmp_path / "order-orders-crud.service"
    text = text.replace(f"{CHECKOUT}/.venv/bin", str(BIN))
    file.write_text(text.replace(CHECKOUT, str(ROOT)))
    done = subprocess.run(
        [verify, "verify", "--man=no", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    told = [line for line in done.stderr.splitlines() if file.name in line]
    assert (done.returncode, told) == (0, []), done.stderr


def test_the_unit_s_command_starts_the_function(database_url: str) -> None:
    service = unit()["Service"]
    words = shlex.split(service["ExecStart"])
    assert words[0].startswith(f"{service['WorkingDirectory']}/.venv/bin/")
    process, url = start(
        words,
        DATABASE_URL=database_url,
        PRODUCT_SERVICE="http://127.0.0.1:1",
        EVENT_BUS="http",
        EVENT_SINK_URL="http://127.0.0.1:1/",
    )
    try:
        assert requests.get(f"{url}/health/ready", timeout=20).status_code == 200
    finally:
        process.terminate()
        process.wait(20)


def test_the_console_s_command_starts_it_for_who_is_named(database_url: str) -> None:
    [words] = [w for w in pages.commands(PAGE) if w[0].endswith("functions-framework")]
    [line] = [b for b in pages.shell_blocks(PAGE) if "ops_console" in b]
    given = dict(w.split("=", 1) for w in shlex.split(line) if re.match(r"[A-Z_]+=", w))
    process, url = start(
        words,
        DATABASE_URL=database_url,
        EVENT_BUS="http",
        EVENT_SINK_URL="http://127.0.0.1:1/",
        **given,
    )
    try:
        assert requests.get(f"{url}/ops/", timeout=20).status_code in (401, 403)
        named = {"X-Ops-Operator": "olga@example.com"}
        answer = requests.get(f"{url}/ops/", headers=named, timeout=20)
        assert answer.status_code == 200, answer.text
    finally:
        process.terminate()
        process.wait(20)
