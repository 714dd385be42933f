"""Have Terraform say what the Google provider's types are, and keep those in use.

It downloads the provider, which `make terraform` does without.
"""

import json
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from tests.support.terraform.provider import SCHEMA, SOURCE
from tests.support.terraform.terraform import Terraform, TerraformError, attached

CONFIGURATION = Path(__file__).parents[3] / "infra" / "terraform"
Json: TypeAlias = dict[str, Any]

_BLOCK = re.compile(r'^\s*(resource|data)\s+"(google_\w+)"', re.MULTILINE)
_FLAGS = ("required", "optional", "computed", "write_only")
_LIMITS = ("min_items", "max_items")


def types_in(folder: Path) -> set[tuple[str, str]]:
    """Return ("resource" or "data", type) of every block below `folder`."""
    return {
        (kind, name)
        for path in folder.rglob("*.tf")
        for kind, name in _BLOCK.findall(path.read_text(encoding="utf-8"))
    }


def schema_of(terraform: Terraform) -> Json:
    """Return what `terraform providers schema` says; raise TerraformError."""
    version = re.search(
        r"google = \{.*?\}", (CONFIGURATION / "versions.tf").read_text(), re.DOTALL
    )
    assert version
    with tempfile.TemporaryDirectory() as folder:
        needed = f"terraform {{\n required_providers {{\n{version[0]}\n }}\n}}\n"
        Path(folder, "main.tf").write_text(needed, encoding="utf-8")
        for command in (["init"], ["providers", "schema", "-json"]):
            done = terraform.run(Path(folder), *command)
            if done.status:
                raise TerraformError(done.output)
    return dict(json.loads(done.output))


def reduced(said: Json) -> Json:
    """Return the schema of the provider itself and of the configuration's types."""
    whole = said["provider_schemas"][SOURCE]
    provider = _block(whole["provider"]["block"])
    provider["attributes"] = {
        name: each
        for name, each in provider["attributes"].items()
        if not name.endswith("_custom_endpoint")  # of which there are hundreds
    }
    kinds = {"resource": "resource_schemas", "data": "data_source_schemas"}
    return {"provider": provider} | {
        part: {
            name: _block(whole[part][name]["block"])
            for kind, name in sorted(types_in(CONFIGURATION))
            if kinds[kind] == part
        }
        for part in kinds.values()
    }


def _block(block: Json) -> Json:
    found: Json = {
        "attributes": {
            name: {"type": each["type"], **_those(_FLAGS, each)}
            for name, each in sorted(block.get("attributes", {}).items())
        }
    }
    if nested := block.get("block_types"):
        found["blocks"] = {
            name: {
                "nesting": each["nesting_mode"],
                **_those(_LIMITS, each),
                **_block(each["block"]),
            }
            for name, each in sorted(nested.items())
        }
    return found


def _those(names: tuple[str, ...], said: Json) -> Json:
    return {name: said[name] for name in names if said.get(name)}


def formatted(value: object, indent: str = "") -> str:
    """Return JSON with a line for each attribute."""
    is_one = isinstance(value, dict) and not isinstance(value.get("type", {}), dict)
    if is_one or not value or not isinstance(value, dict):
        return json.dumps(value)
    deeper = indent + " "
    lines = (f"{json.dumps(k)}: {formatted(v, deeper)}" for k, v in value.items())
    return "{\n" + ",\n".join(deeper + line for line in lines) + f"\n{indent}}}"


if __name__ == "__main__":
    with attached() as found:
        own = dict(found.environment)
        own.pop("TF_REATTACH_PROVIDERS")  # the stand-in
        schema = reduced(schema_of(replace(found, environment=own)))
    SCHEMA.write_text(formatted(schema) + "\n", encoding="utf-8")
