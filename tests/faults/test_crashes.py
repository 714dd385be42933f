"""Killed at any point, the service loses nothing, doubles nothing, and says so."""

import pytest

from tests.support.crash.cases import Scenario
from tests.support.crash.scenarios import SCENARIOS
from tests.support.crash.trials import kill_at_every_point
from tests.support.crash.world import World

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_process_that_is_killed_anywhere_loses_and_doubles_nothing(
    world: World, scenario: Scenario
) -> None:
    tally = kill_at_every_point(world, scenario)
    assert tally.kills == len(tally.points) > 0
    print(  # noqa: T201 with pytest -rP
        f"{scenario.name}: killed {tally.kills} times, {tally.events} events owed,"
        f" 0 lost, {len(tally.repeated)} twice, all of them among the"
        f" {len(tally.doubtful)} reported in doubt and {len(tally.resent)} resent"
    )
