"""What `make mutants` tries fits the project as it is."""

import pytest

from tests.support import mutants
from tests.support.mutants import Change

TESTS = {
    test: changes
    for tests in mutants.parsed(mutants.LIST.read_text(encoding="utf-8")).values()
    for test, changes in tests.items()
}


@pytest.mark.parametrize(("test", "changes"), TESTS.items(), ids=TESTS)
def test_what_a_mutant_changes_is_there_once(test: str, changes: list[Change]) -> None:
    assert (mutants.ROOT / test.split(maxsplit=1)[0]).is_file()
    assert changes
    for place, old, new in changes:
        text = (mutants.ROOT / place).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{place}: {old}"
        assert old != new
