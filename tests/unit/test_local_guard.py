"""Which hosts and which pages the local platform serves: its own."""

import http.client
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from werkzeug.wrappers import Response

from infra.local.guard import guarded
from infra.local.http_server import serving

API, CONSOLE = "/api/orders/7/", "/ops/do/delete-order/"
PATHS = (API, CONSOLE, "/", "/sandbox/faults/product", "/functions/outbox_relay/")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server that says "in" to each request that it lets in."""
    with serving(guarded(Response("in"), names=["sandbox"])) as url:
        yield urlsplit(url).port or 0


def status(port: int, method: str, path: str, **headers: str) -> int:
    """Return the status of a request with these headers, PORT in them filled in."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    sent = {"Host": "127.0.0.1:PORT"} | headers
    for name, value in sent.items():
        connection.putheader(name.replace("_", "-"), value.replace("PORT", str(port)))
    connection.endheaders()
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    if response.status == 200:
        assert body == "in"
    else:
        assert response.headers["Content-Type"] == "application/problem+json"
        assert "local platform" in body
    return response.status


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_whoever_is_no_browser_is_served(port: int, method: str, path: str) -> None:
    assert status(port, method, path) == 200


@pytest.mark.parametrize(
    "host", ["localhost:PORT", "127.0.0.1:PORT", "[::1]:PORT", "LocalHost:PORT"]
)
def test_its_own_names_are_served(port: int, host: str) -> None:
    assert status(port, "GET", API, Host=host) == 200
    assert status(port, "GET", API, Host="sandbox:PORT") == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example:PORT", "evil.example", "", "localhost", "127.0.0.1:1"),
        *(
            "127.0.0.1.nip.io:PORT",
            "localhost.evil.example:PORT",
            "evil@localhost:PORT",
        ),
        *("127.0.0.1:PORT, evil.example", "10.0.0.7:PORT", "[::1", "localhost:PORT/x"),
        *("0.0.0.0:PORT", "2130706433:PORT", "sandboxes:PORT", "127.0.0.1:PORT\t.x"),
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_a_name_that_somebody_else_leads_here_is_misdirected(
    port: int, host: str, path: str
) -> None:
    assert status(port, "DELETE", path, Host=host) == 421
    # A page of that name thinks that it is of the same origin.
    same = {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert status(port, "POST", path, Host=host, **same) == 421


OTHERS = ("https://evil.example", "null", "http://127.0.0.1.evil.example:PORT", "[", "")
OWN = "http://localhost:PORT"
OTHERS += (f"{OWN}@evil.example", "http://localhost:x", "file://")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("origin", OTHERS)
def test_another_site_s_page_is_refused(port: int, origin: str, path: str) -> None:
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        assert status(port, method, path, Origin=origin) == 403
        sent = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
        assert status(port, method, path, **sent) == 403


@pytest.mark.parametrize("path", PATHS)
def test_what_another_site_s_page_embeds_is_refused(port: int, path: str) -> None:
    for mode in ("no-cors", "cors", "websocket"):
        sent = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": mode}
        assert status(port, "GET", path, **sent) == 403
    framed = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert status(port, "GET", path, **framed, Sec_Fetch_Dest="iframe") == 403
    assert status(port, "POST", path, **framed, Sec_Fetch_Dest="document") == 403


@pytest.mark.parametrize("path", PATHS)
def test_a_link_from_another_site_can_be_followed(port: int, path: str) -> None:
    sent = {
        "Sec_Fetch_Site": "cross-site",
        "Sec_Fetch_Mode": "navigate",
        "Sec_Fetch_Dest": "document",
    }
    assert status(port, "GET", path, **sent) == 200


@pytest.mark.parametrize("path", PATHS)
def test_its_own_pages_may_do_everything(port: int, path: str) -> None:
    for name in ("localhost", "127.0.0.1", "[::1]"):
        host = f"{name}:PORT"
        own = {"Origin": f"http://{host}", "Sec_Fetch_Site": "same-origin"}
        assert status(port, "POST", path, Host=host, **own) == 200
    assert status(port, "GET", path, Sec_Fetch_Site="none") == 200
    assert status(port, "GET", path, Sec_Fetch_Site="same-origin") == 200


@pytest.mark.parametrize("origin", ["http://localhost:5173", "https://127.0.0.1:3000"])
def test_a_front_end_on_this_machine_may_use_the_api_but_no_console(
    port: int, origin: str
) -> None:
    for site in ("same-site", "cross-site"):
        sent = {"Origin": origin, "Sec-Fetch-Site": site}
        for path in (API, "/order/api/orders/", "/sandbox/shopcart/api/mycart/"):
            assert status(port, "POST", path, Host="localhost:PORT", **sent) == 200
        for path in (
            *(CONSOLE, "/order/ops/do/x/", "/functions/outbox_relay/", "/ops"),
            *("/ops/do/x%0A", "/traces/v1/traces", "/events"),
        ):
            assert status(port, "POST", path, Host="localhost:PORT", **sent) == 403
    embedded = {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors"}
    assert status(port, "GET", API, **embedded) == 200
    assert status(port, "GET", "/ops/", **embedded) == 403
