"""The documented guarantees are the suite's, each with its column's mark."""

from tests.contract import guarantees
from tests.contract.guarantees import COLUMNS, GAPS, OPTIONAL, TABLE, promised, table


def test_the_documented_guarantees_are_those_of_the_suite() -> None:
    """Else: python -m tests.contract.guarantees."""
    committed = TABLE.read_text(encoding="utf-8")
    complete = table(guarantees.expected())
    assert committed in (complete, table(guarantees.expected(without=OPTIONAL)))


def test_every_gap_is_one_of_a_guarantee_and_a_destination() -> None:
    assert not [gap for gap in GAPS if gap[0] not in promised()]
    assert {column for _, column in GAPS} <= set(COLUMNS)
