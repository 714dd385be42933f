"""Attribute a request's processor time to layers, from samples of stacks.

A sample belongs to its innermost frame outside the standard library.
"""

import json
import re
import urllib.request
from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct

from benchmarks.measuring import Meter
from benchmarks.stage import Served, Stage
from benchmarks.traffic import Operation

REPORTED = 15  # functions
CLIENTS = 4  # so that the single thread never waits for them
FRAMEWORK, RULES, SIBLINGS = "framework and HTTP", "rules and bodies", "siblings"
DATABASE, LOGGING = "database", "logging"
HANDED_OVER, SENDING = "hand-over: database", "hand-over: sending"
LAYERS = (FRAMEWORK, RULES, SIBLINGS, DATABASE, HANDED_OVER, SENDING, LOGGING)
_OWNERS = (
    (re.compile(r"/logging/|/common/telemetry/logs\.py$"), LOGGING),
    (re.compile(r"/(sqlalchemy|pg8000|scramp)/|/common/database/"), DATABASE),
    (re.compile(r"/common/clients/"), SIBLINGS),
    (re.compile(r"/(pika|requests|urllib3)/|/common/publishing/"), SENDING),
    (re.compile(r"/common/web/"), FRAMEWORK),
    (re.compile(r"/(gunicorn|flask|werkzeug|functions_framework)/"), FRAMEWORK),
    (re.compile(r"/common/|/functions/"), RULES),
)
_OURS = re.compile(r"/(common|functions)/(\w+/)?\w+\.py$")
_HAND_OVER = re.compile(r"/common/messaging/relay\.py$")

Frame = tuple[str, str]  # file, function; stacks begin with the innermost


class Split(Struct, frozen=True):
    """One operation's processor time a request, in milliseconds, and its parts."""

    operation: str
    cpu_ms: float
    samples: int
    layers: dict[str, float]
    functions: list[tuple[str, float]]  # the costliest, by themselves
    ours: list[tuple[str, float]]  # the service's own, with what they call


def layer(stack: Sequence[Frame]) -> str:
    """Return the layer that a sample belongs to."""
    owner = next((found for file, _ in stack if (found := _owner(file))), FRAMEWORK)
    if owner in (LOGGING, SENDING) or not any(_HAND_OVER.search(f) for f, _ in stack):
        return owner
    return HANDED_OVER if owner == DATABASE else SENDING


def _owner(file: str) -> str | None:
    return next((name for pattern, name in _OWNERS if pattern.search(file)), None)


def split(
    operation: str, cpu_ms: float, stacks: Iterable[tuple[Sequence[Frame], int]]
) -> Split:
    """Return how the processor time of a request is distributed."""
    layers: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    ours: Counter[str] = Counter()
    for stack, count in stacks:
        layers[layer(stack)] += count
        functions[_short(stack[0])] += count
        ours.update(
            dict.fromkeys((_short(f) for f in stack if _OURS.search(f[0])), count)
        )
    total = layers.total() or 1

    def costliest(counts: Counter[str]) -> list[tuple[str, float]]:
        most = counts.most_common(REPORTED)
        return [(name, cpu_ms * count / total) for name, count in most]

    return Split(
        operation=operation,
        cpu_ms=cpu_ms,
        samples=layers.total(),
        layers={name: cpu_ms * layers[name] / total for name in LAYERS},
        functions=costliest(functions),
        ours=costliest(ours),
    )


def _short(frame: Frame) -> str:
    file, function = frame
    return f"{'/'.join(file.split('/')[-2:])} {function}"


def measure(
    ready: Stage, meter: Meter, operations: Sequence[Operation], upstream: str
) -> list[Split]:
    """Sample each operation on a worker of one thread; `upstream` should not delay.

    Pass a separate `meter`, because such a worker keeps no connections open.
    """
    found = []
    settings = {"SHOPCART_SERVICE": upstream, "PRODUCT_SERVICE": upstream}
    for operation in operations:
        with ready.serving(
            operation.server, workers=1, threads=1, BENCH_SAMPLED="1", **settings
        ) as served:
            meter.served[operation.server] = served
            meter.warm_up(operation, CLIENTS)
            _call(served, "POST")
            cpu_ms = meter.take(operation, CLIENTS).cpu_ms
            assert cpu_ms
            stacks = json.loads(_call(served, "GET"))
        found.append(split(operation.name, cpu_ms, stacks))
    return found


def _call(served: Served, method: str) -> bytes:
    url = f"http://127.0.0.1:{served.port}/bench/samples"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, method=method)
    with opener.open(request, timeout=30) as response:
        body: bytes = response.read()
    return body
