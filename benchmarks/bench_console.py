"""Measure the console's pages with many orders, and what it takes to export a list.

The function runs in this process, so figures leave out network and browser.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from flask.testing import FlaskClient

from benchmarks.fill import Plan, fill
from benchmarks.fill_statements import HEAVY
from common import wiring
from common.operations.lookup.charts import TITLES
from tests.support import database
from tests.support.database import execute

MAIN = Path(__file__).parents[1] / "functions" / "ops_console" / "main.py"
BOUND_MS = 300.0
BOUND_MIB = 200
HEADERS = {"X-Ops-Operator": "bench@example.com"}
DEAD_LETTERS = """
INSERT INTO dead_letters (source, reason, destination, order_id, event_id, event_type,
  body) SELECT 'outbox', 'no', 'rabbitmq', n, CAST(gen_random_uuid() AS text),
  'order.created', 'x' FROM generate_series(1, 5000) n
"""


LETTERS = "source=outbox&destination=rabbitmq&cause=no&up_to=5000"
METADATA = """
UPDATE orders SET metadata = '{"campaign": "sale"}' WHERE mod(id, 10) = 0
"""


def pages(orders: int) -> dict[str, str]:
    """Return the path of each page, by what it is."""
    ago = datetime.now(UTC) - timedelta(days=20)
    before = f"created_before={ago.strftime('%Y-%m-%dT%H:%M')}"
    nobody = "00000000-0000-4000-8000-000000000009"
    return {
        "home": "",
        **{f"chart, {name}": f"charts/{name}.svg" for name in TITLES},
        "search for a number": f"search/?q={orders - 5}",
        "search for a user": f"search/?q={HEAVY}",
        "search for a request": f"search/?q=request-{orders - 5}",
        "search for metadata": "search/?q=none%20has%20it",
        "search for metadata that many have": "search/?q=sale",
        "orders with metadata that many have": "orders/?metadata=sale",
        "orders that are late": "orders/?is_late=true",
        "orders": "orders/",
        "orders of a user with a fifth of all": f"orders/?user_id={HEAVY}",
        "orders that are delivered": "orders/?status=3",
        "orders of a shop that has none": f"orders/?shop_id={nobody}",
        "orders before a time": f"orders/?{before}",
        "orders before a time, of a shop": f"orders/?{before}&shop_id={nobody}",
        "one order": f"orders/{orders - 5}/",
        "events that wait": "events/",
        "events that were sent": "events/?place=sent",
        "events that failed": "events/?place=failed",
        "events that were sent, of a rare type": "events/?place=sent&type=none",
        "dead letters": "letters/",
        "actions": "actions/",
        "a preview of many letters": f"do/discard-letters/?{LETTERS}",
        "what will happen": f"do/approve/?order={orders - 5}&version=1",
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Fill, measure and report; return 1 if a page takes longer than the bound."""
    arguments = _arguments(argv)
    with database.server() as server, database.database(server) as url:
        fill(url, Plan(orders=arguments.orders, days=60, pending=8000))
        execute(url, DEAD_LETTERS)
        execute(url, METADATA)
        execute(url, "ANALYZE")
        with _console(url) as client:
            times_by_page = {
                name: _measure(client, path, arguments.rounds)
                for name, path in pages(arguments.orders).items()
            }
        export = _export(url)
    if arguments.json:
        found = {"orders": arguments.orders, "milliseconds": times_by_page}
        print(json.dumps(found | {"export": export}))
    else:
        print(f"{arguments.orders:,} orders; milliseconds of the server")
        print(f"{'page':<40}{'first':>8}{'median':>8}{'worst':>8}")
        for name, times in times_by_page.items():
            print(f"{name:<40}" + "".join(f"{ms:>8.1f}" for ms in times.values()))
        print("export: " + ", ".join(f"{n:,} {what}" for what, n in export.items()))
    is_slow = any(times["worst"] > BOUND_MS for times in times_by_page.values())
    return int(is_slow or export["MiB"] > BOUND_MIB)


def _export(url: str) -> dict[str, int]:
    """Export all sent events by `orderctl`; return rows, seconds and memory."""
    command = [sys.executable, "-m", "infra.orderctl", "events", "export"]
    began_at, rows = time.monotonic(), 0
    with subprocess.Popen(
        [*command, "--filter", "place=sent", "--format", "ndjson"],
        stdout=subprocess.PIPE,
        env=os.environ | {"DATABASE_URL": url},
    ) as exporting:
        assert exporting.stdout
        for _ in exporting.stdout:
            rows += 1
        _, status, used = os.wait4(exporting.pid, 0)
        exporting.returncode = os.waitstatus_to_exitcode(status)
    assert exporting.returncode == 0
    seconds = round(time.monotonic() - began_at)
    return {"rows": rows, "seconds": seconds, "MiB": used.ru_maxrss // 1024}


@contextmanager
def _console(url: str) -> Iterator[FlaskClient]:
    import functions_framework  # noqa: PLC0415 takes long, and `--help` does not need it

    environ = {
        "DATABASE_URL": url,
        "EVENT_BUS": "http",
        "EVENT_SINK_URL": "http://127.0.0.1:1",
        "PRODUCT_SERVICE": "http://127.0.0.1:1",
        "LOG_LEVEL": "WARNING",
        "OPS_IDENTITY": "header",
    }
    with mock.patch.dict(os.environ, environ):
        app: Any = functions_framework.create_app(  # type: ignore[no-untyped-call]
            "ops_console", str(MAIN)
        )
        try:
            yield app.test_client()
        finally:
            wiring.close()


def _measure(client: FlaskClient, path: str, rounds: int) -> dict[str, float]:
    times = []
    for _ in range(rounds):
        began_at = time.perf_counter()
        response = client.get(f"/ops/{path}", headers=HEADERS)
        times.append((time.perf_counter() - began_at) * 1000)
        text = response.get_data(as_text=True)
        assert response.status_code in (200, 303, 409, 412), text
    return {
        "first": times[0],
        "median": statistics.median(times),
        "worst": max(times),
    }


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_console",
        description=__doc__.splitlines()[0],
        epilog="example: python -m benchmarks.bench_console --orders 1000000 --json",
    )
    parser.add_argument("--orders", type=int, default=100_000, help="how many")
    parser.add_argument("--rounds", type=int, default=20, help="of each page")
    parser.add_argument("--json", action="store_true", help="for machines")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
