"""A database is restored from a real dump: nothing that is lost is anybody else's."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.dumps import dump, restore
from tests.support.orderctl import Said, orderctl
from tests.support.service import Service, new_user


class Restored:
    """A service whose database can go back to its last backup."""

    def __init__(self, service: Service, file: Path) -> None:
        self.service = service
        self.url = service.environ["DATABASE_URL"]
        self._file = file

    def back_up(self) -> None:
        dump(self.url, self._file)

    def go_back(self) -> None:
        self.service.restart()
        restore(self.url, self._file)

    def ctl(self, *arguments: object) -> Said:
        said = orderctl(self.url, *arguments)
        self.service.restart()
        return said

    def after_restore(self, *arguments: object) -> Said:
        return self.ctl("after-restore", *arguments)

    def audited(self) -> Any:
        said = self.ctl("audit", "--json")
        assert said.status == 0, said.out
        return said.json

    def last_values(self) -> dict[str, int]:
        """Return what each sequence has drawn last."""
        rows = self.service.rows(
            "SELECT sequencename, coalesce(last_value, 0) AS last FROM pg_sequences"
            " WHERE schemaname = 'public'"
        )
        return {row["sequencename"]: row["last"] for row in rows}


@pytest.fixture
def restored(service: Service, tmp_path: Path) -> Restored:
    return Restored(service, tmp_path / "backup.dump")


def lose(restored: Restored, count: int = 2) -> list[dict[str, Any]]:
    """Return orders that siblings and customers know, and the database no longer."""
    restored.service.ordered(new_user(), 1, 2)
    restored.back_up()
    lost = [restored.service.ordered(new_user(), 1, 2) for _ in range(count)]
    restored.go_back()
    return lost


def item_ids(*orders: dict[str, Any]) -> list[int]:
    return [item["id"] for order in orders for item in order["items"]]


def test_no_id_of_a_lost_order_is_given_to_another(restored: Restored) -> None:
    lost = lose(restored)
    assert restored.after_restore("--yes").status == 0
    made = restored.service.ordered(new_user(), 1, 2)
    assert made["id"] > max(order["id"] for order in lost)
    assert min(item_ids(made)) > max(item_ids(*lost))
    assert restored.audited()["found"] == 0


def test_the_same_backup_can_be_restored_twice(restored: Restored) -> None:
    """What was made after the first time is known, too."""
    service, user = restored.service, new_user()
    path = f"/api/orders/{service.ordered(user)['id']}/"
    restored.back_up()
    made, seen = [], []
    for gift in ("yes", "no"):
        restored.go_back()
        # Versions and margins count seconds: nobody restores twice in one.
        time.sleep(1.1)
        restored.after_restore("--yes")
        made.append([service.ordered(new_user(), 1, 2) for _ in range(2)])
        change = {"metadata": {"gift": gift}}
        seen.append(service.crud("PATCH", path, user, json=change).headers["ETag"])
    first, second = made
    assert min(order["id"] for order in second) > max(order["id"] for order in first)
    assert min(item_ids(*second)) > max(item_ids(*first))
    assert len(set(seen)) == 2


def test_every_sequence_of_the_schema_is_moved(restored: Restored) -> None:
    service = restored.service
    service.rows("CREATE TABLE later (id bigint GENERATED ALWAYS AS IDENTITY)")
    restored.back_up()
    for _ in range(3):
        service.rows("INSERT INTO later DEFAULT VALUES")
    lose(restored)
    known = restored.last_values()
    said = restored.after_restore("--yes", "--json").json
    assert {skip["sequence"] for skip in said["skips"]} == known.keys()
    assert known.keys() >= {"orders_id_seq", "outbox_id_seq", "later_id_seq"}
    moved = restored.last_values()
    assert all(moved[name] >= known[name] + 10_000 for name in known)
    each = {skip["sequence"]: skip["next"] - skip["last"] for skip in said["skips"]}
    assert each["order_items_id_seq"] >= 2 * each["orders_id_seq"] - 1


def test_rows_that_came_back_without_their_sequence_count_too(
    restored: Restored,
) -> None:
    order = restored.service.ordered(new_user())
    restored.service.rows("SELECT setval('orders_id_seq', 1)")
    restored.after_restore("--margin", 5, "--yes")
    assert restored.service.ordered(new_user())["id"] == order["id"] + 6


def test_it_only_says_what_it_would_do_until_it_is_told_to(restored: Restored) -> None:
    restored.service.ordered(new_user())
    before = restored.last_values()
    said = restored.after_restore()
    assert said.status == 0
    assert said.out.splitlines()[-1] == "nothing was done: add --yes"
    assert restored.after_restore("--json").json["is_done"] is False
    assert restored.last_values() == before
    assert restored.audited()["given_up"] == []


def test_an_operator_who_knows_the_greatest_ids_says_them(restored: Restored) -> None:
    lost = lose(restored)
    order_id, item_id = lost[-1]["id"], max(item_ids(*lost))
    restored.after_restore(
        *("--past-order-id", order_id, "--past-item-id", item_id, "--yes")
    )
    made = restored.service.ordered(new_user())
    assert (made["id"], item_ids(made)) == (order_id + 1, [item_id + 1])


def test_an_id_that_is_in_the_database_is_never_drawn_again(restored: Restored) -> None:
    orders = [restored.service.ordered(new_user()) for _ in range(3)]
    restored.after_restore("--margin", 1, "--yes")
    assert restored.service.ordered(new_user())["id"] > orders[-1]["id"]


def test_an_id_that_was_seen_is_not_before_the_last_one(restored: Restored) -> None:
    """Nothing would be skipped: the number is mistyped, or another database's."""
    last = restored.service.ordered(new_user(), 1, 2)["id"]
    restored.service.ordered(new_user())
    before = restored.last_values()
    refused = restored.after_restore("--past-order-id", last, "--yes")
    assert refused.status == 2
    assert f"--past-order-id is less than {last + 1}" in refused.err
    assert restored.last_values() == before


