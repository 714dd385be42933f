"""Rules of the Terraform configuration, and copies of it that break them.

A rule is identified by its exact message.
"""

import json
import re
import shutil
from pathlib import Path

from tests.support.mutants import Change
from tests.support.terraform.terraform import Terraform

CONFIGURATION = Path(__file__).parents[3] / "infra" / "terraform"
_MESSAGE = re.compile(r'^\s*error_message = "((?:[^"\\]|\\.)*)"$', re.MULTILINE)
_SAID_BY_RULES = {"Test assertion failed", "Resource precondition failed"}


def rules(topic: str) -> list[str]:
    """Return the message of each rule in the file on that topic."""
    path = CONFIGURATION / "tests" / f"{topic}.tftest.hcl"
    return _MESSAGE.findall(path.read_text(encoding="utf-8"))


def copied(folder: Path, change: Change | None = None) -> Path:
    """Return a copy of the configuration in `folder`, with that change.

    Its file may be FILE#TYPE.NAME, a resource in it.
    """
    target = folder / "terraform"
    shutil.copytree(CONFIGURATION, target, ignore=shutil.ignore_patterns(".terraform*"))
    if change:
        place, old, new = change
        name, _, resource = place.partition("#")
        text = (target / name).read_text(encoding="utf-8")
        part = text
        if resource:
            kind, label = resource.split(".")
            start = text.index(f'resource "{kind}" "{label}" {{\n')
            part = text[start : text.index("\n}\n", start) + 3]
        assert part.count(old) == 1, f"{place} has {part.count(old)} times: {old}"
        changed = text.replace(part, part.replace(old, new))
        (target / name).write_text(changed, encoding="utf-8")
    return target


def failed(
    terraform: Terraform, folder: Path, topic: str, environment: str = "production"
) -> list[str]:
    """Return the messages of the rules on `topic` (* for all) that fail.

    Whatever else goes wrong is an assertion here.
    """
    chosen = [] if topic == "*" else [f"-filter=tests/{topic}.tftest.hcl"]
    variables = f"-var-file=environments/{environment}.tfvars"
    done = terraform.run(folder, "test", "-json", *chosen, variables)
    said = [json.loads(line) for line in done.output.splitlines()]
    problems = [each["diagnostic"] for each in said if "diagnostic" in each]
    errors = [each for each in problems if each["severity"] == "error"]
    other = [each for each in errors if each["summary"] not in _SAID_BY_RULES]
    assert not other, other
    assert bool(errors) == bool(done.status), done.output
    return [each["detail"] for each in errors]
