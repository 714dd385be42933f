"""Ids in paths, methods, keys and other headers that make no sense."""

from typing import Any

import pytest

from tests.support.observed import everything, problem, refused_field
from tests.support.service import Service, new_user
from tests.support.shared import service_of_file
from tests.support.writes import WRITES

service = pytest.fixture(service_of_file, scope="module")

USER = new_user()
# What follows /api/orders/ and /api/order-items/ and is nobody's id.
IDS = [
    *("0", "00", str(2**63 - 1), str(2**63), str(2**64 + 1), "9" * 19, "9" * 400, "-1"),
    *("+1", "1.0", "1e0", "0x1", "1_0", "1%20", "%31%00", "%00", "%D9%A1", "%EF%BC%91"),
    *("%ff", "null", "undefined", "None", "NaN", "1'--", "1;DROP", "*", "%2e%2e"),
]
KEYS = ["", "a" * 256, "é", "a\tb", "a\x7fb", "ключ", "\x00", "a\x01"]


@pytest.fixture(scope="module")
def order(service: Service) -> dict[str, Any]:
    return service.ordered(USER, 2, 1)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/orders/{}/", None),
        ("GET", "/api/orders/{}/timeline/", None),
        ("PATCH", "/api/orders/{}/", {"metadata": {"a": "1"}}),
        ("DELETE", "/api/orders/{}/", None),
        ("GET", "/api/order-items/{}/", None),
        ("PATCH", "/api/order-items/{}/", {"quantity": 3}),
        ("DELETE", "/api/order-items/{}/", None),
        ("PATCH", "/api/order-items/{}/status/", {"status": 2}),
    ],
)
def test_an_id_that_nobody_can_have_is_404_and_nothing_is_written(
    service: Service,
    order: dict[str, Any],
    method: str,
    path: str,
    body: dict[str, Any] | None,
) -> None:
    assert order["id"] == 1
    before = everything(service)
    function = "item_status" if "status" in path else "orders_crud"
    kwargs = {} if body is None else {"json": body}
    for item_id in IDS:
        response = service.call(
            function, method, path.format(item_id), user=USER, **kwargs
        )
        assert response.status_code == 404, item_id
        problem(response, 404, "not-found")
    assert everything(service) == before


@pytest.mark.parametrize("name", ["POST an order", "POST an item"])
def test_a_malformed_idempotency_key_is_a_400_that_names_it(
    service: Service, order: dict[str, Any], name: str
) -> None:
    write = WRITES[name]
    before = everything(service)
    for key in KEYS:
        response = write.send(
            service, USER, order, write.body(order), Idempotency_Key=_on_the_wire(key)
        )
        assert response.status_code == 400, key
        refused_field(response, "Idempotency-Key")
    assert everything(service) == before


def _on_the_wire(text: str) -> str:
    """Answer the text as WSGI servers hand on bytes that are not ASCII."""
    return text.encode().decode("latin-1")


def test_headers_that_make_no_sense_do_no_harm(
    service: Service, order: dict[str, Any]
) -> None:
    odd = {
        "traceparent": "é" * 1000,
        "X-Forwarded-Prefix": "\x01",
        "X-Shop-ID": "' OR 1=1",
        "Accept": "image/png",
        "Accept-Encoding": "\x7f",
        "Range": "bytes=0-1",
        "Expect": "the unexpected",
        "Cookie": "=;=;\x01",
        "Forwarded": 'for="_gazonk',
        "If-Modified-Since": "yesterday",
        "If-Unmodified-Since": "tomorrow",
    }
    path = f"/api/orders/{order['id']}/"
    for name, value in odd.items():
        response = service.crud("GET", path, USER, headers={name: value})
        assert (response.status_code, response.get_json()) == (200, order), name


def test_a_query_string_on_a_write_is_ignored(
    service: Service, order: dict[str, Any]
) -> None:
    path = f"/api/orders/{order['id']}/?limit=x&cursor=%00&%ff=%ff"
    response = service.crud("PATCH", path, USER, json={})
    assert (response.status_code, response.get_json()) == (200, order)
