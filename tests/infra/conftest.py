"""Terraform with the stand-in provider, one for all tests of a file."""

from collections.abc import Iterator

import pytest

from tests.support.terraform.terraform import Terraform, attached


@pytest.fixture(scope="module")
def terraform() -> Iterator[Terraform]:
    with attached() as found:
        yield found
