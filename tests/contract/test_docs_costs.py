"""docs/costs.md has the figures that its script computes."""

import json
import tomllib
from datetime import date
from pathlib import Path

import pytest

from benchmarks import costs

PRICES = tomllib.loads((costs.HERE / "costs.toml").read_text(encoding="utf-8"))
LIFECYCLE = Path(__file__).parents[2] / "infra" / "cloudbuild" / "lifecycle.json"


def test_the_page_has_the_figures_that_the_script_computes() -> None:
    page = costs.PAGE.read_text(encoding="utf-8")
    assert costs.MARKS.search(page)
    assert costs.with_tables(page) == page


def test_prices_have_a_date_and_their_sources() -> None:
    assert isinstance(PRICES["as_of"], date)
    tables = PRICES.keys() - {"as_of", "assumed", "scenario"}
    assert tables
    for table in tables:
        assert PRICES[table]["sources"], table
        for source in PRICES[table]["sources"]:
            assert source.startswith("https://cloud.google.com/"), table
            assert source.endswith("/pricing"), table


def test_lines_are_not_the_largest_item_of_a_thousand_orders_a_second() -> None:
    busiest = costs.scenarios()["1 000 orders a second"]
    assert busiest.logs(percent=10) < busiest.functions()
    assert busiest.logs() < 0.5 * busiest.logs(
        has_deliveries=True, has_platform_lines=True
    )


@pytest.mark.parametrize("name", ["10 orders a second", "1 000 orders a second"])
def test_steady_traffic_costs_less_by_instance(name: str) -> None:
    found = costs.scenarios()[name]
    assert found.by_instance() < found.by_request()


def test_what_is_idle_costs_less_by_request() -> None:
    found = costs.scenarios()["at rest"]
    assert found.by_request() < found.by_instance()


def test_what_builds_have_copied_is_deleted() -> None:
    rules = json.loads(LIFECYCLE.read_text(encoding="utf-8"))["rule"]
    assert {"age": 7, "matchesPrefix": ["source/"]} in [r["condition"] for r in rules]
