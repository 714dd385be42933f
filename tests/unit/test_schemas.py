"""What requests may contain: exact types, bounds, and errors that name the field."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from msgspec import UNSET

from common import schemas
from common.errors import InvalidRequestError
from common.schemas import (
    MAX_ID,
    ItemPatch,
    NewItem,
    NewOrder,
    OrderPatch,
    StatusPatch,
    check_metadata,
    decode,
    encode,
    parse_uuid,
)
from tests.support.bodies import USER, VARIATION
from tests.support.factories import OWNER, item, order

NO_INTS = ["3", True, False, 3.0, 3.5, None, [3], {"3": 3}, ""]
LINE = {"product_variation": VARIATION}


def refused(body: object, shape: type[Any]) -> dict[str, list[str]]:
    """Answer what is said about a body that must be refused."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(InvalidRequestError) as raised:
        decode(raw, shape)
    return dict(raised.value.errors or {})


# Bodies that are no JSON.


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{'status': 1}",
        b'{"status": 1} x',
        b'{"status": 1,}',
        b"\xff\xfe",
        b'\xef\xbb\xbf{"status": 1}',
        b'{"status": 1, "note": "\\ud800"}',
        b'{"status": NaN}',
        b'{"note": ' + b"[" * 100_000 + b"}",
    ],
    ids=lambda body: body[:20],
)
def test_a_body_that_is_no_json_says_so(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="not valid JSON") as raised:
        decode(body, StatusPatch)
    assert raised.value.errors is None


@pytest.mark.parametrize("body", [[], "x", 1, None])
@pytest.mark.parametrize("shape", [StatusPatch, NewOrder, NewItem, OrderPatch])
def test_a_body_that_is_no_object_is_named_body(body: object, shape: Any) -> None:
    assert list(refused(body, shape)) == ["body"]


# Exact types and bounds.


@pytest.mark.parametrize("value", NO_INTS)
def test_a_status_is_a_real_json_int(value: object) -> None:
    [rule] = refused({"status": value}, StatusPatch)["status"]
    assert rule.startswith("expected int, got ")


@pytest.mark.parametrize("value", [0, -1, 5, 2**63, 10**30])
def test_a_status_is_one_to_four(value: int) -> None:
    assert list(refused({"status": value}, StatusPatch)) == ["status"]


@pytest.mark.parametrize("value", [1, 2, 3, 4])
def test_every_status_is_accepted(value: int) -> None:
    assert decode(encode({"status": value}).encode(), StatusPatch).status == value


@pytest.mark.parametrize("value", [*NO_INTS, 0, -1, 10_001, 2**63, 10**30])
@pytest.mark.parametrize(
    ("shape", "place", "field"),
    [
        (ItemPatch, lambda value: {"quantity": value}, "quantity"),
        (NewItem, lambda value: {"order": 4, **LINE, "quantity": value}, "quantity"),
        (
            NewOrder,
            lambda value: {"items": [LINE, {**LINE, "quantity": value}]},
            "items[1].quantity",
        ),
    ],
    ids=["change", "new item", "new order"],
)
def test_a_quantity_is_an_int_from_1_to_10_000_everywhere(
    shape: type[Any], place: Any, field: str, value: object
) -> None:
    assert list(refused(place(value), shape)) == [field]


@pytest.mark.parametrize("value", [1, 10_000])
def test_a_quantity_may_be_1_or_10_000(value: int) -> None:
    assert decode(encode({"quantity": value}).encode(), ItemPatch).quantity == value


def test_a_quantity_is_1_where_none_is_given() -> None:
    assert decode(encode({"order": 4, **LINE}).encode(), NewItem).quantity == 1


@pytest.mark.parametrize("value", [*NO_INTS, 0, -1, MAX_ID + 1, 10**30])
def test_an_order_id_is_a_positive_int_of_64_bits(value: object) -> None:
    assert list(refused({"order": value, **LINE}, NewItem)) == ["order"]


def test_the_highest_id_is_accepted() -> None:
    assert decode(encode({"order": MAX_ID, **LINE}).encode(), NewItem).order == MAX_ID


@pytest.mark.parametrize("value", ["", "x", 5, None, True, [], VARIATION[:-1]])
def test_a_variation_is_a_uuid(value: object) -> None:
    body = {"order": 4, "product_variation": value}
    assert list(refused(body, NewItem)) == ["product_variation"]


