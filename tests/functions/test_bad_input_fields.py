"""Members of a body that are of the wrong type, out of bounds, or not to be stored."""

import json
from typing import Any

import pytest

from tests.support.observed import everything, problem, refused_field
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
    '{"\\u0000": ""}',
    json.dumps({f"k{n}": "v" for n in range(51)}),
]
PATCHED = [f'{{"{KEY}": null}}', '{"": null}']
LINE = '{"product_variation": "%s", "quantity": 1}' % new_user()  # noqa: UP031 braces


def lines(name: str, texts: list[str]) -> list[str]:
    """Answer lists of lines of which the second has a bad member."""
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
    service: Service,
    order: dict[str, Any],
    name: str,
    field: str,
    texts: list[str],
) -> None:
    write = WRITES[name]
    before = everything(service)
    for text in texts:
        body = write.body(order, {field: text})
        response = write.send(service, USER, order, body)
        assert response.status_code == 400, body[:200]
        refused_field(response, field)
    assert everything(service) == before


@pytest.mark.parametrize("name", WRITES)
def test_the_valid_bodies_that_these_tests_spoil_are_taken(
    service: Service, name: str
) -> None:
    user = new_user()
    order = service.ordered(user, 2)
    write = WRITES[name]
    response = write.send(service, user, order, write.body(order))
    assert response.status_code in (200, 201), response.get_data(as_text=True)


def test_a_bad_line_is_named_with_its_place(
    service: Service, order: dict[str, Any]
) -> None:
    write = WRITES["POST an order"]
    for name, text in (("quantity", "0"), ("product_variation", '"x"')):
        [body] = lines(name, [text])
        response = write.send(service, USER, order, write.body(order, {"items": body}))
        assert set(response.get_json()["errors"]) == {f"items[1].{name}"}


def test_a_good_member_does_not_save_a_bad_one(
    service: Service, order: dict[str, Any]
) -> None:
    before = everything(service)
    for body in (
        '{"metadata": {"good": "1"}, "is_approved": "yes"}',
        '{"metadata": {"good": "1", "bad": 1}}',
        '{"metadata": {"good": "1"}, "user_id": "x"}',
    ):
        response = WRITES["PATCH an order"].send(service, USER, order, body)
        problem(response, 400, "invalid-request")
    assert everything(service) == before


def test_of_a_member_given_twice_no_bad_one_gets_through(
    service: Service, order: dict[str, Any]
) -> None:
    before = everything(service)
    for body in ('{"quantity": 3, "quantity": 0}', '{"quantity": 0, "quantity": 3}'):
        response = WRITES["PATCH an item"].send(service, USER, order, body)
        problem(response, 400, "invalid-request")
    assert everything(service) == before
