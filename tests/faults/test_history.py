"""What hundreds of clients heard can be explained by one step after the other.

HISTORY_SECONDS, HISTORY_CLIENTS: how long, and how many. HISTORY_SEED picks other
requests, cuts and kills, though not their exact timing.
"""

import os
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import ClassVar

import pytest

from tests.support.crash.nursery import Nursery
from tests.support.database import database, execute
from tests.support.history.check import History
from tests.support.history.planted import FAULTS, Planted
from tests.support.history.told import report, table
from tests.support.history.world import Run, run
from tests.support.wire import Wire

SECONDS = float(os.environ.get("HISTORY_SECONDS", "10"))
CLIENTS = int(os.environ.get("HISTORY_CLIENTS", "40"))
SEED = int(os.environ.get("HISTORY_SEED", "7"))
PLACES = 5 if CLIENTS <= 40 else 1  # of each planted fault
# What a client may hear besides what a rule of `model.py` expects.
REFUSALS = {
    "empty-cart",
    "cart-settling",
    "stock-settling",
    "request-in-flight",
}
pytestmark = pytest.mark.timeout(240 + 6 * SECONDS)
say = partial(print, flush=True)


@pytest.fixture(scope="module")
def recorded(postgres_url: str, template_database: str, forks: Nursery) -> Run:
    """What clients asked of the service, and heard."""
    with database(postgres_url, template=template_database) as url:
        return run(
            forks,
            url,
            clients=CLIENTS,
            seconds=SECONDS,
            least=20 * CLIENTS,
            seed=SEED,
            say=say,
        )


@pytest.fixture(scope="module")
def history(recorded: Run) -> History:
    return History(recorded.operations)


def test_what_clients_heard_can_have_happened_step_by_step(
    recorded: Run, history: History
) -> None:
    began = time.monotonic()
    found = history.violations()
    say(f"\nwith seed {SEED}")
    say(table(recorded, history))
    say(f"{len(found)} violations, found in {time.monotonic() - began:.1f} s")
    if found:
        pytest.fail(report(found), pytrace=False)


def test_the_history_has_what_makes_it_hard(recorded: Run, history: History) -> None:
    cut = [each for each in recorded.operations if not each.is_known]
    assert {each.kind for each in cut} >= {"checkout", "create", "ship", "list"}
    assert set(recorded.cuts) == {"in the question", "between them", "in the answer"}
    assert recorded.kills
    replayed = [o for o in recorded.operations if o.answer and o.answer.is_replayed]
    assert {each.kind for each in replayed} == {"checkout", "create"}
    assert len(history.sightings) > CLIENTS


def test_creations_are_refused_for_known_reasons_only(recorded: Run) -> None:
    refused = {
        each.answer.problem
        for each in recorded.operations
        if each.kind in ("checkout", "create")
        and each.answer
        and each.answer.status >= 400
    }
    assert refused <= REFUSALS


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_fault_planted_in_the_history_is_found_and_shown_in_short(
    history: History, plant: Callable[[History], Planted]
) -> None:
    planted = list(islice(plant(history), PLACES))
    assert planted
    for order_id, operations in planted:
        found = [v for v in History(operations).violations() if v.order_id == order_id]
        assert found
        assert min(len(each.operations) for each in found) <= 25


class FrontEnd(Wire):
    """A front end that keeps the first list that it gets for a user for ever."""

    kept: ClassVar[dict[bytes, tuple[int | None, dict[str, str], bytes]]] = {}

    async def ask(self, request: bytes) -> tuple[int | None, dict[str, str], bytes]:
        if not request.startswith(b"GET /api/orders/?"):
            return await super().ask(request)
        if request not in self.kept:
            self.kept[request] = await super().ask(request)
        return self.kept[request]


def trigger(moment: str, body: str, chance: float = 1) -> list[str]:
    """Return SQL that does something to rows of a table now and then, or always."""
    body = f"IF random() < {chance} THEN {body} END IF; RETURN coalesce(NEW, OLD);"
    function = "CREATE FUNCTION plant() RETURNS trigger LANGUAGE plpgsql AS"
    return [
        f"{function} $$ BEGIN {body} END $$",
        f"CREATE TRIGGER planted {moment} FOR EACH ROW EXECUTE FUNCTION plant()",
    ]


SERVICE_FAULTS: dict[str, tuple[list[str], type[Wire], str]] = {
    "a status is not written": (
        trigger("BEFORE UPDATE ON order_items", "NEW.status := OLD.status;", 0.3),
        Wire,
        "explains",
    ),
    "a version stays": (
        trigger("BEFORE UPDATE ON orders", "NEW.version := OLD.version;"),
        Wire,
        "an order's ETag",
    ),
    "a key is forgotten": (
        trigger("BEFORE INSERT ON idempotency_records", "RETURN NULL;", 0.3),
        Wire,
        "ordered again",
    ),
    "a deleted order comes back": (
        trigger("AFTER DELETE ON orders", "INSERT INTO orders SELECT OLD.*;"),
        Wire,
        "explains",
    ),
    "a list is stale": ([], FrontEnd, "explains"),
}


@pytest.mark.parametrize("fault", SERVICE_FAULTS)
def test_a_fault_planted_in_the_service_is_found(
    fault: str, postgres_url: str, template_database: str, forks: Nursery
) -> None:
    statements, connect, rule = SERVICE_FAULTS[fault]
    with database(postgres_url, template=template_database) as url:
        for statement in statements:
            execute(url, statement)
        done = run(
            forks, url, clients=24, seconds=1, least=300, seed=SEED, connect=connect
        )
    found = History(done.operations).violations()
    say(report(found))
    assert any(rule in each.rule for each in found)
