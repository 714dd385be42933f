"""Which path a local run gives to which function, also as a process of its own."""

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from werkzeug.test import Client
from werkzeug.wrappers import Request, Response

from infra.local import serve
from infra.local.gateway import FUNCTIONS, Gateway
from infra.local.http_server import serving


def echo(name: str) -> Any:
    """Return an app that tells its name, the path it saw, and the prefix."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        prefix = environ.get("HTTP_X_FORWARDED_PREFIX", "")
        text = f"{name} {environ['PATH_INFO']} {prefix}".rstrip()
        return Response(text)(environ, start_response)

    return app


@pytest.fixture
def routed() -> Client:
    made = Gateway()
    made.sandbox = echo("sandbox")
    made.functions = {name: echo(name) for name in FUNCTIONS}
    return Client(made)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/api/orders-from-shopcart/", "create_order_from_cart"),
        ("/api/orders-from-shopcart", "create_order_from_cart"),
        ("/api/orders/", "orders_crud"),
        ("/api/orders/7", "orders_crud"),
        ("/api/order-items/9/", "orders_crud"),
        ("/api/order-items/9/status/", "item_status"),
        ("/api/order-items/9/status", "item_status"),
        ("/openapi.json", "api_docs"),
        ("/ops", "ops_console"),
        ("/ops/orders/7/", "ops_console"),
        ("/api/schema", "api_docs"),
        ("/api/schema/swagger-ui/", "api_docs"),
        ("/problems/", "api_docs"),
        ("/problems/busy", "api_docs"),
        ("/problems-and-more", "orders_crud"),
        ("/health/ready", "orders_crud"),
        ("/no/such/thing", "orders_crud"),
        ("/orders", "orders_crud"),
        ("/functions/no_such_function/", "orders_crud"),
        ("/events", "sandbox"),
        ("/sandbox/queues", "sandbox"),
    ],
)
def test_path_reaches_its_own_function(routed: Client, path: str, answer: str) -> None:
    assert routed.get(path).text == f"{answer} {path}"


def test_gateways_prefix_is_taken_off_and_named_in_header(routed: Client) -> None:
    prefixed = routed.get("/order/api/orders/7/")
    assert prefixed.text == "orders_crud /api/orders/7/ /order"
    # What is not public on the real platform is not to be reached through it.
    assert routed.get("/order/sandbox/queues").text.startswith("orders_crud")


def test_a_function_can_be_called_past_all_routing(routed: Client) -> None:
    assert routed.post("/functions/outbox_relay").text == "outbox_relay /"
    path = "/functions/item_status/health/live"
    assert routed.get(path).text == "item_status /health/live"


GONE = "http://127.0.0.1:1"


def tell(environ: dict[str, Any], start_response: Any) -> Any:
    """Return what was asked, as JSON, with headers that must not go any further."""
    request = Request(environ)
    told = {
        "method": request.method,
        "path": environ["PATH_INFO"].encode("latin-1").decode(),
        "query": environ["QUERY_STRING"],
        "body": request.get_data(as_text=True),
        "headers": {name.lower(): value for name, value in request.headers},
    }
    headers = {"ETag": '"7"', "Keep-Alive": "timeout=5", "Link": "</next>"}
    status = int(request.headers.get("X-Wanted", "200"))
    body = "" if status == 304 else json.dumps(told)
    return Response(body, status, headers)(environ, start_response)


@pytest.fixture
def gateway() -> Iterator[http.client.HTTPConnection]:
    """A gateway to one function that tells what it hears, and others that are gone."""
    with serving(tell) as url:
        where = dict.fromkeys(FUNCTIONS, GONE) | {"orders_crud": url}
        command = [f"--function={name}={address}" for name, address in where.items()]
        arguments = serve._arguments(
            ["gateway", "--port=0", f"--sandbox={url}", *command]
        )
        with serve._gateway(arguments) as server:
            server.start()
            connection = http.client.HTTPConnection(
                "127.0.0.1", urlsplit(server.url).port, timeout=10
            )
            yield connection
            connection.close()


def ask(
    connection: http.client.HTTPConnection,
    path: str,
    method: str = "GET",
    body: str | None = None,
    **headers: str,
) -> http.client.HTTPResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    return connection.getresponse()


def test_a_request_arrives_as_it_was_sent(gateway: http.client.HTTPConnection) -> None:
    path = "/api/orders/?limit=2&cursor=a%2Fb"
    told = json.load(ask(gateway, path, "POST", '{"a": 1}', X_User_ID="somebody"))
    assert (told["method"], told["path"]) == ("POST", "/api/orders/")
    assert told["query"] == "limit=2&cursor=a%2Fb"
    assert told["body"] == '{"a": 1}'
    assert told["headers"]["x-user-id"] == "somebody"


def test_a_function_sees_the_client_s_host_and_the_sandbox_its_own(
    gateway: http.client.HTTPConnection,
) -> None:
    told = json.load(ask(gateway, "/api/orders/"))["headers"]["host"]
    assert told == f"127.0.0.1:{gateway.port}"
    told = json.load(ask(gateway, "/sandbox/queues"))["headers"]["host"]
    assert told.startswith("127.0.0.1:")
    assert told != f"127.0.0.1:{gateway.port}"


def test_any_letters_survive_in_a_path(gateway: http.client.HTTPConnection) -> None:
    told = json.load(ask(gateway, "/api/orders/caf%C3%A9%20%25/"))
    assert told["path"] == "/api/orders/café %/"


def test_prefix_is_never_the_client_s(gateway: http.client.HTTPConnection) -> None:
    told = json.load(ask(gateway, "/order/api/orders/", X_Forwarded_Prefix="/evil"))
    assert told["path"] == "/api/orders/"
    assert told["headers"]["x-forwarded-prefix"] == "/order"
    told = json.load(ask(gateway, "/api/orders/", X_Forwarded_Prefix="/evil"))
    assert "x-forwarded-prefix" not in told["headers"]


@pytest.mark.parametrize("status", [200, 304, 409, 503])
def test_an_answer_comes_back_with_its_status_and_headers(
    gateway: http.client.HTTPConnection, status: int
) -> None:
    answer = ask(gateway, "/api/orders/", X_Wanted=str(status))
    content = answer.read()
    assert answer.status == status
    assert (answer.headers["ETag"], answer.headers["Link"]) == ('"7"', "</next>")
    assert "Keep-Alive" not in answer.headers
    assert bool(content) is (status != 304)


def test_head_keeps_the_connection_open(gateway: http.client.HTTPConnection) -> None:
    answer = ask(gateway, "/api/orders/", "HEAD")
    assert (answer.status, answer.read()) == (200, b"")
    assert ask(gateway, "/api/orders/").read()


def test_absent_function_is_named_by_502(gateway: http.client.HTTPConnection) -> None:
    answer = ask(gateway, "/openapi.json")
    assert answer.status == 502
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.load(answer)["detail"] == f"nobody answers at {GONE}"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "--function: once each of"),
        (["--function=no_such=http://x"], "is no NAME=URL of a function"),
        (["--function=item_status=ftp://x"], "is no NAME=URL of a function"),
    ],
    ids=str,
)
def test_a_gateway_that_cannot_reach_every_function_does_not_start(
    more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        serve.main(["gateway", "--sandbox=http://x", *more])
    assert said in capsys.readouterr().err


def test_a_sandbox_without_a_broker_says_which_variable_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("RABBITMQ_URL", "RABBITMQ_HOST"):
        monkeypatch.delenv(name, raising=False)
    assert serve.main(["sandbox", f"--data={tmp_path}"]) == 1
    assert "RABBITMQ_URL is not set" in capsys.readouterr().err
