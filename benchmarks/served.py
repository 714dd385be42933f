"""Load a function as the framework does, with the run's exchange and a profiler.

Profiling needs a worker with one thread, since signals reach only the main thread.
"""

import importlib
import importlib.util
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from flask import Request

TARGET = os.environ["FUNCTION_TARGET"]
SOURCE = Path(os.environ["BENCH_SOURCE"])
SAMPLES_PATH = "/bench/samples"
EVERY_SECONDS = 0.001  # of processor time; most kernels count in steps of 4 ms


def _load() -> Callable[[Request], Any]:
    spec = importlib.util.spec_from_file_location("measured_function", SOURCE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    target: Callable[[Request], Any] = getattr(module, TARGET)
    return target


class _Sampler:
    """Records the stack at intervals of processor time."""

    def __init__(self) -> None:
        self._stacks: Counter[tuple[tuple[str, str], ...]] = Counter()

    def start(self) -> None:
        """Start, and forget earlier samples."""
        self._stacks.clear()
        signal.signal(signal.SIGPROF, self._record)
        signal.setitimer(signal.ITIMER_PROF, EVERY_SECONDS, EVERY_SECONDS)

    def as_json(self) -> str:
        """Return [[[file, function], ... innermost first], count], ... as JSON."""
        return json.dumps(list(self._stacks.items()))

    def _record(self, _signal: int, frame: FrameType | None) -> None:
        stack = []
        while frame is not None:
            stack.append((frame.f_code.co_filename, frame.f_code.co_qualname))
            frame = frame.f_back
        self._stacks[tuple(stack)] += 1


def _sampled(target: Callable[[Request], Any]) -> Callable[[Request], Any]:
    sampler = _Sampler()

    def sampled(request: Request) -> Any:  # noqa: ANN401 whatever the function returns
        if request.path != SAMPLES_PATH:
            return target(request)
        if request.method == "POST":
            sampler.start()
            return ""
        return sampler.as_json()

    return sampled


if exchange := os.environ.get("BENCH_EXCHANGE"):
    try:
        link = importlib.import_module("common.publishing.rabbitmq_connection")
    except ImportError:  # an older checkout
        link = importlib.import_module("common.publishing.rabbitmq_link")
    vars(link)["EXCHANGE"] = exchange

target = _load()
if os.environ.get("BENCH_SAMPLED"):
    target = _sampled(target)
globals()[TARGET] = target
