"""An order's requests and lines of log are those that docs/costs.md counts."""

import json
from pathlib import Path

import pytest

from benchmarks.order_log import RESULTS, measure
from tests.functions.test_log_lines import logged
from tests.support.service import Service

KEPT = json.loads(RESULTS.read_text(encoding="utf-8"))


def test_what_an_order_writes_is_what_costs_are_computed_from(
    service: Service, tmp_path: Path
) -> None:
    with logged(service, tmp_path / "unused"):
        found = measure(service, tmp_path)
    assert found["requests"] == KEPT["requests"]
    assert found["events"]["number"] == KEPT["events"]["number"]
    for part in ("order", "deliveries", "sweep"):
        assert found[part]["lines"] == KEPT[part]["lines"]
        # Ids and times have more or fewer digits.
        assert found[part]["bytes"] == pytest.approx(KEPT[part]["bytes"], rel=0.03)


def test_an_order_writes_a_line_for_each_request_and_one_for_its_approval() -> None:
    assert KEPT["order"]["lines"] == sum(KEPT["requests"].values()) + 1
