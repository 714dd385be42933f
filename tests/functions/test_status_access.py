"""Who may call the status endpoint: the platform itself, and shops with a claim."""

from collections.abc import Iterator
from typing import Any

import pytest

from infra.local.sandbox.catalogue import POTTERY, WORKSHOP
from tests.support.observed import everything, history, problem
from tests.support.service import Service, new_user
from tests.support.shared import settings_kept, shared_service
from tests.support.tokens import SECRET, bearer


@pytest.fixture(scope="module")
def shared(postgres_url: str, template_database: str) -> Iterator[Service]:
    with shared_service(postgres_url, template_database) as running:
        yield running


@pytest.fixture
def service(shared: Service) -> Iterator[Service]:
    with settings_kept(shared):
        yield shared


@pytest.fixture
def item(service: Service, user: str) -> dict[str, Any]:
    """An item of the pottery; tokens are verified from now on."""
    [found] = service.ordered(user)["items"]
    assert found["shop_id"] == POTTERY
    service.set(GATEWAY_JWT_SECRET=SECRET)
    return dict(found)


def test_the_internal_call_has_a_user_and_no_token(
    service: Service, item: dict[str, Any]
) -> None:
    caller = new_user()
    assert service.move(item["id"], 2, user=caller).status_code == 200
    assert history(service, item["order"])[-1][3] == caller


@pytest.mark.parametrize("shop", [POTTERY, POTTERY.upper(), POTTERY.replace("-", "")])
def test_a_token_with_the_items_shop_may_move_it(
    service: Service, item: dict[str, Any], shop: str
) -> None:
    owner = new_user()
    headers = bearer(owner, shop_uuid=shop)
    response = service.move(item["id"], 2, user=owner, headers=headers)
    assert (response.status_code, response.get_json()["status"]) == (200, 2)


@pytest.mark.parametrize(
    "claims",
    [
        {"shop_uuid": WORKSHOP},
        {},
        {"shop_uuid": None},
        {"shop_uuid": ""},
        {"shop_uuid": "pottery"},
        {"shop_uuid": [POTTERY]},
        {"X-Shop-ID": POTTERY},
        {"shop_id": POTTERY},
    ],
    ids=str,
)
def test_a_forged_shop_header_is_no_proof_where_the_token_says_otherwise(
    service: Service, item: dict[str, Any], claims: dict[str, Any]
) -> None:
    owner = new_user()
    headers = bearer(owner, **claims) | {"X-Shop-ID": POTTERY}
    before = everything(service)
    response = service.move(item["id"], 2, user=owner, headers=headers)
    problem(response, 403, "forbidden")
    assert everything(service) == before


def test_no_token_moves_an_item_that_has_no_shop(
    service: Service, item: dict[str, Any]
) -> None:
    service.rows(
        "WITH u AS (UPDATE order_items SET shop_id = NULL WHERE id = :id RETURNING id)"
        " SELECT id FROM u",
        id=item["id"],
    )
    owner = new_user()
    for claims in ({}, {"shop_uuid": POTTERY}):
        headers = bearer(owner, **claims)
        response = service.move(item["id"], 2, user=owner, headers=headers)
        problem(response, 403, "forbidden")


def test_without_the_demanded_claim_a_caller_learns_nothing(
    service: Service, item: dict[str, Any]
) -> None:
    service.set(STATUS_REQUIRE_SHOP_CLAIM="true")
    forged = {"X-Shop-ID": POTTERY}
    for item_id, body in ((item["id"], 2), (item["id"] + 1, 2), (item["id"], "x")):
        response = service.move(item_id, body, headers=forged)
        problem(response, 401, "unauthenticated")
