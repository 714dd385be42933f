"""Limits of bodies, UUIDs in headers and queries, and large bodies."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from common.domain.commands import NewOrder, StatusPatch
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


def test_a_fault_in_a_key_says_that_it_is_the_key() -> None:
    errors = refused({"metadata": {"k" * 41: "x"}}, NewOrder)
    assert errors == {"metadata": ["key: expected str of length <= 40"]}


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
