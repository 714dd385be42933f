"""Pages of other ports of this machine call the API of a local run."""

import pytest
from werkzeug.test import Client
from werkzeug.wrappers import Response

from infra.local.guard import guarded

FRONT_END = "http://localhost:3000"
HOST = "http://localhost:8080"
EXPOSED = {
    *("ETag", "Link", "Location", "Retry-After", "X-Request-ID"),
    "Idempotency-Replayed",
}
app = Response("in", headers={"ETag": '"7"', "Vary": "Accept"})


@pytest.fixture
def client() -> Client:
    return Client(guarded(app, is_shared=True))


def names(header: str | None) -> set[str]:
    return {name.strip() for name in (header or "").split(",")}


@pytest.mark.parametrize("path", ["/api/orders/", "/order/api/orders/", "/sandbox/"])
def test_a_front_end_reads_the_response_and_its_headers(
    client: Client, path: str
) -> None:
    response = client.get(path, HOST, headers={"Origin": FRONT_END})
    assert response.text == "in"
    assert response.headers["Access-Control-Allow-Origin"] == FRONT_END
    assert names(response.headers["Access-Control-Expose-Headers"]) == EXPOSED
    assert "Access-Control-Allow-Credentials" not in response.headers
    assert response.headers.getlist("Vary") == ["Accept", "Origin"]


def test_a_question_before_a_request_is_answered_without_the_service(
    client: Client,
) -> None:
    asked = {
        "Origin": FRONT_END,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "if-match,x-user-id",
    }
    response = client.options("/api/orders/7/", HOST, headers=asked)
    assert (response.status_code, response.data) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == FRONT_END
    assert "PATCH" in names(response.headers["Access-Control-Allow-Methods"])
    allowed = response.headers["Access-Control-Allow-Headers"]
    assert names(allowed) == {"if-match", "x-user-id"}


@pytest.mark.parametrize("path", ["/ops/", "/functions/outbox_relay/", "/traces/"])
def test_the_console_and_what_is_internal_are_not_shared(
    client: Client, path: str
) -> None:
    asked = {"Origin": FRONT_END, "Access-Control-Request-Method": "POST"}
    for method in ("GET", "POST", "OPTIONS"):
        response = client.open(path, HOST, method=method, headers=asked)
        assert response.status_code == 403
        assert not any("Access-Control" in name for name, _ in response.headers)


def test_another_site_reads_nothing(client: Client) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    for method in ("GET", "OPTIONS"):
        response = client.open("/api/orders/", HOST, method=method, headers=asked)
        assert response.status_code == 403
        assert "Access-Control-Allow-Origin" not in response.headers


def test_a_cache_does_not_mix_up_who_asked(client: Client) -> None:
    response = client.get("/openapi.json", HOST)
    assert "Origin" in response.headers.getlist("Vary")
    assert "Access-Control-Allow-Origin" not in response.headers