@pytest.mark.parametrize(("hours", "orders"), [(0, 1), (2, 9), (100, 90)])
def test_the_margin_follows_the_lost_time_and_the_busiest_minute(
    restored: Restored, hours: int, orders: int
) -> None:
    at = f"date_trunc('minute', now()) - interval '{hours} hours'"
    restored.service.rows(
        "INSERT INTO orders (user_id, created_at)"
        f" SELECT gen_random_uuid(), {at} FROM generate_series(1, {orders})"
    )
    restored.service.rows(
        "INSERT INTO order_history (order_id, kind, changed_at)"
        f" SELECT id, 'order.created', {at} FROM orders"
    )
    said = restored.after_restore("--json").json["margin"]
    assert said["busiest_minute"] == orders
    each_minute = 10 * max(60, orders)
    margin = 10_000 + 60 * hours * each_minute
    assert margin <= said["orders"] <= margin + 5 * each_minute  # a slow machine


def test_who_did_it_and_why_is_kept_and_the_audit_explains_the_gap(
    restored: Restored,
) -> None:
    last = restored.service.ordered(new_user())["id"]
    restored.after_restore(
        *("--margin", 50, "--operator", "ann@acme.example"),
        *("--reason", "the disk died", "--yes"),
    )
    [action] = restored.service.rows("SELECT * FROM operator_actions")
    assert action["action"] == "after-restore"
    assert (action["operator"], action["reason"]) == (
        *("ann@acme.example", "the disk died"),
    )
    assert action["outcome"].startswith("done")
    [orders] = [
        each
        for each in restored.audited()["given_up"]
        if each["sequence"] == "orders_id_seq"
    ]
    assert (orders["first"], orders["last"]) == (last + 1, last + 50)
    assert (orders["operator"], orders["reason"]) == (
        *("ann@acme.example", "the disk died"),
    )
    assert "the disk died" in restored.ctl("audit").out


def test_without_a_name_it_was_the_database_s_login(restored: Restored) -> None:
    restored.after_restore("--yes")
    [action] = restored.service.rows(
        "SELECT operator = current_user AS is_login FROM operator_actions"
    )
    assert action["is_login"]


