"""An operator's actions in the console, as requests that a client repeats.

An action on a dead letter takes three transactions; a crash in between leaves an entry
with an unknown outcome, and repeating it takes a new form.
"""

from collections.abc import Callable
from urllib.parse import urlencode

from common.console import access
from common.console.access import Form
from tests.support.crash import operations as ops
from tests.support.crash.cases import Case, ordered
from tests.support.crash.world import Request, World

OPERATOR = "olga@example.com"
HOST = "localhost"  # of this machine, as an unsigned operator must be


def _form(action: str, **values: object) -> Request:
    """Return the confirmed form of an action, by an operator with a new browser."""
    asked = {name: str(value) for name, value in values.items()}
    cookie = access.new_cookie()
    token = access.sign(Form(OPERATOR, action, asked), cookie)
    fields = asked | {"token": token, "reason": "a customer called"}
    return Request(
        "POST",
        f"/ops/do/{action}/",
        {
            "Host": HOST,
            "Origin": f"http://{HOST}",
            "X-Ops-Operator": OPERATOR,
            "Cookie": f"ops={cookie}",
            "Content-Type": "application/x-www-form-urlencoded",
        },
        urlencode(fields).encode(),
    )


def moved_item(status: int) -> Callable[[World], Case]:
    """Return what orders two things, and has an operator move the first."""

    def prepare(world: World) -> Case:
        case = ordered(world, 1, 2)
        order, item = case.order["id"], case.order["items"][0]["id"]
        rows = world.service.rows("SELECT version FROM orders WHERE id = :id", id=order)
        case.request = _form(
            "move-item",
            order=order,
            version=rows[0]["version"],
            item=item,
            status=status,
        )
        return case

    return prepare


def discarded_letter(world: World) -> Case:
    """A message that nobody could understand, which an operator gives up."""
    case = ops.dead_message("discard")(world)
    case.request = _form("discard-letter", letter=case.arguments[2])
    return case


def is_discarded_or_in_doubt(world: World, case: Case) -> None:
    """Either it is done, or the entry of what was begun says that it may not be."""
    [letter] = world.service.rows(
        "SELECT settled_as FROM dead_letters WHERE id = CAST(:id AS bigint)",
        id=case.arguments[2],
    )
    entries = world.service.rows(
        "SELECT outcome FROM operator_actions WHERE given->>'letter' = :id",
        id=case.arguments[2],
    )
    assert len(entries) == 1
    assert letter["settled_as"] == "discarded" or entries[0]["outcome"] == "begun"
