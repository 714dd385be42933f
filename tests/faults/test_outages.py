"""RabbitMQ away or unreliable under load: requests go on, and nothing is lost.

FAULT_SECONDS is how long an outage lasts.
"""

import os
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.books import compare
from tests.support.crash.world import World, settle
from tests.support.flaky import flaky_link_to
from tests.support.link import Link, link_to
from tests.support.load import Load, end_all, start_group, stay, sweeping

FAULT_SECONDS = float(os.environ.get("FAULT_SECONDS", "8"))
SOUND_SECONDS = 2.0
SEED = 20251203
ALLOWED_RATIO = 1.2
ENOUGH = 40  # samples for a median
PATIENCE_SECONDS = 60.0

pytestmark = pytest.mark.timeout(300 + 10 * FAULT_SECONDS)
Break = Callable[[Link], object]
WAYS: dict[str, Break] = {
    "refuses": lambda link: link.refuse(),
    "is mute": lambda link: setattr(link, "is_mute", True),
}


@pytest.fixture
def link(world: World) -> Iterator[Link]:
    with link_to(world.broker.port) as link:
        yield link


def behind(world: World, link: Link) -> dict[str, str]:
    """Return the settings of processes whose broker is at the link's other end."""
    return {**world.service.environ, "RABBITMQ_PORT": str(link.port)}


def is_settled(load: Load) -> bool:
    """Return whether medians stand on enough requests, and are what they are to be.

    Medians of few are moved by whatever else the machine does; more settle them.
    """
    away = sum(sample.phase == "away" for sample in load.samples)
    if away <= 4 * ENOUGH:
        return False
    return load.ratio("linked", "direct", "away") <= ALLOWED_RATIO


@pytest.mark.parametrize("way", WAYS)
def test_a_broker_away_costs_requests_nothing_and_no_event(
    world: World, link: Link, way: str
) -> None:
    """Medians are compared between two groups of processes in the same seconds.

    One group's broker is away, the other's is not. Each client asks both in turns, so
    that whatever else the machine does happens to both.
    """
    linked = start_group(world.nursery, behind(world, link))
    direct = start_group(world.nursery, world.service.environ)
    relay = start_group(world.nursery, behind(world, link), ["outbox_relay"])
    load = Load(world.sandbox, {"linked": linked, "direct": direct})
    with sweeping(list(relay.values())) as sweeps, load.running():
        stay(world.channel, SOUND_SECONDS)
        WAYS[way](link)
        load.phase = "away"
        stay(world.channel, FAULT_SECONDS)
        until = time.monotonic() + PATIENCE_SECONDS
        while not (settled := is_settled(load)) and time.monotonic() < until:
            stay(world.channel, SOUND_SECONDS)  # a busy machine takes longer
        load.phase = "back"
        link.restore()
        stay(world.channel, SOUND_SECONDS)
    end_all(world.nursery, linked, direct, relay)
    print(f"\n{load.report()}")  # noqa: T201
    assert load.failures() == []
    assert set(sweeps) == {200}
    settle(world.service)
    figures = compare(world.service, world.channel, world.queue)
    print(figures, f"ratio {load.ratio('linked', 'direct', 'away'):.2f}")  # noqa: T201
    assert settled


def test_a_link_that_fails_at_any_moment_loses_nothing_and_keeps_the_order(
    world: World,
) -> None:
    """Requests, the relay and the approval worker all speak through it."""
    with flaky_link_to(world.broker.port) as link:
        environ = behind(world, link)
        one, other = (start_group(world.nursery, environ) for _ in range(2))
        workers = start_group(
            world.nursery, environ, ["relay_worker", "approval_worker"]
        )
        load = Load(world.sandbox, {"one": one, "other": other})
        with load.running():
            stay(world.channel, 1)
            with link.trouble(SEED):
                stay(world.channel, FAULT_SECONDS)
            stay(world.channel, 1)
        for child in workers.values():
            world.nursery.stop(child)
        end_all(world.nursery, one, other)
        assert load.failures() == []
        settle(world.service)
        figures = compare(world.service, world.channel, world.queue)
        print(f"\n{load.report()}\n{figures} {dict(link.happened)}")  # noqa: T201
        assert figures.doubtful > 0
        assert len(link.happened) > 3
