"""Measure what an order's life writes to the log, and how many requests it takes.

The result is kept in `results/order_log.json`, from which `costs.py` computes.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cold_world import own_service
from common.domain.model import ItemStatus
from tests.support.service import Service, new_user

RESULTS = Path(__file__).parent / "results" / "order_log.json"
ITEMS = 3
READS = 3  # of the order, by its owner
# Names as long as real ones: a line names the project of its trace.
PROJECT = "acme-orders-production"


def measure(service: Service, folder: Path) -> dict[str, Any]:
    """Return requests, events and lines of one order, and lines of a minute's sweep.

    Each status change triggers the approval handler, as Pub/Sub would.
    """
    file = folder / "order"
    service.set(LOG_LEVEL="INFO", LOG_FILE=str(file), GOOGLE_CLOUD_PROJECT=PROJECT)
    before = len(service.sandbox.events)
    requests = _live(service)
    order = _lines(file)
    events = service.sandbox.events[before:]
    sweep = folder / "sweep"
    service.set(LOG_FILE=str(sweep))
    service.sweep()
    all_lines = folder / "all"
    service.set(LOG_LEVEL="DEBUG", LOG_FILE=str(all_lines))
    _live(service)
    deliveries = [each for each in _lines(all_lines) if b"an event was sent" in each]
    return {
        "requests": requests,
        "events": {"number": len(events), "bytes": sum(len(e.body) for e in events)},
        "order": _sum(order),
        "deliveries": _sum(deliveries),
        "sweep": _sum(_lines(sweep)),
    }


def _live(service: Service) -> dict[str, int]:
    """Have an order ordered, read, shipped, delivered and approved; count requests."""
    user = new_user()
    order = service.ordered(user, *[2] * ITEMS)
    requests = Counter(create_order_from_cart=1)
    for _ in range(READS):
        found = service.crud("GET", f"/api/orders/{order['id']}/", user)
        assert found.status_code == 200, found.get_data(as_text=True)
        requests["orders_crud"] += 1
    for status in (ItemStatus.SHIPPED, ItemStatus.DELIVERED):
        for item in order["items"]:
            moved = service.move(item["id"], status)
            assert moved.status_code == 200, moved.get_data(as_text=True)
            requests["item_status"] += 1
            assert service.trigger_approval(order["id"]).status_code == 204
            requests["approval_handler"] += 1
    return dict(requests)


def _lines(file: Path) -> list[bytes]:
    return file.read_bytes().splitlines(keepends=True)


def _sum(lines: Sequence[bytes]) -> dict[str, int]:
    return {"lines": len(lines), "bytes": sum(map(len, lines))}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the results; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.order_log",
        description=__doc__.splitlines()[0],
        epilog="example: python -m benchmarks.order_log --out /tmp/order_log.json",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="(default: results)")
    arguments = parser.parse_args(argv)
    with own_service() as (service, _), tempfile.TemporaryDirectory() as folder:
        measured = measure(service, Path(folder))
    arguments.out.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(measured, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
