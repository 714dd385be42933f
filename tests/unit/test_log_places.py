"""Where log lines go, in which format, and who they may name."""

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.config.environment import ConfigError
from common.config.settings import load
from common.telemetry import logs

ROOT = Path(__file__).parents[2]
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
USER = "0b5b9a3e-8a53-4a58-9c0f-5f0b7d9a1c11"
KEY = "k" * 16


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leave the process's own log as it was."""
    ours = logging.getLogger("orders")
    before = (ours.handlers[:], ours.level, ours.propagate)
    ours.handlers = []
    yield
    for each in ours.handlers:
        each.close()
    logs.configure(logs.Options())
    ours.handlers, ours.level, ours.propagate = before


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def messages(file: Path) -> list[str]:
    return [line["message"] for line in lines(file)]


def test_a_log_file_is_appended_to(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text('{"message": "of yesterday"}\n')
    logs.configure(logs.Options(file=str(file)))
    logs.get("test").info("of today")
    assert messages(file) == ["of yesterday", "of today"]


def test_a_log_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    file, moved = tmp_path / "log", tmp_path / "log.1"
    logs.configure(logs.Options(file=str(file)))
    logs.get("test").info("before")
    file.rename(moved)
    deadline = time.monotonic() + 10
    while not file.exists():
        assert time.monotonic() < deadline
        logs.get("test").info("after")
        time.sleep(0.1)
    assert messages(moved)[0] == "before"
    assert set(messages(file)) == {"after"}


def test_no_line_is_lost_or_torn_while_a_file_is_moved(tmp_path: Path) -> None:
    file = tmp_path / "log"
    logs.configure(logs.Options(file=str(file)))
    ended = threading.Event()
    written = [0] * 4

    def write(number: int) -> None:
        while not ended.is_set():
            logs.get("test").info("%d %d", number, written[number])
            written[number] += 1
            time.sleep(0.001)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    file.rename(tmp_path / "log.1")
    deadline = time.monotonic() + 10
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    ended.set()
    for thread in threads:
        thread.join()
    said = [*messages(tmp_path / "log.1"), *messages(file)]
    assert len(said) == len(set(said)) == sum(written)


def test_a_log_file_that_cannot_be_written_ends_a_start_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from common import wiring; wiring.start()"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": os.defpath, "LOG_FILE": "/nowhere/at/all"},
    )
    assert done.returncode == 1
    assert done.stderr == (
        "configuration error: LOG_FILE cannot be written to:"
        " No such file or directory\n"
    )


def test_a_line_for_people_is_one_line_with_what_matters(tmp_path: Path) -> None:
    file = tmp_path / "log"
    logs.configure(logs.Options(file=str(file), format="text", user_ids="plain"))
    with logs.request_context("r-1", TRACEPARENT):
        logs.set_order_id(4)
        logs.set_user_id(USER)
        logs.get("test").warning("two\nlines\x1b[31m", extra={"fields": {"ms": 1.5}})
    text = file.read_text()
    told = (
        r"\d\d:\d\d:\d\d\.\d{3} WARNING test: two\\nlines\\u001b\[31m request_id=r-1"
        rf" trace=4bf92f3577b34da6a3ce929d0e0e4736 order_id=4 ms=1\.5 user_id={USER}\n"
    )
    assert re.fullmatch(told, text), text


def test_a_terminal_gets_text_unless_json_is_asked_for() -> None:
    program = "from common import wiring; wiring.use();"
    program += " from common.telemetry import logs; logs.get('x').info('y')"

    def said(**environ: str) -> str:
        ours, theirs = os.openpty()
        with subprocess.Popen(
            [sys.executable, "-c", program], stderr=theirs, cwd=ROOT, env=environ
        ) as process:
            process.wait(60)
        os.close(theirs)
        text = os.read(ours, 10_000).decode()
        os.close(ours)
        return text

    assert " INFO    x: y" in said()
    assert json.loads(said(LOG_FORMAT="json"))["message"] == "y"


def test_a_trace_is_named_as_the_projects_where_that_is_known(tmp_path: Path) -> None:
    file = tmp_path / "log"
    logs.configure(logs.Options(file=str(file), project="acme"))
    with logs.request_context("r-1", TRACEPARENT):
        logs.get("test").info("x")
    [line] = lines(file)
    assert line[logs.TRACE] == "projects/acme/traces/4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("environ", "project"),
    [
        ({}, None),
        ({"GOOGLE_CLOUD_PROJECT": "a", "PUBSUB_PROJECT": "pub"}, "a"),
        ({"PUBSUB_PROJECT": "pub"}, "pub"),
        (
            {
                "CLOUD_SQL_CONNECTION_NAME": "c:europe-west1:orders",
                "POSTGRES_DB": "shop",
                "POSTGRES_USER": "orders",
            },
            "c",
        ),
    ],
)
def test_project_is_a_setting(environ: dict[str, str], project: str | None) -> None:
    assert load(environ, needs=()).log.project == project


def user_of_a_line(file: Path, **options: str) -> str | None:
    logs.configure(logs.Options(file=str(file), **options))
    with logs.request_context("r-1", None):
        logs.set_user_id(USER)
        logs.get("test").info("x")
    told: str | None = lines(file)[-1].get(logs.LABELS, {}).get("user_id")
    return told


def test_users_are_not_named_unless_that_is_asked_for(tmp_path: Path) -> None:
    assert user_of_a_line(tmp_path / "log") is None
    assert user_of_a_line(tmp_path / "log", user_ids="plain") == USER


def test_hashed_user_is_the_same_under_the_same_key_only(tmp_path: Path) -> None:
    def told(key: str) -> str | None:
        return user_of_a_line(tmp_path / "log", user_ids="hashed", user_id_key=key)

    first, again, other = told(KEY), told(KEY), told("o" * 16)
    assert first == again != other
    assert USER[:8] not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {"LOG_USER_IDS": "hashed"},
            "LOG_USER_ID_KEY is not set, but LOG_USER_IDS is hashed",
        ),
        ({"LOG_USER_ID_KEY": "short"}, "LOG_USER_ID_KEY must have 16 characters"),
        ({"LOG_USER_IDS": "some"}, "LOG_USER_IDS must be one of none, hashed, plain"),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT must be one of json, text"),
    ],
)
def test_a_bad_setting_is_named(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{said}$"):
        load(environ, needs=())
