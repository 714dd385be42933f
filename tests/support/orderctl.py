"""Run `orderctl` within the test's own process.

The test's own environment is hidden from it.
"""

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from common import wiring
from infra.orderctl import main

NOBODY = "00000000-0000-4000-8000-000000000009"
SURE = ["--yes", "--reason", "why"]
COMMANDS = [
    ["migrate"],
    ["relay", "--once"],
    ["after-restore", "--yes"],
    ["audit"],
    ["doctor"],
    ["events", "list"],
    ["events", "show", NOBODY],
    ["events", "resend", NOBODY, "--yes"],
    ["events", "confirm", NOBODY, "--destination", "http", *SURE],
    ["events", "hurry", "--destination", "http"],
    ["events", "export"],
    ["dead-letters", "list"],
    ["dead-letters", "show", "1"],
    ["dead-letters", "replay", "1"],
    ["dead-letters", "discard", "1", *SURE],
    ["dead-letters", "export"],
    ["orders", "show", "1"],
    ["orders", "find"],
    ["orders", "export"],
    ["actions", "export"],
    ["users", "export", NOBODY],
    ["users", "erase", NOBODY, *SURE],
]


class Said(NamedTuple):
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return what it said to a machine."""
        return json.loads(self.out)


class Terminal(io.StringIO):
    """Standard input or output that is a terminal."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


def orderctl(
    url: str,
    *arguments: object,
    answer: str | None = None,
    local_run: Path = Path("none"),
    **settings: str,
) -> Said:
    """Run it on a database; `answer` is what somebody at the terminal types.

    `local_run` is where a local run says where its database is, if there is one.
    A sink that does not exist is the event bus, unless `settings` say otherwise.
    """
    environ = {
        "DATABASE_URL": url,
        "EVENT_BUS": "http",
        "EVENT_SINK_URL": "http://127.0.0.1:1/",
        "LOG_LEVEL": "ERROR",
        **settings,
    }
    out, err = io.StringIO(), io.StringIO()
    stdin = io.StringIO() if answer is None else Terminal(f"{answer}\n")
    wiring.close()
    with (
        mock.patch.dict(os.environ, environ, clear=True),
        mock.patch("infra.orderctl.LOCAL_RUN", local_run),
        mock.patch("sys.stdin", stdin),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse
            status = int(error.code or 0)
    return Said(status, out.getvalue(), err.getvalue())