def test_no_etag_of_a_lost_state_matches_another_one(restored: Restored) -> None:
    service, user = restored.service, new_user()
    order = service.ordered(user, 3)
    path, item = f"/api/orders/{order['id']}/", order["items"][0]["id"]
    changes = {path: {"metadata": {"gift": "yes"}}}
    changes[f"/api/order-items/{item}/"] = {"quantity": 2}
    restored.back_up()
    lost = {p: service.crud("PATCH", p, user, json=c) for p, c in changes.items()}
    restored.go_back()
    restored.after_restore("--yes")
    changes = {path: {"metadata": {"gift": "no"}}, [*changes][1]: {"quantity": 1}}
    for where, change in changes.items():
        seen = lost[where].headers["ETag"]
        assert service.crud("PATCH", where, user, json=change).status_code == 200
        known = {"If-None-Match": seen}
        assert service.crud("GET", where, user, headers=known).status_code == 200
        expected = {"If-Match": seen}
        refused = service.crud("PATCH", where, user, json=change, headers=expected)
        assert refused.status_code == 412
    assert restored.audited()["found"] == 0


def test_the_audit_counts_changes_as_before(restored: Restored) -> None:
    restored.service.ordered(new_user())
    restored.after_restore("--yes")
    restored.service.rows("UPDATE order_items SET quantity = 7")
    found = restored.ctl("audit", "--json").json["differences"]
    assert "quantity-differs" in {each["what"] for each in found}


# Events that were pending in the backup.


def sent_since(restored: Restored) -> None:
    """Send the events of an order, of which the database then knows nothing."""
    service = restored.service
    service.sandbox.fault("sink", status=503)
    order = service.ordered(new_user(), 1, 2)
    service.move(order["items"][0]["id"], 2)
    restored.back_up()
    service.sandbox.mend()
    service.restart()
    service.rows("UPDATE outbox SET available_at = now()")
    service.sweep()
    assert len(service.sandbox.events_of("order.created")) == 1
    restored.go_back()


def sweep(restored: Restored) -> None:
    restored.service.rows("UPDATE outbox SET available_at = now()")
    restored.service.sweep()


def test_what_lowers_stock_is_not_sent_again_before_an_operator_says_so(
    restored: Restored,
) -> None:
    """Whatever is done about doubt else: after a restore it was most likely sent."""
    service = restored.service
    sent_since(restored)
    done = restored.after_restore("--yes", "--json").json
    assert (done["in_doubt"], done["held"]) == (4, 1)
    sweep(restored)
    heard = service.sandbox.events_of
    assert len(heard("order.created")) == 1
    assert len(heard("order.item.created")) == 4  # harmless, and perhaps never sent
    assert len(heard("order.item.status.updated")) == 1  # waits for its turn
    report = restored.audited()
    assert (report["pending"], report["doubtful"]) == (2, 4)

    [held] = restored.ctl("events", "list", "--held", "--json").json["events"]
    assert held["event_type"] == "order.created"
    restored.ctl(
        *("events", "confirm", held["event_id"]),
        *("--destination", "http", "--yes", "--reason", "the sink has it"),
    )
    sweep(restored)
    assert len(heard("order.created")) == 1
    assert len(heard("order.item.status.updated")) == 2
    assert restored.audited()["pending"] == 0


def test_a_held_event_that_never_arrived_is_sent_once_it_is_released(
    restored: Restored,
) -> None:
    restored.service.sandbox.fault("sink", status=503)
    restored.service.ordered(new_user())
    restored.service.sandbox.mend()
    restored.after_restore("--yes")
    sweep(restored)
    [held] = restored.ctl("events", "list", "--held", "--json").json["events"]
    restored.ctl("events", "resend", held["event_id"], "--yes")
    sweep(restored)
    assert len(restored.service.sandbox.events_of("order.created")) == 1
    assert restored.audited()["pending"] == 0


def test_what_is_written_afterwards_is_not_in_doubt_and_a_second_time_does_no_harm(
    restored: Restored,
) -> None:
    sent_since(restored)
    restored.after_restore("--yes")
    again = restored.after_restore("--yes", "--json").json
    assert again["held"] == 0
    assert again["backlog"]["held"] == 1
    restored.service.ordered(new_user())
    sweep(restored)
    assert len(restored.service.sandbox.events_of("order.created")) == 2
    rows = restored.service.rows("SELECT doubts FROM outbox ORDER BY id")
    assert [row["doubts"] for row in rows] == [1, 2]
