"""Members, ids, keys and headers that are wrong, out of bounds, or not to be stored."""

import json
from typing import Any

import pytest

from infra.local.gateway import function_of
from tests.support.access import BODIES
from tests.support.documented import about_one
from tests.support.observed import nothing_written, problem, refused_field
from tests.support.service import Service, new_user
from tests.support.shared import service_of_file
from tests.support.writes import WRITES

service = pytest.fixture(service_of_file, scope="module")

USER = new_user()

# As JSON texts: a JSON library would not write some of them.
NO_INT = [
    *("true", "false", '"3"', '""', "3.0", "3e0", "3.5", "1e400", "null", "[]", "[3]"),
    *("{}", '{"3": 3}'),
]

TOO_LARGE = [str(2**63), str(2**64), "9" * 40, "9" * 5000, "-" + "9" * 40]

QUANTITIES = [*NO_INT, *TOO_LARGE, "0", "-0", "-1", "10001"]

IDS = [*NO_INT, *TOO_LARGE, "0", "-1"]

NO_BOOL = ["1", "0", '"true"', "null", "[]", "{}", "1.0"]

NO_UUID = [
    *("true", "7", "[]", "{}", '""', '"x"', f'"{USER[:-1]}"', f'"{USER}0"'),
    *(f'"{{{USER}}}"', f'"urn:uuid:{USER}"', '"\\u0000"', f'"{USER[:-1]}\\u0000"'),
    *('"' + "0" * 5000 + '"', '"é"'),
]

KEY, VALUE = "k" * 41, "v" * 501

NO_METADATA = [
    "7",
    "true",
    '"x"',
    "[]",
    '["a"]',
    '{"a": 1}',
    '{"a": true}',
    '{"a": 1.5}',
    '{"a": []}',
    '{"a": {}}',
    '{"a": {"b": "c"}}',
    '{"": "x"}',
    f'{{"{KEY}": "x"}}',
    f'{{"a": "{VALUE}"}}',
    '{"a": "\\u0000"}',
    '{"a": "x\\u0000y"}',
    '{"a\\u0000": "x"}',
    '{"a\\u0000": null}',
    '{"\\u0000": ""}',
    json.dumps({f"k{n}": "v" for n in range(51)}),
]

PATCHED = [f'{{"{KEY}": null}}', '{"": null}']

LINE = '{"product_variation": "%s", "quantity": 1}' % new_user()  # noqa: UP031 braces


def lines(name: str, texts: list[str]) -> list[str]:
    """Return lists of lines of which the second has a bad member."""
    good = {"product_variation": json.dumps(new_user()), "quantity": "1"}
    bad = [
        ", ".join(f'"{k}": {v}' for k, v in (good | {name: text}).items())
        for text in texts
    ]
    return [f"[{LINE}, {{{members}}}]" for members in bad]


FIELDS: list[tuple[str, str, list[str]]] = [
    ("POST an order", "user_id", NO_UUID),
    ("POST an order", "metadata", [*NO_METADATA, "null", '{"a": null}']),
    (
        "POST an order",
        "items",
        [
            "null",
            "7",
            "{}",
            '"x"',
            "[7]",
            "[null]",
            "[[]]",
            "[{}]",
            '[{"quantity": 1}]',
            *lines("quantity", QUANTITIES),
            *lines("product_variation", [*NO_UUID, "null"]),
        ],
    ),
    ("PATCH an order", "user_id", NO_UUID),
    ("PATCH an order", "is_approved", NO_BOOL),
    ("PATCH an order", "metadata", [*NO_METADATA, *PATCHED]),
    ("POST an item", "order", IDS),
    ("POST an item", "product_variation", [*NO_UUID, "null"]),
    ("POST an item", "quantity", QUANTITIES),
    ("PATCH an item", "quantity", QUANTITIES),
    ("PATCH an item", "status", [*NO_INT, *TOO_LARGE, "0", "5", "-1"]),
    ("move an item", "status", [*NO_INT, *TOO_LARGE, "0", "5", "-1"]),
]


@pytest.fixture(scope="module")
def order(service: Service) -> dict[str, Any]:
    return service.ordered(USER, 2, 1)


@pytest.mark.parametrize(
    ("name", "field", "texts"), FIELDS, ids=[f"{n}: {f}" for n, f, _ in FIELDS]
)
def test_a_bad_member_is_a_400_that_names_it_and_nothing_is_written(
    service: Service, order: dict[str, Any], name: str, field: str, texts: list[str]
) -> None:
    write = WRITES[name]
    with nothing_written(service):
        for text in texts:
            body = write.body(order, {field: text})
            response = write.send(service, USER, order, body)
            assert response.status_code == 400, body[:200]
            refused_field(response, field)


