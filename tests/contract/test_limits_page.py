"""docs/limits.md says the numbers that the code has, and those of the server.

Lives here: what each row of its tables must name. Not here: whether a limit holds
(`tests/functions/test_limits_requests.py`).
"""

import re
from pathlib import Path

import pytest
from gunicorn.config import Config

from common import admission, http, limits, paging, prepared, schemas
from common.config import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
GUNICORN = Config()

# The start of a row, and the numbers in it, in their order.
ROWS = {
    "body": [admission.MAX_BODY_BYTES, 32 * 1024 * 1024],
    "body that stalls": [admission.STALL_SECONDS],
    "path": [admission.MAX_PATH_BYTES],
    "query": [admission.MAX_QUERY_BYTES, admission.MAX_PARAMETERS],
    "headers": [admission.MAX_HEADERS, admission.MAX_HEADER_BYTES],
    "headers, beyond that": [
        GUNICORN.limit_request_fields,
        GUNICORN.limit_request_field_size,
    ],
    "request line": [GUNICORN.limit_request_line],
    "`Idempotency-Key`": [http.MAX_KEY_LENGTH],
    "`limit` of a list": [paging.MAX_LIMIT, paging.MOST_LOOKED_AT],
    "lines of an order made by hand": [schemas.MAX_LINES],
    "`metadata`": [schemas.MAX_METADATA_KEYS],
    "numbers in JSON": [schemas.MAX_QUANTITY],
    "wait for a thread": [admission.QUEUE_SECONDS],
    "wait for a lock": [prepared.LOCK_TIMEOUT_SECONDS],
    "a statement": [prepared.STATEMENT_TIMEOUT_SECONDS],
    "calls to siblings": [Settings.upstream_deadline_seconds],
    "an answer that is not fetched": [
        admission.STALL_SECONDS,
        admission.LARGE_ANSWER_BYTES,
    ],
    "`USER_REQUESTS_PER_MINUTE`": [limits.WINDOW_SECONDS],
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_the_page_names_the_limits_that_the_code_has(name: str) -> None:
    [row] = re.findall(rf"^\| {re.escape(name)} \|(.*)$", PAGE, re.MULTILINE)
    told = [int(found.replace(",", "")) for found in re.findall(r"\d[\d,]*", row)]
    for number in ROWS[name]:
        assert number in told, (number, row)


def test_bodies_that_are_decoded_one_at_a_time_are_those_of_the_page() -> None:
    assert f"over {schemas.LARGE_BODY_BYTES:,} bytes are" in PAGE
    assert admission.BLINK_SECONDS == 0.1  # "a tenth of a second"
