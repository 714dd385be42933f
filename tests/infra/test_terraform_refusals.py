"""What an environment must not ask for is refused at the plan, in words that help."""

from pathlib import Path

import pytest

from tests.support.mutants import Change
from tests.support.terraform.rules import copied
from tests.support.terraform.terraform import Terraform

PRODUCTION = "environments/production.tfvars"
SECRET = '{ RABBITMQ_PASS = "hare" }'
ALERTS = 'alert_emails = ["oncall@example.com"]'
REFUSED: dict[str, tuple[Change, str]] = {
    "production without anybody who hears of alerts": (
        (PRODUCTION, '["oncall@example.com"]', "[]"),
        "alert_emails names nobody: in production somebody must hear of alerts.",
    ),
    "a setting that has a variable of its own": (
        (PRODUCTION, ALERTS, f'{ALERTS}\nsettings = {{ LOG_LEVEL = "DEBUG" }}'),
        "settings names what has a variable of its own, or is a secret: LOG_LEVEL.",
    ),
    "a secret as a setting of one function": (
        (
            PRODUCTION,
            ALERTS,
            f"{ALERTS}\nfunction_settings = {{ item_status = {SECRET} }}",
        ),
        "function_settings names what has a variable of its own, or is a secret.",
    ),
    "a setting of a process that there is none of": (
        (PRODUCTION, ALERTS, f"{ALERTS}\nfunction_settings = {{ orders = {{}} }}"),
        "function_settings names a process that there is none of.",
    ),
    "a collector by a tag that moves": (
        (PRODUCTION, ALERTS, f'{ALERTS}\ncollector = "example.dev/otelcol:latest"'),
        "collector is an image by its digest, or by a tag that is a version.",
    ),
}


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused(
    terraform: Terraform, tmp_path: Path, change: Change, words: str
) -> None:
    folder = copied(tmp_path, change)
    chosen = ["-filter=tests/choices.tftest.hcl", f"-var-file={PRODUCTION}"]
    done = terraform.run(folder, "test", "-no-color", *chosen)
    assert done.status
    assert words in " ".join(done.output.replace("│", " ").split())


def test_staging_may_have_nobody_who_hears_of_alerts() -> None:
    text = (
        Path(__file__).parents[2] / "infra/terraform/environments/staging.tfvars"
    ).read_text()
    assert "alert_emails" not in text  # and every rule holds for it
