"""Both hosts of the load balancer lead each documented path where it belongs."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from common.api_docs.documents import parsed
from infra.local.gateway import function_of
from tests.support.terraform.rules import copied
from tests.support.terraform.terraform import Terraform

# An assertion that fails is how a test of Terraform tells what it has worked out.
TELL = """
mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

run "tell" {
  command = plan

  variables {
    load_balancer = {}
  }

  assert {
    condition     = var.project_id == ""
    error_message = jsonencode({
      for host in google_compute_region_url_map.balancer[0].host_rule :
      one(host.hosts) => one([
        for matcher in google_compute_region_url_map.balancer[0].path_matcher : {
          else  = matcher.default_service
          rules = [
            for rule in matcher.route_rules : {
              priority = rule.priority
              service  = rule.service
              prefixes = compact([for each in rule.match_rules : each.prefix_match])
              templates = compact(
                [for each in rule.match_rules : each.path_template_match]
              )
            }
          ]
          names = {
            for name, each in google_compute_region_backend_service.function :
            each.id => name
          }
        } if matcher.name == host.path_matcher
      ])
    })
  }
}
"""
STATUS = "/api/order-items/{id}/status/"


@pytest.fixture(scope="module")
def hosts(
    terraform: Terraform, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = copied(tmp_path_factory.mktemp("terraform"))
    for path in (folder / "tests").glob("*.tftest.hcl"):
        path.unlink()
    (folder / "tests" / "tell.tftest.hcl").write_text(TELL)
    variables = "-var-file=environments/staging.tfvars"
    said = terraform.run(folder, "test", "-no-color", variables).output
    found = re.findall(r"^\{.*\}$", said, re.MULTILINE)
    assert len(found) == 1, said
    return dict(json.loads(found[0]))


def paths() -> Iterator[tuple[str, str]]:
    """Yield each documented path, and one as it is asked for, in either form."""
    for path in parsed("openapi")["paths"]:
        asked = re.sub(r"\{\w+\}", "7", path)
        yield path, asked
        yield path, asked.removesuffix("/") or "/"


def function_at(host: dict[str, Any], path: str) -> str:
    """Return the function that a host leads a path to, as Google's documents say."""
    for rule in sorted(host["rules"], key=lambda each: each["priority"]):
        patterns = [
            re.escape(each).replace(r"\*\*", ".*").replace(r"\*", "[^/]+")
            for each in rule["templates"]
        ]
        is_matched = any(path.startswith(each) for each in rule["prefixes"])
        if is_matched or any(re.fullmatch(each, path) for each in patterns):
            return str(host["names"][rule["service"]])
    return str(host["names"][host["else"]])


def test_the_gateway_s_host_leads_each_path_to_the_function_that_serves_it(
    hosts: dict[str, Any],
) -> None:
    host = hosts["gateway.orders.internal"]
    for path, asked in paths():
        if path != STATUS and not path.startswith("/health/"):
            assert function_at(host, asked) == function_of(asked), asked
        assert function_at(host, asked) != "item_status"


def test_the_shop_s_host_leads_a_status_to_item_status_and_nothing_else(
    hosts: dict[str, Any],
) -> None:
    host = hosts["shop.orders.internal"]
    for path, asked in paths():
        expected = "item_status" if path == STATUS else "api_docs"
        assert function_at(host, asked) == expected, asked
