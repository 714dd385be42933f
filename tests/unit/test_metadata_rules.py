"""Metadata: JSON merge patch, its limits, and what a patch leaves alone."""

import pytest

from common.errors import InvalidRequestError
from common.orders import set_metadata
from common.schemas import MAX_METADATA_KEYS
from tests.support.factories import NOW, OWNER, snapshot

FULL = {f"k{n}": "x" for n in range(MAX_METADATA_KEYS)}


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        ({}, {"a": "1"}, {"a": "1"}),
        ({"a": "1"}, {"b": "2"}, {"a": "1", "b": "2"}),
        ({"a": "1"}, {"a": "2"}, {"a": "2"}),
        ({"a": "1", "b": "2"}, {"a": None}, {"b": "2"}),
        ({"a": "1", "b": "2"}, {"a": None, "c": "3"}, {"b": "2", "c": "3"}),
        ({"a": "1"}, {"a": ""}, {"a": ""}),
        ({"a": "1"}, None, {}),
    ],
)
def test_a_patch_is_merged(
    before: dict[str, str], patch: dict[str, str | None] | None, after: dict[str, str]
) -> None:
    change = set_metadata(snapshot(metadata=before), patch, OWNER)
    assert change is not None
    assert change.order.metadata == after


@pytest.mark.parametrize("patch", [{}, {"a": "1"}, {"b": None}])
def test_a_patch_that_changes_nothing_is_no_change(
    patch: dict[str, str | None],
) -> None:
    assert set_metadata(snapshot(metadata={"a": "1"}), patch, OWNER) is None


def test_null_for_no_metadata_is_no_change() -> None:
    assert set_metadata(snapshot(), None, OWNER) is None


def test_a_patch_changes_the_metadata_and_nothing_else() -> None:
    before = snapshot(3, 4)
    change = set_metadata(before, {"a": "1"}, OWNER)
    assert change is not None
    assert (change.version, change.at, change.actor) == (7, NOW, OWNER)
    assert (change.history, change.changed) == ([], [])
    assert change.is_complete is True
    assert before == snapshot(3, 4)


def test_fifty_keys_are_the_most_that_a_merge_may_leave() -> None:
    with pytest.raises(InvalidRequestError) as raised:
        set_metadata(snapshot(metadata=FULL), {"one more": "x"}, OWNER)
    assert raised.value.errors == {"metadata": ["at most 50 keys"]}


def test_a_full_order_can_swap_one_key_for_another() -> None:
    change = set_metadata(snapshot(metadata=FULL), {"k0": None, "new": "x"}, OWNER)
    assert change is not None
    assert len(change.order.metadata) == MAX_METADATA_KEYS


@pytest.mark.parametrize("patch", [{"a\x00": "1"}, {"a": "\x00"}])
def test_what_postgresql_cannot_store_is_refused(patch: dict[str, str | None]) -> None:
    with pytest.raises(InvalidRequestError, match="NUL"):
        set_metadata(snapshot(), patch, OWNER)


def test_a_key_that_cannot_be_there_can_be_removed() -> None:
    assert set_metadata(snapshot(), {"a\x00": None}, OWNER) is None
