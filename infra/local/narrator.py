"""Print a story line by line, comparing what was expected with what came.

A mismatch ends the story only if later steps need that result.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from common.telemetry.printable import printable

PATIENCE_SECONDS = 40.0
FIRST_LOOK_SECONDS = 0.02


class StoryError(Exception):
    """The story cannot go on."""


class Narrator:
    """Prints a line a step, with each mismatch below it, and counts what was wrong."""

    def __init__(self, *, as_json: bool) -> None:
        self.mismatches = 0
        self._as_json = as_json
        self._steps = 0
        self._wrong: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def step(self, says: str) -> Iterator[None]:
        """Print what happens in the block once it has happened, and what was wrong."""
        self._steps += 1
        self._wrong = []
        began_at = time.monotonic()
        try:
            yield
        except StoryError as error:
            self._note(str(error), None, None)
            raise
        finally:
            seconds = round(time.monotonic() - began_at, 3)
            self._tell(says, seconds)

    def expect(self, what: str, expected: object, got: object) -> None:
        """Note a mismatch unless both are equal."""
        if expected != got:
            self._note(what, expected, got)

    def wait_for(self, what: str, expected: object, look: Callable[[], object]) -> None:
        """Poll until the value is as expected; note a mismatch at the time-out."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        pause = FIRST_LOOK_SECONDS
        while (got := look()) != expected:
            if time.monotonic() > deadline:
                self._note(f"{what}, after {PATIENCE_SECONDS:.0f} s", expected, got)
                return
            time.sleep(pause)
            pause = min(1.0, pause * 1.5)

    def end(self) -> None:
        """Print the result."""
        well = "every step as expected"
        if self.mismatches:
            well = f"{self.mismatches} not as expected"
        if self._as_json:
            self._print_json({"steps": self._steps, "mismatches": self.mismatches})
        else:
            print(f"\n{self._steps} steps, {well}.", flush=True)

    def _note(self, what: str, expected: object, got: object) -> None:
        self.mismatches += 1
        self._wrong.append({"what": what, "expected": expected, "got": got})

    def _tell(self, says: str, seconds: float) -> None:
        if self._as_json:
            self._print_json(
                {
                    "step": self._steps,
                    "says": says,
                    "ok": not self._wrong,
                    "seconds": seconds,
                    "mismatches": self._wrong,
                }
            )
            return
        mark = "DIFFERS" if self._wrong else "ok     "
        self._print(f"{self._steps:2}. {mark}  {says}")
        for wrong in self._wrong:
            self._print(f"        {wrong['what']}")
            self._print(f"          expected  {wrong['expected']!r}")
            self._print(f"          got       {wrong['got']!r}")

    @staticmethod
    def _print(line: str) -> None:
        print(printable(line), flush=True)

    @staticmethod
    def _print_json(line: dict[str, Any]) -> None:
        print(json.dumps(line, default=str), flush=True)