@pytest.mark.parametrize(
    ("body", "shape", "field"),
    [
        ({}, StatusPatch, "status"),
        ({"order": 4}, NewItem, "product_variation"),
        (LINE, NewItem, "order"),
        ({"items": [LINE, {}]}, NewOrder, "items[1].product_variation"),
    ],
)
def test_a_missing_field_is_named_itself(body: object, shape: Any, field: str) -> None:
    assert refused(body, shape) == {field: ["is required"]}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"items": {}}, "items"),
        ({"items": None}, "items"),
        ({"items": [LINE] * 201}, "items"),
        ({"items": [5]}, "items[0]"),
        ({"user_id": "me"}, "user_id"),
        ({"metadata": None}, "metadata"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata[...]"),
        ({"metadata": {"a": None}}, "metadata[...]"),
        ({"metadata": {"a": {"b": "c"}}}, "metadata[...]"),
        ({"metadata": {"a": "x" * 501}}, "metadata[...]"),
        ({"metadata": {"": "x"}}, "metadata"),
        ({"metadata": {"k" * 41: "x"}}, "metadata"),
    ],
)
def test_a_new_orders_fault_is_named(body: object, field: str) -> None:
    assert list(refused(body, NewOrder)) == [field]


def test_a_fault_in_a_key_says_that_it_is_the_key() -> None:
    said = refused({"metadata": {"k" * 41: "x"}}, NewOrder)
    assert said == {"metadata": ["key: expected str of length <= 40"]}


def test_limits_of_metadata_are_within_limits() -> None:
    metadata = {"k" * 40: "x" * 500, "empty": ""}
    body = encode({"metadata": metadata, "items": [LINE] * 200}).encode()
    assert decode(body, NewOrder).metadata == metadata


@pytest.mark.parametrize("value", ["true", 1, 0, None, []])
def test_an_approval_is_asked_for_with_a_real_bool(value: object) -> None:
    assert list(refused({"is_approved": value}, OrderPatch)) == ["is_approved"]


# What is let through.


@pytest.mark.parametrize("shape", [NewOrder, OrderPatch, ItemPatch])
def test_unknown_and_read_only_fields_are_ignored(shape: type[Any]) -> None:
    body = {"id": "x", "created_at": 5, "extra": {"a": [1]}}
    assert decode(encode(body).encode(), shape) == shape()


def test_absent_is_told_apart_from_null() -> None:
    absent = decode(b"{}", OrderPatch)
    null = decode(b'{"metadata": null, "user_id": null}', OrderPatch)
    assert (absent.metadata, absent.user_id) == (UNSET, UNSET)
    assert (null.metadata, null.user_id) == (None, None)


def test_a_merge_patch_may_hold_nulls() -> None:
    patch = decode(b'{"metadata": {"a": null, "b": "x"}}', OrderPatch)
    assert patch.metadata == {"a": None, "b": "x"}


def test_uuids_are_taken_in_any_case() -> None:
    assert decode(encode({"user_id": USER.upper()}).encode(), NewOrder).user_id == OWNER


# Metadata beyond what a shape can say.


@pytest.mark.parametrize("metadata", [{"a\x00": "x"}, {"a": "x\x00"}])
def test_nul_characters_are_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(InvalidRequestError, match=r"^metadata: must not contain NUL"):
        check_metadata(metadata)


def test_more_than_fifty_keys_are_refused() -> None:
    check_metadata({f"k{n}": "" for n in range(50)})
    with pytest.raises(InvalidRequestError, match="at most 50 keys"):
        check_metadata({f"k{n}": "" for n in range(51)})


# Replies.


def test_an_order_is_told_to_the_letter() -> None:
    told = encode(order(item(product_id=None, shop_id=None), metadata={"a": "é"}))
    assert told == (
        f'{{"id":4,"user_id":"{USER}","created_at":"2025-12-01T10:00:00.058493Z",'
        '"is_approved":false,"metadata":{"a":"é"},"items":['
        '{"id":9,"order":4,"status":1,"quantity":2,'
        f'"product_variation":"{VARIATION}","product_id":null,"shop_id":null,'
        '"price":1999}]}'
    )


# UUIDs in headers and queries.


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
    large = b'{"status": 2, "x": "%s"}' % (b"x" * schemas.LARGE_BODY_BYTES)
    with ThreadPoolExecutor(1) as pool:
        with schemas._one_large_body:
            waiting = pool.submit(decode, large, StatusPatch)
            assert decode(b'{"status": 2}', StatusPatch).status == 2
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
        assert waiting.result(20).status == 2
