"""A function as the framework loads it, save for what only a benchmark may set.

Lives here: the exchange of this run, so that nobody else hears of its events, and the
sampling of where processor time goes. Not here: settings that a deployment has, too.
Surprise: the framework loads this file in place of the function's own `main.py`.
"""

import importlib.util
import os
from pathlib import Path

TARGET = os.environ["FUNCTION_TARGET"]
SOURCE = Path(os.environ["BENCH_SOURCE"])

if exchange := os.environ.get("BENCH_EXCHANGE"):
    from common.publishing import rabbitmq

    rabbitmq.EXCHANGE = exchange

spec = importlib.util.spec_from_file_location("measured_function", SOURCE)
assert spec
assert spec.loader
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
globals()[TARGET] = getattr(module, TARGET)
