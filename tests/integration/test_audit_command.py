"""`orderctl audit`: its exit status, its options, and what it says to whom."""

import contextlib
import io
from unittest import mock

import pytest

from infra.orderctl import auditing
from tests.support.audited import Tampering
from tests.support.orderctl import Terminal, orderctl


def test_where_nothing_differs_the_status_is_0(world: Tampering) -> None:
    said = orderctl(world.url, "audit")
    assert (said.status, said.err) == (0, "")
    heading, *_, last = said.out.splitlines()
    assert heading == "2 events may have gone out more than once:"
    assert last == (
        f"{len(world.orders)} orders, 68 events: no differences"
        " (7 pending, 4 resent by operators, 2 ambiguous)"
    )


def test_a_difference_is_status_1_and_names_the_order(world: Tampering) -> None:
    world.spoil("DELETE FROM order_items WHERE order_id = {shopless}")
    said = orderctl(world.url, "audit")
    assert said.status == 1
    heading, line, *_, last = said.out.splitlines()
    assert heading.split() == ["ORDER", "WHAT", "DETAILS"]
    order, *rest = line.split("  ")
    assert order == str(world.orders["shopless"])
    assert rest[-1].startswith('{"item":')
    assert "the item does not exist" in line
    assert ": 1 differences (" in last


def test_a_machine_gets_all_of_it(world: Tampering) -> None:
    world.spoil("UPDATE orders SET is_complete = true WHERE id = {empty}")
    said = orderctl(world.url, "audit", "--json")
    assert said.status == 1
    assert said.json.keys() == {
        *("orders", "events", "pending", "resent", "found", "differences"),
        *("doubtful", "ambiguous", "given_up", "acknowledged"),
    }
    assert said.json["differences"] == [
        {
            "order_id": world.orders["empty"],
            "what": "completeness-differs",
            "sentence": "whether the order is complete differs from its items",
            "details": {"order": True, "items": False},
        }
    ]
    assert [a["order_id"] for a in said.json["ambiguous"]] == [
        world.orders["released"],
        world.orders["held"],
    ]


def step_clock_back(world: Tampering) -> int:
    """Make an order's last entry as old as if the clock had gone back 90 seconds."""
    order = world.orders["shopless"]
    world.spoil("ALTER TABLE order_history DISABLE TRIGGER USER")
    world.spoil(
        "UPDATE order_history SET changed_at = changed_at + interval '90 seconds'"
        " WHERE id = (SELECT min(id) FROM order_history WHERE order_id = {shopless})"
    )
    return order


def test_what_is_acknowledged_is_listed_apart_and_no_failure(world: Tampering) -> None:
    order = step_clock_back(world)
    found = orderctl(world.url, "audit", "--json").json["differences"]
    assert [each["order_id"] for each in found] == [order] * len(found)
    reason = "the clock went back"
    given = ("--order", order, "--acknowledge", reason, "--operator", "ada@example.com")
    said = orderctl(world.url, "audit", "--json", *given)
    assert said.status == 0, said.err
    after = orderctl(world.url, "audit", "--json")
    assert (after.status, after.json["found"]) == (0, 0)
    known = after.json["acknowledged"]
    assert [(each["what"], each["details"]) for each in known] == [
        (each["what"], each["details"]) for each in found
    ]
    assert {(each["operator"], each["reason"]) for each in known} == {
        ("ada@example.com", reason)
    }
    assert reason in orderctl(world.url, "audit").out


def test_an_acknowledged_difference_that_becomes_another_counts_again(
    world: Tampering,
) -> None:
    order = step_clock_back(world)
    given = ("--order", order, "--acknowledge", "known")
    assert orderctl(world.url, "audit", *given).status == 0
    world.spoil("UPDATE orders SET is_complete = true WHERE id = {empty}")
    assert orderctl(world.url, "audit").status == 1
    step_clock_back(world)
    assert orderctl(world.url, "audit", "--order", order).status == 1


def test_only_one_kind_can_be_acknowledged(world: Tampering) -> None:
    order = step_clock_back(world)
    given = ("--order", order, "--acknowledge", "known", "--what", "entry-out-of-time")
    left = orderctl(world.url, "audit", "--json", *given).json
    assert {each["what"] for each in left["acknowledged"]} == {"entry-out-of-time"}
    assert "entry-out-of-time" not in {each["what"] for each in left["differences"]}


@pytest.mark.parametrize(
    "given",
    [
        ("--acknowledge", "known"),
        ("--order", 1, "--acknowledge", " "),
        ("--order", 1, "--what", "event-lost"),
    ],
)
def test_acknowledging_without_an_order_or_a_reason_is_wrong_usage(
    world: Tampering, given: tuple[object, ...]
) -> None:
    assert orderctl(world.url, "audit", *given).status == 2


def audited(world: Tampering, *arguments: object) -> tuple[int, int, int]:
    """Return how many orders were seen, differences found and listed."""
    said = orderctl(world.url, "audit", "--json", *arguments).json
    return said["orders"], said["found"], len(said["differences"])


def test_one_order_or_a_range_can_be_asked_for_and_a_list_shortened(
    world: Tampering,
) -> None:
    world.spoil("UPDATE order_items SET status = 5 - status")
    fresh, mixed = world.orders["fresh"], world.orders["mixed"]
    assert audited(world, "--order", fresh)[0] == 1
    assert audited(world, "--from-order", fresh, "--to-order", mixed)[0] == 3
    assert audited(world, "--from-order", mixed)[0] == len(world.orders) - 2
    assert audited(world, "--to-order", mixed)[0] == 3
    assert audited(world, "--order", 999) == (0, 0, 0)
    _, found, _ = audited(world)
    assert audited(world, "--limit-differences", 2)[1:] == (found, 2)
    told = orderctl(world.url, "audit", "--limit-differences", 2).out
    assert f"\n… and {found - 2} more: --limit-differences\n" in told


@pytest.mark.parametrize(
    "arguments",
    [("--order", 1, "--to-order", 2), ("--from-order", 3, "--to-order", 2)],
)
def test_a_range_that_makes_no_sense_is_wrong_usage(
    world: Tampering, arguments: tuple[object, ...]
) -> None:
    said = orderctl(world.url, "audit", *arguments)
    assert (said.status, said.out) == (2, "")
    assert said.err.count("\n") == 1


def spoken(err: io.StringIO, *times: float) -> str:
    """Return what is said of how far it is, when chunks end at these times."""
    with (
        contextlib.redirect_stderr(err),
        mock.patch.object(auditing.time, "monotonic", side_effect=[0.0, *times]),
    ):
        meter = auditing._Progress()
        for number in range(len(times)):
            meter(number, 9)
        meter.end()
    return err.getvalue()


def test_how_far_it_is_is_told_when_it_takes_long() -> None:
    assert spoken(io.StringIO(), 0.1, 1.9) == ""
    assert spoken(io.StringIO(), 1.0, 2.5, 3.0, 5.0) == (
        "orderctl: compared up to order 1 of 9\norderctl: compared up to order 3 of 9\n"
    )


def test_a_terminal_is_told_in_one_line() -> None:
    assert spoken(Terminal(), 1.0, 2.5, 5.0) == (
        "\rorderctl: compared up to order 1 of 9"
        "\rorderctl: compared up to order 2 of 9\n"
    )
