"""Requests generated from the API document, valid and invalid, and their responses."""

import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from common.api_docs.documents import parsed
from tests.support.documented import check, operations
from tests.support.fuzzed import CARTS, STATES, World
from tests.support.fuzzing import REQUESTS, SEED, TRIES, Tally
from tests.support.service import Service

EXAMPLES = 3  # of each kind in a round, at least
# So often at most, until every answer has been met.
ROUNDS = 40
# What is about no order is sent so often, as making one takes longer than answering it.
TIMES = 3
# What every operation that can answer it must have answered, for what fits.
DEEP = {"200", "201", "204", "304", "404", "409", "412"}
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
# What no schema can say: JSON has no integers, so that 2.0 would be one; a cursor is
# known by who gave it out; a patch may leave too many keys; what a variation is, is
# elsewhere.
KNOWN_TO_BE_REFUSED = (
    r"must be a whole number|^cursor: |at most 50 keys|product_variation: "
)
TOLD = {operation["operationId"]: operation for *_, operation in operations()}
# What is open to everybody takes nothing that could be wrong.
KINDS = [
    pytest.param(name, mode, id=f"{name}-{mode.value}")
    for name in sorted(TOLD)
    for mode in GenerationMode
    if mode == GenerationMode.POSITIVE or TOLD[name].get("security") != []
]
IS_OPEN = {name: TOLD[name].get("security") == [] for name in TOLD}
# What is open to everybody has little to vary, and is tried only a few times.
TRIES_EACH = round(
    TRIES * REQUESTS / sum(2 for is_open in IS_OPEN.values() if not is_open)
)
pytestmark = pytest.mark.timeout(900)
SCHEMA = schemathesis.openapi.from_dict(parsed("openapi"))


@pytest.fixture(scope="module")
def world(service: Service) -> World:
    return World(service)


def turns(name: str, path: str) -> list[str | None]:
    """Return the states to be met in turn, not by luck, by each request."""
    if name == "create_order_from_cart":
        return [None, *CARTS]
    is_about_order = name == "create_item" or "{id}" in path
    return [None, *STATES, "absent"] if is_about_order else [None] * TIMES


@pytest.mark.parametrize(("name", "mode"), KINDS)
def test_whatever_is_asked_is_answered_as_documented(
    world: World, name: str, mode: GenerationMode, tally: Tally
) -> None:
    tally.kind = f"request: {name}"
    operation = SCHEMA.find_operation_by_id(name)

    fits = mode == GenerationMode.POSITIVE
    tries = 0 if IS_OPEN[name] else TRIES_EACH

    states = turns(name, operation.path)
    reached: set[str] = set()

    @settings(
        max_examples=max(EXAMPLES, tries // (len(states) if fits else 1)),
        database=None,
        deadline=None,
        phases=[Phase.generate],  # the world changes: what fails is told as it was
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode), st.data())
    def ask(case: schemathesis.Case, data: st.DataObject) -> None:
        def choose(found: list[Any]) -> Any:
            return data.draw(st.sampled_from(found))

        if not fits and choose([True, False]):
            world.identify(case)
            judge(case, [*CHECKS, checks.negative_data_rejection])
            return
        headers = dict(case.headers)
        for state in states if fits else [choose(states)]:
            case.headers.clear()
            case.headers.update(headers)
            if state in CARTS:
                world.check_out(case, state)
            else:
                world.lead_in(case, state, choose)
            judge(case, CHECKS)

    def judge(case: schemathesis.Case, held_to: list[Any]) -> None:
        response = case.call(app=world.gateway)
        case.validate_response(response, checks=held_to)
        headers = {header: values[0] for header, values in response.headers.items()}
        check(TOLD[name], response.status_code, headers, response.content)
        if fits and response.status_code == 400:
            assert re.search(KNOWN_TO_BE_REFUSED, response.json()["detail"])
        reached.add(str(response.status_code))
        tally.outcomes[str(response.status_code)] += 1

    wanted = TOLD[name]["responses"].keys() & DEEP if fits else set()
    for number in range(ROUNDS):
        seed(SEED + number)(ask)()
        if wanted <= reached and tally.outcomes.total() >= tries:
            break
    assert wanted <= reached, wanted - reached
