"""Fixtures for what Pub/Sub does: the double, Google's emulator, and clients of either.

Lives here: what is set up and when. Not here: how (tests/support/pubsub_*.py).
Surprise: a test that asks for `clients` runs twice, against both; where the emulator
is not at hand, that half is skipped, and where it is known to do otherwise, expected
to fail (tests/support/pubsub_gaps.py).
"""

from collections.abc import Iterator

import pytest

from tests.support.pubsub import PubSub, running_pubsub
from tests.support.pubsub_clients import Clients, clients_of
from tests.support.pubsub_emulator import Emulator, NoEmulatorError, running_emulator
from tests.support.pubsub_gaps import gap_of

GAP_SECONDS = 3  # to wait for what the emulator is known not to do


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator | str]:
    """The run's emulator, or why there is none."""
    # A session's fixture that skips is asked again by each test: keep the answer.
    try:
        with running_emulator() as running:
            yield running
    except NoEmulatorError as error:
        yield str(error)


@pytest.fixture
def double() -> Iterator[PubSub]:
    with running_pubsub() as running:
        yield running


@pytest.fixture(params=["double", "emulator"])
def clients(request: pytest.FixtureRequest) -> Iterator[Clients]:
    """Clients of the double, then of the emulator."""
    server = request.getfixturevalue(request.param)
    if isinstance(server, str):
        pytest.skip(server)
    with clients_of(server) as found:
        if isinstance(server, Emulator):
            case = request.node.name.replace("[emulator]", "")
            case = case.replace("[emulator-", "[")
            if gap := gap_of(request.node.originalname, case):
                request.applymarker(
                    pytest.mark.xfail(strict=gap.is_steady, reason=gap.reason)
                )
                found.patience = GAP_SECONDS
        yield found
        found.unsubscribe()


@pytest.fixture
def own_clients(double: PubSub) -> Iterator[Clients]:
    """Clients of the double alone."""
    with clients_of(double) as found:
        yield found
