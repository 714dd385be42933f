"""The Idempotency-Key header, and responses that are stored under it."""

import re
from http import HTTPStatus
from uuid import UUID

from flask import Response, request

from common.errors import InvalidRequestError, ServiceError
from common.store.idempotency import Claim, StoredResponse, by_header
from common.web.problems import PROBLEM_JSON, problem
from common.web.replies import json_response

MAX_KEY_LENGTH = 255


def claims(user_id: UUID) -> list[Claim]:
    """Return the claim of the Idempotency-Key header, an empty list without one."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return []
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not re.fullmatch(r"[ -~]+", key):
        rule = f"must be 1 to {MAX_KEY_LENGTH} printable ASCII characters"
        raise InvalidRequestError.of("Idempotency-Key", rule)
    path = request.path.rstrip("/")
    return [by_header(user_id, key, path, request.get_data())]


def to_response(stored: StoredResponse) -> Response:
    """Return the response to send, with a header if it is a replay."""
    replay_headers = {"Idempotency-Replayed": "true"} if stored.is_replayed else {}
    response = json_response(
        stored.body, stored.status, stored.headers | replay_headers
    )
    if stored.status >= HTTPStatus.BAD_REQUEST:
        response.content_type = PROBLEM_JSON
    return response


def to_stored(error: ServiceError) -> StoredResponse:
    """Return the problem document for `error` as a response that can be stored."""
    response = problem(error)
    return StoredResponse(response.status_code, {}, response.get_data(as_text=True))
