"""Bodies that are no JSON, no object, too large, too deep, or of another type."""

import gzip
import io
from typing import Any

import pytest

from tests.support.observed import nothing_written, problem
from tests.support.service import Service, new_user
from tests.support.shared import service_of_file
from tests.support.writes import WRITES, Write

service = pytest.fixture(service_of_file, scope="module")

MIB = 1024 * 1024
USER = new_user()

BROKEN: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n",
    "cut off": b'{"quantity": 1',
    "no quotes": b"{quantity: 1}",
    "single quotes": b"{'quantity': 1}",
    "trailing comma": b'{"quantity": 1,}',
    "two values": b"{} {}",
    "comment": b"{/* hello */}",
    "NaN": b'{"quantity": NaN}',
    "leading zero": b'{"quantity": 01}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"quantity": 1}'.encode("utf-16"),
    "invalid UTF-8": b'{"metadata": {"a": "\xff"}}',
    "invalid UTF-8 in a key": b'{"metadata": {"\xc3\x28": "a"}}',
    "surrogate in UTF-8": b'{"metadata": {"a": "\xed\xa0\x80"}}',
    "NUL byte": b'{"quantity":\x00 1}',
    "raw NUL in a string": b'{"metadata": {"a": "\x00"}}',
    "form": b"quantity=1",
    "deep": b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"x":' * 50_000 + b"1" + b"}" * 50_000,
    "deep and cut off": b"[" * 500_000,
}
# Valid JSON by its grammar, and nothing that UTF-8 or PostgreSQL could hold.
SURROGATES = [
    *('{"a": "\\ud800"}', '{"a": "\\udc00 b"}', '{"a": "\\udc00\\ud800"}'),
    *('{"a": "\\ud83d\\u0041"}', '{"\\ud800": "a"}', '{"a\\udfff": null}'),
]
NO_OBJECT = [b"null", b"true", b"3", b"3.5", b'"x"', b"[]", b"[{}]", b"1e400"]
MEDIA_TYPES = [
    *(None, "", "text/plain", "text/json", "application/x-www-form-urlencoded"),
    *("multipart/form-data; boundary=x", "application/xml", "application/jsonx"),
    *("json", "é"),
]


@pytest.fixture(scope="module")
def order(service: Service) -> dict[str, Any]:
    return service.ordered(USER, 2, 1)


@pytest.fixture(params=WRITES.values(), ids=WRITES)
def write(request: pytest.FixtureRequest) -> Write:
    found: Write = request.param
    return found


def test_broken_json_400(service: Service, order: dict[str, Any], write: Write) -> None:
    with nothing_written(service):
        for why, body in BROKEN.items():
            response = write.send(service, USER, order, body)
            assert response.status_code == 400, why
            assert problem(response, 400, "invalid-request")["detail"], why


@pytest.mark.parametrize("name", ["POST an order", "PATCH an order"])
def test_lone_surrogates_are_400_and_nothing_is_written(
    service: Service, order: dict[str, Any], name: str
) -> None:
    with nothing_written(service):
        for metadata in SURROGATES:
            body = WRITES[name].body(order, {"metadata": metadata})
            response = WRITES[name].send(service, USER, order, body)
            assert response.status_code == 400, metadata
            problem(response, 400, "invalid-request")


def test_what_is_no_object_is_400_and_nothing_is_written(
    service: Service, order: dict[str, Any], write: Write
) -> None:
    with nothing_written(service):
        for body in NO_OBJECT:
            response = write.send(service, USER, order, body)
            assert response.status_code == 400, body
            problem(response, 400, "invalid-request")


def test_another_media_type_is_415_and_nothing_is_written(
    service: Service, order: dict[str, Any], write: Write
) -> None:
    path = write.path.format(order=order["id"], item=order["items"][0]["id"])
    with nothing_written(service):
        for media_type in MEDIA_TYPES:
            headers = {} if media_type is None else {"Content-Type": media_type}
            response = service.call(
                write.function,
                write.method,
                path,
                user=USER,
                data=write.body(order),
                headers=headers,
            )
            assert response.status_code == 415, media_type
            problem(response, 415, "unsupported-media-type")


