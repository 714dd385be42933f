"""What a benchmark makes of what it measured: layers, ratios, targets, plots."""

import pytest

from benchmarks import layers, processes, targets
from benchmarks.bench_versions import FEWEST, of_median
from benchmarks.measuring import Meter, Sample, sample
from benchmarks.targets import Shown, Target

SITE = "/venv/lib/python3.11/site-packages"
FUNCTION = "/checkout/functions/orders_crud/main.py"
RELAY = "/checkout/common/messaging/relay.py"
DRIVER = f"{SITE}/pg8000/core.py"
FRAMEWORK = f"{SITE}/gunicorn/workers/sync.py"
SOCKET = "/usr/lib/python3.11/socket.py"


def of(rate: float, cpu_ms: float = 1.0) -> Sample:
    return Sample(rate=rate, p50_ms=1, p95_ms=2, p99_ms=3, cpu_ms=cpu_ms)


def bounded(**bounds: float) -> Target:
    return Target(name="t", of=("a", 8), to=("b", 8), figure="rate", **bounds)


def metered(**rates: list[float]) -> Meter:
    meter = Meter({}, 1.0)
    for name, each in rates.items():
        for rate in each:
            meter.keep(name, 8, of(rate))
    return meter


@pytest.mark.parametrize(
    ("files", "owner"),
    [
        ([SOCKET, DRIVER, FUNCTION, FRAMEWORK], layers.DATABASE),
        ([SOCKET, DRIVER, RELAY, FUNCTION, FRAMEWORK], layers.HANDED_OVER),
        ([SOCKET, f"{SITE}/pika/frame.py", RELAY, FUNCTION], layers.SENDING),
        ([RELAY, FUNCTION, FRAMEWORK], layers.SENDING),
        ([SOCKET, "/usr/lib/python3.11/http/client.py", FRAMEWORK], layers.FRAMEWORK),
        (["/checkout/common/clients/__init__.py", FUNCTION], layers.SIBLINGS),
        (["/checkout/common/domain/orders.py", FUNCTION, FRAMEWORK], layers.RULES),
        (["/checkout/common/web/replies.py", FUNCTION, FRAMEWORK], layers.FRAMEWORK),
        (["/usr/lib/python3.11/logging/__init__.py", RELAY], layers.LOGGING),
        ([SOCKET], layers.FRAMEWORK),
    ],
)
def test_sample_belongs_to_innermost_known_frame(files: list[str], owner: str) -> None:
    assert layers.layer([(file, "f") for file in files]) == owner


def test_the_layers_of_a_request_add_up_to_its_processor_time() -> None:
    stacks = [([(DRIVER, "read")], 3), ([(FUNCTION, "get")], 1)]
    found = layers.split("read", 2.0, stacks)
    assert found.layers[layers.DATABASE] == 1.5
    assert sum(found.layers.values()) == 2.0
    assert found.functions[0] == ("pg8000/core.py read", 1.5)


@pytest.mark.parametrize(
    ("count", "low", "high"),
    # As in tables of the sign test: ranks 1 and 6, 2 and 9, 6 and 15, 40 and 61.
    [(FEWEST, 1, 6), (10, 2, 9), (20, 6, 15), (100, 40, 61)],
)
def test_the_interval_of_a_median_is_the_sign_test_s(
    count: int, low: int, high: int
) -> None:
    found = of_median(range(count, 0, -1))
    assert (found.low, found.high) == (low, high)
    assert found.median == (count + 1) / 2


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    meter = metered(read=[50, 10, 120], hello=[100, 100, 200])
    assert meter.ratio(("read", 8), ("hello", 8), "rate") == 0.5
    assert meter.ratio(("read", 8), ("absent", 8), "rate") is None


def test_percentiles_are_of_what_was_answered() -> None:
    found = sample(2.0, [each / 1000 for each in range(101)])
    assert (found.rate, found.p50_ms, found.p99_ms) == (50.5, 50, 99)
    assert sample(2.0, []).p50_ms is None


def test_a_target_holds_is_missed_or_was_not_measured() -> None:
    target = bounded(at_least=0.5)
    found = [Shown(target, value).holds for value in (0.5, 0.49, None)]
    assert found == [True, False, None]
    target = bounded(at_most=3)
    assert [Shown(target, value).holds for value in (3.0, 3.1)] == [True, False]


def test_a_target_is_taken_from_what_was_measured() -> None:
    shown = targets.shown(metered(read=[30], hello=[100]))
    [found] = [each for each in shown if each.value is not None]
    assert (found.target.at_least, found.value, found.holds) == (0.4, 0.3, False)


def test_cold_starts_are_taken_from_whoever_measured_them() -> None:
    shown = targets.shown(Meter({}, 1.0), cold=2.3)
    assert [each.holds for each in shown if each.value is not None] == [False]


def test_processor_time_of_another_process_is_read() -> None:
    [own, *_] = processes.family(1)
    assert own.memory_bytes > 0


@pytest.mark.parametrize(
    ("clock", "seconds"), [("0:01.50", 1.5), ("1:02:03", 3723), ("2-00:00:01", 172801)]
)
def test_a_clock_of_ps_is_read(clock: str, seconds: float) -> None:
    assert processes.seconds(clock) == seconds
