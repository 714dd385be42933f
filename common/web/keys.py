"""POSTs that may be repeated: keys that come in, and answers that are kept."""

import re
from http import HTTPStatus
from uuid import UUID

from flask import Response, request

from common.errors import (
    InvalidRequestError,
    ServiceError,
)
from common.store.idempotency import Claim, StoredResponse, by_header
from common.web.problems import PROBLEM_JSON, problem
from common.web.replies import json_response

MAX_KEY_LENGTH = 255


def claims(user_id: UUID) -> list[Claim]:
    """Return the claim of the Idempotency-Key header, none where there is no header."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return []
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not re.fullmatch(r"[ -~]+", key):
        rule = f"1 to {MAX_KEY_LENGTH} printable ASCII characters"
        raise InvalidRequestError.of("Idempotency-Key", rule)
    path = request.path.rstrip("/")
    return [by_header(user_id, key, path, request.get_data())]


def answer(given: StoredResponse) -> Response:
    """Return a POST, marked as replayed where it is."""
    replayed = {"Idempotency-Replayed": "true"} if given.is_replayed else {}
    response = json_response(given.body, given.status, given.headers | replayed)
    if given.status >= HTTPStatus.BAD_REQUEST:
        response.content_type = PROBLEM_JSON
    return response


def refusal(error: ServiceError) -> StoredResponse:
    """Return the problem that tells of `error` as an answer that can be kept."""
    response = problem(error)
    return StoredResponse(response.status_code, {}, response.get_data(as_text=True))