CODINGS = ["gzip", "GZip", " br ", "identity, gzip", "gzip,identity", "x-gzip", "*"]


def test_compressed_body_is_415_and_nothing_is_written(
    service: Service, order: dict[str, Any], write: Write
) -> None:
    compressed = gzip.compress(write.body(order).encode())
    with nothing_written(service):
        for coding in CODINGS:
            for body in (compressed, write.body(order)):
                headers = {"Content-Encoding": coding}
                response = write.send(service, USER, order, body, **headers)
                problem(response, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "coding", ["identity", " IDENTITY ", "identity, identity", "Identity,", "", " ,"]
)
def test_identity_is_no_coding(service: Service, user: str, coding: str) -> None:
    headers = {"Content-Encoding": coding}
    response = service.crud("POST", "/api/orders/", user, json={}, headers=headers)
    assert response.status_code == 201


@pytest.mark.parametrize("size", [MIB + 1, 2 * MIB])
def test_a_body_over_1_mib_is_413_and_nothing_is_written(
    service: Service, order: dict[str, Any], write: Write, size: int
) -> None:
    with nothing_written(service):
        body = write.body(order, {"x": '"%s"'})
        response = write.send(
            service, USER, order, body % ("a" * (size - len(body) + 2))
        )
        assert response.request.content_length == size
        problem(response, 413, "body-too-large")


def test_a_chunked_body_over_1_mib_is_413_and_nothing_is_written(
    service: Service, order: dict[str, Any], write: Write
) -> None:
    path = write.path.format(order=order["id"], item=order["items"][0]["id"])
    body = write.body(order, {"x": '"' + "a" * 2 * MIB + '"'})
    with nothing_written(service):
        response = service.call(
            write.function,
            write.method,
            path,
            user=USER,
            input_stream=io.BytesIO(body.encode()),
            content_type="application/json",
            environ_overrides={
                "wsgi.input_terminated": True,
                "HTTP_TRANSFER_ENCODING": "chunked",
            },
        )
        problem(response, 413, "body-too-large")


def test_unread_body_is_413_as_well(service: Service, order: dict[str, Any]) -> None:
    with nothing_written(service):
        for method, path in (
            ("DELETE", f"/api/orders/{order['id']}/"),
            ("DELETE", f"/api/order-items/{order['items'][0]['id']}/"),
            ("GET", "/api/orders/"),
        ):
            response = service.crud(method, path, USER, data=b"a" * 2 * MIB)
            problem(response, 413, "body-too-large")


def test_a_body_of_exactly_1_mib_is_read(service: Service, user: str) -> None:
    body = '{"x":"%s"}'
    body %= "a" * (MIB - len(body) + 2)
    assert len(body) == MIB
    response = service.crud(
        "POST", "/api/orders/", user, data=body, content_type="application/json"
    )
    assert response.status_code == 201


@pytest.mark.parametrize(
    "media_type",
    [
        *("application/json", "APPLICATION/JSON", "application/json; charset=utf-8"),
        *("application/json;charset=UTF-8;x=y", "application/merge-patch+json"),
        "application/vnd.api+json",
    ],
)
def test_media_types_of_json_work(service: Service, user: str, media_type: str) -> None:
    headers = {"Content-Type": media_type}
    response = service.crud("POST", "/api/orders/", user, data="{}", headers=headers)
    assert response.status_code == 201


def test_unknown_members_are_ignored(service: Service, user: str) -> None:
    for text in ("null", "1e400", "9" * 5000, '"\\u0000"', "[[[{}]]]", "-0"):
        body = f'{{"unknown": {text}}}'
        response = service.crud(
            "POST", "/api/orders/", user, data=body, content_type="application/json"
        )
        assert response.status_code == 201, text