@pytest.mark.parametrize("name", WRITES)
def test_valid_bodies_before_they_are_spoiled(service: Service, name: str) -> None:
    user = new_user()
    order = service.ordered(user, 2)
    write = WRITES[name]
    response = write.send(service, user, order, write.body(order))
    assert response.status_code in (200, 201), response.get_data(as_text=True)


def test_bad_line_is_named_by_place(service: Service, order: dict[str, Any]) -> None:
    write = WRITES["POST an order"]
    for name, text in (("quantity", "0"), ("product_variation", '"x"')):
        [body] = lines(name, [text])
        response = write.send(service, USER, order, write.body(order, {"items": body}))
        assert set(response.get_json()["errors"]) == {f"items[1].{name}"}


def test_all_bad_members_are_named(service: Service, order: dict[str, Any]) -> None:
    items = lines("quantity", ["0"])[0][:-1] + ', {"quantity": 2}]'
    texts = {"user_id": '"x"', "metadata": '{"a": 5}', "items": items}
    write = WRITES["POST an order"]
    with nothing_written(service):
        response = write.send(service, USER, order, write.body(order, texts))
    body = problem(response, 400, "invalid-request")
    assert body["errors"] == {
        "user_id": ["must be a UUID or null"],
        "metadata.a": [
            "must be text of at most 500 characters, without NUL characters"
        ],
        "items[1].quantity": ["must be a whole number from 1 to 10000"],
        "items[2].product_variation": ["is required"],
    }
    assert body["detail"].endswith("10000; and 1 more")


def test_good_member_saves_no_bad_one(service: Service, order: dict[str, Any]) -> None:
    with nothing_written(service):
        for body in (
            '{"metadata": {"good": "1"}, "is_approved": "yes"}',
            '{"metadata": {"good": "1", "bad": 1}}',
            '{"metadata": {"good": "1"}, "user_id": "x"}',
        ):
            response = WRITES["PATCH an order"].send(service, USER, order, body)
            problem(response, 400, "invalid-request")


def test_member_given_twice_is_refused(service: Service, order: dict[str, Any]) -> None:
    with nothing_written(service):
        for body in (
            '{"quantity": 3, "quantity": 0}',
            '{"quantity": 0, "quantity": 3}',
        ):
            response = WRITES["PATCH an item"].send(service, USER, order, body)
            problem(response, 400, "invalid-request")


# What follows /api/orders/ and /api/order-items/ and is nobody's id.
NOBODYS_IDS = [
    *("0", "00", str(2**63 - 1), str(2**63), str(2**64 + 1), "9" * 19, "9" * 400, "-1"),
    *("+1", "1.0", "1e0", "0x1", "1_0", "1%20", "%31%00", "%00", "%D9%A1", "%EF%BC%91"),
    *("%ff", "null", "undefined", "None", "NaN", "1'--", "1;DROP", "*", "%2e%2e"),
]

KEYS = ["", "a" * 256, "é", "a\tb", "a\x7fb", "ключ", "\x00", "a\x01"]


@pytest.mark.parametrize(("method", "path", "told"), [*about_one()])
def test_an_id_that_nobody_can_have_is_404_and_nothing_is_written(
    service: Service,
    order: dict[str, Any],
    method: str,
    path: str,
    told: dict[str, Any],
) -> None:
    assert order["id"] == 1
    kwargs = {"json": BODIES[told["operationId"]]} if "requestBody" in told else {}
    with nothing_written(service):
        for nobodys in NOBODYS_IDS:
            address = path.replace("{id}", nobodys)
            response = service.call(
                function_of(path), method, address, user=USER, **kwargs
            )
            assert response.status_code == 404, nobodys
            problem(response, 404, "not-found")


@pytest.mark.parametrize("name", ["POST an order", "POST an item"])
def test_a_malformed_idempotency_key_is_a_400_that_names_it(
    service: Service, order: dict[str, Any], name: str
) -> None:
    write = WRITES[name]
    with nothing_written(service):
        for key in KEYS:
            response = write.send(
                service,
                USER,
                order,
                write.body(order),
                Idempotency_Key=_on_the_wire(key),
            )
            assert response.status_code == 400, key
            refused_field(response, "Idempotency-Key")


def _on_the_wire(text: str) -> str:
    """Return the text as WSGI servers hand on bytes that are not ASCII."""
    return text.encode().decode("latin-1")


def test_nonsense_headers_do_no_harm(service: Service, order: dict[str, Any]) -> None:
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


def test_query_of_a_write_is_ignored(service: Service, order: dict[str, Any]) -> None:
    path = f"/api/orders/{order['id']}/?limit=x&cursor=%00&%ff=%ff"
    response = service.crud("PATCH", path, USER, json={})
    assert (response.status_code, response.get_json()) == (200, order)
