"""Limits of bodies, UUIDs in headers and queries, and large bodies."""

import cProfile
import json
import pstats
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from common.domain.commands import ItemPatch, NewItem, NewOrder, OrderPatch, StatusPatch
from common.domain.model import parse_uuid
from common.errors import InvalidRequestError
from common.json import LARGE_BODY_BYTES, _large_body_lock, decode, encode
from tests.support.bodies import USER, VARIATION

LINE = {"product_variation": VARIATION}


def refused(body: object, shape: type[Any]) -> dict[str, list[str]]:
    """Return the errors of a body that must be refused."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(InvalidRequestError) as raised:
        decode(raw, shape)
    return dict(raised.value.errors or {})


QUANTITY = "must be a whole number from 1 to 10000"
KEYS = "must have keys that are text of 1 to 40 characters, without NUL characters"
VALUE = "must be text of at most 500 characters, without NUL characters"


def test_every_error_of_a_body_is_named_by_its_path_in_plain_words() -> None:
    lines = [LINE | {"quantity": 0}, {}, LINE, 7, LINE | {"product_variation": "x"}]
    metadata = {"gift": 1, "a b": "x" * 501, "": "x", "k" * 41: "x", "ok": "x"}
    body = {"user_id": 5, "metadata": metadata, "items": lines, "unknown": [None]}
    assert refused(body, NewOrder) == {
        "user_id": ["must be a UUID or null"],
        "metadata": [KEYS],
        "metadata.gift": [VALUE],
        'metadata["a b"]': [VALUE],
        "items[0].quantity": [QUANTITY],
        "items[1].product_variation": ["is required"],
        "items[3]": ["must be an object"],
        "items[4].product_variation": ["must be a UUID"],
    }
    assert refused({"quantity": "3"}, NewItem) == {
        "order": ["is required"],
        "product_variation": ["is required"],
        "quantity": [QUANTITY],
    }
    body = {"user_id": "x", "is_approved": 1, "metadata": {"a": 1, "b": None}}
    assert refused(body, OrderPatch) == {
        "user_id": ["must be a UUID or null"],
        "is_approved": ["must be true or false"],
        "metadata.a": [f"{VALUE} or null"],
    }
    assert refused({"quantity": 3.0, "status": True}, ItemPatch) == {
        "quantity": [QUANTITY],
        "status": ["must be a whole number from 1 to 4"],
    }


@pytest.mark.parametrize("body", [None, True, 3, "x", [], [{"status": 1}]])
def test_a_body_of_another_kind_must_be_an_object(body: object) -> None:
    raw = json.dumps(body).encode()
    assert refused(raw, StatusPatch) == {"body": ["must be an object"]}


def test_a_container_that_is_too_large_is_named_with_what_is_wrong_in_it() -> None:
    lines = [LINE] * 199 + [LINE | {"quantity": 0}] * 2
    metadata = {f"k{n}": "" for n in range(50)} | {"last": 5}
    assert refused({"items": lines, "metadata": metadata}, NewOrder) == {
        "items": ["must be a list of at most 200 items"],
        "items[199].quantity": [QUANTITY],
        "metadata": ["must be an object with at most 50 keys"],
        "metadata.last": [VALUE],
    }


def test_values_that_json_can_hold_and_a_parser_cannot_are_named_with_the_rest() -> (
    None
):
    body = b'{"quantity": 0, "order": %s, "x": 1e400, "product_variation": 1e400}'
    assert refused(body % (b"9" * 5000), NewItem) == {
        "order": [f"must be a whole number from 1 to {2**63 - 1}"],
        "product_variation": ["must be a UUID"],
        "quantity": [QUANTITY],
    }


def test_a_field_given_twice_is_refused_wherever_the_invalid_value_is() -> None:
    good, bad = b'"quantity": 3', b'"quantity": 0'
    assert refused(b"{%s, %s}" % (good, bad), ItemPatch) == {"quantity": [QUANTITY]}
    twice = ["must not have the same field twice"]
    assert refused(b"{%s, %s}" % (bad, good), ItemPatch) == {"body": twice}
    body = b'{"metadata": {"a": 1, "a": "x"}}'
    assert refused(body, NewOrder) == {"metadata": twice}


def test_at_most_a_hundred_errors_are_named_and_three_summed_up() -> None:
    metadata = {f"k{n}": n for n in range(150)}
    with pytest.raises(InvalidRequestError) as raised:
        decode(encode({"metadata": metadata}).encode(), NewOrder)
    errors = raised.value.errors or {}
    assert len(errors) == 100
    assert raised.value.detail == (
        "metadata: must be an object with at most 50 keys; "
        f"metadata.k0: {VALUE}; metadata.k1: {VALUE}; and 97 more"
    )


@pytest.mark.parametrize("body", [b'{"quantity": 0', b'{"quantity": 0, "x": \xff}'])
def test_broken_json_is_said_to_be_that_whatever_else_is_wrong(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="not valid JSON"):
        decode(body, NewItem)


def calls(body: object) -> int:
    """Return how many calls it takes to say what is wrong with a new order."""
    profile = cProfile.Profile()
    profile.enable()
    refused(body, NewOrder)
    profile.disable()
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


def test_the_work_grows_with_the_body_and_no_faster() -> None:
    def body(count: int) -> object:
        lines = [LINE | {"quantity": 0}] + [{**LINE, "x": 1}] * count
        return {"items": lines, "metadata": {"x": {"y": lines}}}

    calls(body(10))
    assert calls(body(180)) < 25 * calls(body(10))


@pytest.mark.parametrize("value", ["", 5])
@pytest.mark.parametrize("key", ["k{}", "!{}", "{:>050}", "\0{}"])
def test_work_does_not_grow_with_keys_beyond_the_first_hundred(
    key: str, value: object
) -> None:
    def body(count: int) -> object:
        return {"metadata": {key.format(n): value for n in range(count)}}

    calls(body(200))
    assert calls(body(20_000)) < 2 * calls(body(200))


def test_limits_of_metadata_are_within_limits() -> None:
    metadata = {"k" * 40: "x" * 500, "empty": ""}
    body = encode({"metadata": metadata, "items": [LINE] * 200}).encode()
    assert decode(body, NewOrder).metadata == metadata


@pytest.mark.parametrize("text", [USER, USER.upper(), USER.replace("-", "")])
def test_a_uuid_is_read_in_any_case_with_all_dashes_or_none(text: str) -> None:
    assert parse_uuid(text) == UUID(USER)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "x",
        USER[:-1],
        USER + "0",
        f" {USER}",
        f"{USER}\n",
        f"{{{USER}}}",
        f"urn:uuid:{USER}",
        USER.replace("-", "", 1),
        "d0d0d0d-00000-4000-8000-0000000000aa",
        USER.replace("0", "\N{ARABIC-INDIC DIGIT ZERO}"),
        USER[:-1] + "g",
    ],
)
def test_what_only_resembles_a_uuid_is_none(text: str | None) -> None:
    assert parse_uuid(text) is None


def test_large_bodies_are_decoded_one_at_a_time_and_small_ones_meanwhile() -> None:
    large = b'{"status": 2, "x": "%s"}' % (b"x" * LARGE_BODY_BYTES)
    with ThreadPoolExecutor(1) as pool:
        with _large_body_lock:
            waiting = pool.submit(decode, large, StatusPatch)
            assert decode(b'{"status": 2}', StatusPatch).status == 2
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
        assert waiting.result(20).status == 2
