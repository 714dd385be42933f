"""States in which an operator runs `orderctl`, and checks after a crash of that.

The broker cannot forget an event, so one that is put back by a test is put back as in
doubt.
"""

from collections.abc import Callable

from tests.support.crash.cases import Case, much_to_do, ordered
from tests.support.crash.world import World
from tests.support.service import new_user

_PUT_BACK = """
WITH gone AS (
  DELETE FROM sent_events WHERE order_id = :id AND event_type = 'order.created'
  RETURNING *
)
INSERT INTO outbox (destination, order_id, event_id, event_type, body, created_at,
  attempts, doubts, held_since)
SELECT destination, order_id, event_id, event_type, body, created_at, 1, 1, now()
FROM gone
"""
_BURY = """
WITH gone AS (
  DELETE FROM outbox WHERE order_id = :id AND event_type = 'order.created' RETURNING *
)
INSERT INTO dead_letters
  (source, reason, destination, order_id, event_id, event_type, body)
SELECT 'outbox', 'told so', destination, order_id, event_id, event_type,
  convert_to(body, 'UTF8')
FROM gone RETURNING id
"""


def command(*words: str) -> Callable[[World], Case]:
    """Return what leaves much to do, and a command that does it."""

    def prepare(world: World) -> Case:
        case = much_to_do(world)
        case.arguments = words
        return case

    return prepare


def _event_of(world: World, case: Case) -> tuple[str, ...]:
    """Return which event of which order; searched for, it takes as long as it does."""
    [row] = world.service.rows(
        "SELECT event_id FROM order_history"
        " WHERE order_id = :id AND kind = 'order.created'",
        id=case.order["id"],
    )
    return (str(row["event_id"]), "--order", str(case.order["id"]))


def sent_event(world: World) -> Case:
    """An event that was sent, and is to go once more."""
    case = ordered(world, 1)
    case.arguments = ("events", "resend", *_event_of(world, case), "--yes")
    return case


def held_event(verb: str) -> Callable[[World], Case]:
    """An event that the broker has heard, and of which nobody knows it."""

    def prepare(world: World) -> Case:
        case = ordered(world, 1)
        world.service.rows(_PUT_BACK, id=case.order["id"])
        where = ("--destination", "rabbitmq", "--yes", "--reason", "why")
        case.arguments = ("events", verb, *_event_of(world, case), *where)
        return case

    return prepare


def _unsent_order(world: World) -> Case:
    port = world.service.environ["RABBITMQ_PORT"]
    world.service.set(RABBITMQ_PORT="1")
    case = ordered(world, 1)
    world.service.set(RABBITMQ_PORT=port)
    return case


def pending_event(world: World) -> Case:
    """An event that waits."""
    case = _unsent_order(world)
    case.arguments = ("events", "resend", *_event_of(world, case), "--yes")
    return case


def postponed_event(*words: str) -> Callable[[World], Case]:
    """Return what leaves events that wait for their next attempt, and a command."""

    def prepare(world: World) -> Case:
        case = _unsent_order(world)
        world.service.rows(
            "UPDATE outbox SET available_at = now() + interval '1 hour',"
            " sending_since = NULL, attempts = 5, last_error = 'away'"
            " WHERE order_id = :id",
            id=case.order["id"],
        )
        case.arguments = words
        return case

    return prepare


def is_due(world: World, case: Case) -> None:
    later = (  # but for what a killed process has claimed, and what waits for that
        "SELECT id FROM outbox o WHERE order_id = :id AND available_at > now()"
        " AND NOT EXISTS (SELECT FROM outbox c WHERE c.order_id = o.order_id"
        " AND c.destination = o.destination AND c.id <= o.id"
        " AND c.sending_since IS NOT NULL)"
    )
    assert world.service.rows(later, id=case.order["id"]) == []


def former_user(world: World) -> Case:
    """A user whose only order is deleted, and who is to be erased."""
    case = ordered(world, 1)
    path = f"/api/orders/{case.order['id']}/"
    assert world.service.crud("DELETE", path, case.user).status_code == 204
    sure = ("--yes", "--reason", "asked to")
    case.arguments = ("users", "erase", case.user, *sure)
    return case


def is_erased(world: World, case: Case) -> None:
    left = (
        "SELECT id FROM order_history WHERE order_id = :id"
        " AND CAST(changed_by AS text) = :user UNION ALL"
        " SELECT id FROM sent_events WHERE order_id = :id"
        " AND strpos(body, :user) > 0"
    )
    rows = world.service.rows(left, id=case.order["id"], user=case.user)
    assert rows == []


def restored(world: World) -> Case:
    """A database in which an event waits that may have been sent before a restore."""
    case = _unsent_order(world)
    case.arguments = ("after-restore", "--yes")
    return case


def is_marked_as_restored(world: World, case: Case) -> None:
    """Until an operator decides, nothing that may have been sent goes out again."""
    waiting = world.service.rows(
        "SELECT id FROM outbox WHERE order_id = :id AND held_since IS NULL"
        " AND event_type = 'order.created'",
        id=case.order["id"],
    )
    assert waiting == []
    done = "SELECT id FROM operator_actions WHERE outcome LIKE 'done%'"
    assert world.service.rows(done)


def different(world: World) -> Case:
    """An order whose times differ, which somebody has looked at."""
    case = ordered(world, 1)
    world.service.rows(
        "UPDATE orders SET created_at = created_at - interval '90 seconds'"
        " WHERE id = :id",
        id=case.order["id"],
    )
    order = str(case.order["id"])
    case.arguments = ("audit", "--order", order, "--acknowledge", "the clock went back")
    return case


def is_acknowledged(world: World, case: Case) -> None:
    done = world.service.rows(
        "SELECT id FROM operator_actions WHERE action = 'acknowledge'"
        " AND order_id = :id",
        id=case.order["id"],
    )
    assert len(done) == 1


def dead_event(world: World) -> Case:
    """An event that was given up, and of which the broker never heard."""
    case = _unsent_order(world)
    [letter] = world.service.rows(_BURY, id=case.order["id"])
    case.arguments = ("dead-letters", "replay", str(letter["id"]))
    return case


def dead_message(verb: str, *flags: str) -> Callable[[World], Case]:
    """A message that nobody could understand."""

    def prepare(world: World) -> Case:
        user = new_user()
        answer = world.service.call("approval_handler", "POST", "/", data=user.encode())
        assert answer.status_code == 204
        [letter] = world.service.rows(
            "SELECT id FROM dead_letters WHERE body = CAST(:body AS bytea)",
            body=user.encode(),
        )
        return Case(user, arguments=("dead-letters", verb, str(letter["id"]), *flags))

    return prepare


def is_settled(world: World, case: Case) -> None:
    letter = case.arguments[2]
    rows = world.service.rows(
        "SELECT settled_as FROM dead_letters WHERE id = CAST(:id AS bigint)", id=letter
    )
    assert [row["settled_as"] is None for row in rows] == [False]


def nothing_is_held(world: World, case: Case) -> None:
    held = "SELECT id FROM outbox WHERE order_id = :id AND held_since IS NOT NULL"
    assert world.service.rows(held, id=case.order["id"]) == []
