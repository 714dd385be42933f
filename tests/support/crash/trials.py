"""Kill a scenario's process at each point it passes, and check what is left.

An event published twice must be recorded as in doubt.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.books import hold
from tests.support.crash.cases import Case, Scenario
from tests.support.crash.nursery import Child
from tests.support.crash.world import KILLED, Heard, World

MOST_ANSWERS = 6
MOST_TRIES = 10
DYING_SECONDS = 10  # after all that could kill it
KillAt = tuple[str, int] | None  # which failpoint, and at which time


@dataclass
class Tally:
    """What the trials of a scenario came to."""

    points: list[str] = field(default_factory=list)
    kills: int = 0
    events: int = 0
    doubtful: set[str] = field(default_factory=set)
    resent: set[str] = field(default_factory=set)
    repeated: set[str] = field(default_factory=set)


def record(world: World, scenario: Scenario) -> list[str]:
    """Run it once, with nobody killed; return the points that it passes, in order."""
    case = scenario.prepare(world)
    child = _WAYS[scenario.way](world, scenario, case, None)
    scenario.check(world, case)
    return child.points()


def certain_points(world: World, scenario: Scenario) -> list[str]:
    """Return the points that each of two runs passes, in the order of the first.

    A run whose patience with a broker runs out passes others, which a trial may not.
    """
    first, left = record(world, scenario), Counter(record(world, scenario))
    points = []
    for point in first:
        if left[point]:
            left[point] -= 1
            points.append(point)
    return points


def kill_at_every_point(world: World, scenario: Scenario) -> Tally:
    """Kill a process at each point in turn; the client goes on with another instance.

    Fails where the client is never answered, or the outcome is not what was asked for.
    """
    world.service.set(**scenario.settings)
    tally = Tally(points=certain_points(world, scenario))
    cases: list[Case] = []
    passed_before: Counter[str] = Counter()
    for point in tally.points:
        # Destinations are served side by side: only each one's own order is certain.
        passed_before[point] += 1
        cases += _kill_at(world, scenario, (point, passed_before[point]))
        tally.kills += 1
    world.settle()
    if scenario.settings.get("ORDER_CREATED_ON_DOUBT") == "hold":
        decide_what_is_held(world)
    for case in cases:
        scenario.check(world, case)
    compare_books_with_brokers(world, tally)
    audit(world, tally)
    return tally


def _kill_at(world: World, scenario: Scenario, kill_at: tuple[str, int]) -> list[Case]:
    """Kill one process there; answer all cases that it took.

    On a busy machine a request's patience with a broker may run out before the point is
    reached: what was done without is looked at, too, and tried again.
    """
    cases: list[Case] = []
    for _ in range(MOST_TRIES):
        cases.append(scenario.prepare(world))
        victim = _WAYS[scenario.way](world, scenario, cases[-1], kill_at)
        status = world.nursery.wait(victim, DYING_SECONDS)
        scenario.check(world, cases[-1])
        if status == KILLED:
            assert victim.points()[-1] == kill_at[0]
            return cases
        world.nursery.kill(victim)
    raise AssertionError(f"{kill_at[0]}: {victim.log.read_text()}")


def audit(world: World, tally: Tally) -> None:
    """Have an operator hold orders against events; what was in doubt is reported."""
    child = world.start("orderctl", "audit", "--json")
    assert world.nursery.wait(child) == 0, child.log.read_text()
    report = json.loads(child.log.read_text().splitlines()[-1])
    assert report["differences"] == []
    reported = {row["event_id"] for row in report["ambiguous"]}
    assert tally.repeated <= reported | tally.resent


def _start(
    world: World, scenario: Scenario, case: Case, kill_at: KillAt = None
) -> Child:
    disturbance = scenario.disturbance(case) if scenario.disturbance else None
    return world.start(
        scenario.role, *case.arguments, kill_at=kill_at, disturbance=disturbance
    )


def _by_http(world: World, scenario: Scenario, case: Case, kill_at: KillAt) -> Child:
    """Repeat the request, as a client does, on the instance that is left."""
    instance = victim = _start(world, scenario, case, kill_at)
    answers: list[int | None] = []
    while not answers or answers[-1] not in scenario.accepts:
        assert len(answers) < MOST_ANSWERS, (answers, instance.log.read_text())
        answers.append(world.send(instance, case.request))
        if answers[-1] is None:
            assert instance is victim, instance.log.read_text()
            instance = world.start(scenario.role)
    if kill_at is None or instance is not victim:
        world.nursery.kill(instance)
    return victim


def _by_command(world: World, scenario: Scenario, case: Case, kill_at: KillAt) -> Child:
    """Run the command, and once more where it was killed."""
    victim = last = _start(world, scenario, case, kill_at)
    if world.nursery.wait(victim) == KILLED:
        last = world.start(scenario.role, *case.arguments)
    assert world.nursery.wait(last) in scenario.accepts, last.log.read_text()
    return victim


def _by_queue(world: World, scenario: Scenario, case: Case, kill_at: KillAt) -> Child:
    """Let the worker take the message; where it was killed, another does."""
    victim = _start(world, scenario, case, kill_at)
    world.wait_until(lambda: "consuming" in victim.log.read_text(), victim)
    assert case.publish
    case.publish()

    def is_done(worker: Child) -> Callable[[], bool]:
        return lambda: "acknowledge after" in worker.points()

    if world.wait_until(is_done(victim), victim) and kill_at is None:
        world.nursery.stop(victim)
        return victim
    if "acknowledge after" not in victim.points():
        other = world.start(scenario.role)
        assert world.wait_until(is_done(other), other), other.log.read_text()
        world.nursery.stop(other)
    return victim


_WAYS: dict[str, Callable[[World, Scenario, Case, KillAt], Child]] = {
    "http": _by_http,
    "command": _by_command,
    "queue": _by_queue,
}


def decide_what_is_held(world: World) -> None:
    """Do what an operator does: look what arrived, confirm that, resend the rest."""
    arrived = {heard.event_id for heard in world.heard["rabbitmq"]}
    held = world.service.rows(
        "SELECT CAST(event_id AS text) AS event_id FROM outbox"
        " WHERE held_since IS NOT NULL"
    )
    assert held, "nothing was in doubt"
    for row in held:
        event_id = row["event_id"]
        command = "confirm" if event_id in arrived else "resend"
        child = world.start(
            "orderctl",
            *("events", command, event_id, "--destination", "rabbitmq", "--yes"),
            *("--reason", "why"),
        )
        assert world.nursery.wait(child) == 0, child.log.read_text()
    world.settle()
    heard = world.heard["rabbitmq"]
    created = Counter(each.order_id for each in heard if each.type == "order.created")
    assert set(created.values()) == {1}, "stock was lowered twice"


def compare_books_with_brokers(world: World, tally: Tally) -> None:
    """Hold what came out of each broker against what the service says it sent."""
    for destination, heard in world.heard.items():
        _compare(world, destination, heard, tally)


def _compare(world: World, destination: str, heard: list[Heard], tally: Tally) -> None:
    owned_up: Counter[str] = Counter()
    for row in world.service.rows(
        "SELECT CAST(event_id AS text) AS event_id, doubts, is_resend FROM sent_events"
        " WHERE destination = :destination AND (doubts > 0 OR is_resend)",
        destination=destination,
    ):
        owned_up[row["event_id"]] += row["doubts"] + row["is_resend"]
        (tally.resent if row["is_resend"] else tally.doubtful).add(row["event_id"])
    told = world.service.rows(
        "SELECT CAST(event_id AS text) AS event_id, order_id FROM order_history"
        " WHERE :destination = ANY(destinations) ORDER BY id",
        destination=destination,
    )
    told = [row | {"doubts": owned_up[row["event_id"]]} for row in told]
    hold(told, heard, destination)
    times = Counter(each.event_id for each in heard)
    tally.events += len(told)
    tally.repeated |= {event_id for event_id, count in times.items() if count > 1}
