"""Each function as the platform starts it: a process, its variables, a real request."""

import json
import subprocess
import sys

import functions_framework
import pytest

from common import wiring
from tests.support.approvals import DELIVERED, completed, is_approved
from tests.support.bodies import status_event
from tests.support.processes import free_port
from tests.support.service import FUNCTIONS, Service, new_user
from tests.support.serving import (
    CHECKOUT,
    START_SECONDS,
    command,
    environment,
    send,
    served,
)

ROWS_AND_EVENTS = ["DATABASE_URL", "EVENT_BUS", "EVENT_SINK_URL"]
# What each cannot work without, beside what is optional.
NEEDS = {
    "create_order_from_cart": [*ROWS_AND_EVENTS, "SHOPCART_SERVICE", "PRODUCT_SERVICE"],
    "orders_crud": [*ROWS_AND_EVENTS, "PRODUCT_SERVICE"],
    "item_status": ROWS_AND_EVENTS,
    "approval_handler": ROWS_AND_EVENTS,
    "outbox_relay": ROWS_AND_EVENTS,
    "api_docs": [],
    "ops_console": [*ROWS_AND_EVENTS, "PRODUCT_SERVICE", "OPS_IDENTITY"],
}


def needed(service: Service, function: str) -> dict[str, str]:
    """Return the variables the function needs, and no other."""
    return environment(**{name: service.environ[name] for name in NEEDS[function]})


def test_create_order_from_cart_checks_out(service: Service, user: str) -> None:
    article = service.sandbox.add_article(amount=5)
    service.sandbox.add_to_cart(user, article, 2)
    function = "create_order_from_cart"
    with served(function, needed(service, function)) as url:
        path = f"{url}/api/orders-from-shopcart/"
        reply = send("POST", path, headers={"X-User-ID": user})
    assert reply.status_code == 201
    assert reply.json()["total_quantity"] == 2
    assert len(service.sandbox.events_of("order.created")) == 1


def test_orders_crud_answers_by_its_full_path(service: Service, user: str) -> None:
    order = service.ordered(user)
    with served("orders_crud", needed(service, "orders_crud")) as url:
        headers = {"X-User-ID": user}
        reply = send("GET", f"{url}/api/orders/{order['id']}", headers=headers)
        head = send("HEAD", f"{url}/api/orders/", headers=headers)
        absent = send("GET", f"{url}/api/nothing/", headers=headers)
    assert reply.json() == order
    assert (head.status_code, head.content) == (200, b"")
    assert absent.status_code == 404
    assert absent.headers["Content-Type"] == "application/problem+json"


def test_item_status_is_served_and_moves_an_item(service: Service, user: str) -> None:
    [item] = service.ordered(user)["items"]
    with served("item_status", needed(service, "item_status")) as url:
        path = f"{url}/api/order-items/{item['id']}/status/"
        headers = {"X-User-ID": new_user()}
        reply = send("PATCH", path, json={"status": 2}, headers=headers)
    assert (reply.status_code, reply.json()["status"]) == (200, 2)


def test_approval_handler_is_served_and_approves(service: Service, user: str) -> None:
    order = completed(service, user, DELIVERED)
    with served("approval_handler", needed(service, "approval_handler")) as url:
        assert send("POST", url, json=status_event(order["id"])).status_code == 204
    assert is_approved(service, order["id"])


def test_outbox_relay_is_served_and_sweeps(service: Service, user: str) -> None:
    order = completed(service, user, DELIVERED)
    with served("outbox_relay", needed(service, "outbox_relay")) as url:
        reply = send("POST", url)
    assert reply.json()["approved"] == [order["id"]]


def test_ops_console_is_served_to_operators(service: Service) -> None:
    with served("ops_console", needed(service, "ops_console")) as url:
        page = send("GET", f"{url}/ops/", headers={"X-Ops-Operator": "o@example.com"})
        refused = send("GET", f"{url}/ops/")
    assert "<h1>Status</h1>" in page.text
    assert refused.status_code == 401


def test_api_docs_are_served_without_any_setting() -> None:
    with served("api_docs", environment()) as url:
        document = send("GET", f"{url}/openapi.json").json()
        page = send("GET", f"{url}/api/schema/swagger-ui/")
    assert document["openapi"].startswith("3.1")
    assert page.status_code == 200


def run_python(
    script: str, environ: dict[str, str], *arguments: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env=environ,
        timeout=START_SECONDS,
    )


MISSING = [(function, name) for function, names in NEEDS.items() for name in names]
ANYWHERE = {
    "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/orders",
    "EVENT_BUS": "http",
    "EVENT_SINK_URL": "http://127.0.0.1:1",
    "SHOPCART_SERVICE": "http://127.0.0.1:1",
    "PRODUCT_SERVICE": "http://127.0.0.1:1",
    "OPS_IDENTITY": "header",
}


@pytest.mark.parametrize(("function", "name"), MISSING)
def test_without_what_it_needs_a_function_does_not_load_and_names_it(
    function: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each, value in ANYWHERE.items():
        monkeypatch.setenv(each, value)
    monkeypatch.delenv(name)
    if name == "EVENT_BUS":  # it would be inferred from the sink
        monkeypatch.delenv("EVENT_SINK_URL")
    wiring.close()
    with pytest.raises(SystemExit, match=f"^configuration error: {name} is not set"):
        functions_framework.create_app(function, str(FUNCTIONS / function / "main.py"))
    wiring.close()


def test_a_process_that_cannot_load_its_function_ends_with_one_line() -> None:
    done = subprocess.run(
        command("item_status", free_port()),
        check=False,
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env=environment(EVENT_BUS="http", EVENT_SINK_URL="http://127.0.0.1:1"),
        timeout=START_SECONDS,
    )
    assert done.returncode != 0
    [line] = done.stderr.splitlines()
    assert line.startswith("configuration error: DATABASE_URL is not set")
    assert done.stdout == ""


IMPORT = """
import functions_framework, json, sys, threading
known = set(sys.modules)
seen = []
WATCHED = ("socket.", "_thread.start_new_thread", "subprocess.", "os.fork")
sys.addaudithook(lambda event, _: event.startswith(WATCHED) and seen.append(event))
import importlib.util
spec = importlib.util.spec_from_file_location("main", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["main"] = module
spec.loader.exec_module(module)
seen = [event for event in seen if event != "socket.gethostname"]
heavy = {"pika", "requests", "urllib3", "google", "alembic", "grpc"}
loaded = {name.partition(".")[0] for name in set(sys.modules) - known} & heavy
print(json.dumps([seen, threading.active_count(), sorted(loaded)]))
"""


@pytest.mark.parametrize("function", NEEDS)
def test_loading_a_function_opens_starts_and_imports_little(function: str) -> None:
    settings = ANYWHERE | {
        "EVENT_BUS": "rabbitmq,http",
        "RABBITMQ_URL": "amqp://u:p@127.0.0.1",
        "ANALYTIC_SERVICE": "http://127.0.0.1:1",
    }
    source = f"functions/{function}/main.py"
    done = run_python(IMPORT, environment(**settings), source)
    assert json.loads(done.stdout) == [[], 1, []]
