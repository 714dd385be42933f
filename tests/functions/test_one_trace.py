"""One trace from the click to analytics, whatever lies between; with spans, without."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.support.rabbitmq import Broker
from tests.support.relay_worker import relay_worker
from tests.support.service import Service, new_user
from tests.support.serving import environment, send, served
from tests.support.traced import CALLER_SPAN, TRACE, TRACEPARENT, TRACESTATE, Collector
from tests.support.worker import CHECKOUT, eventually, ready, worker

DELIVERED = 3
STATUS = "order.item.status.updated"
CHECKOUT_ROUTE = "POST /api/orders-from-shopcart"
STATUS_ROUTE = "PATCH /api/order-items/<id:item_id>/status"


def click(service: Service, user: str) -> int:
    """Check out, and deliver what was ordered, all in the caller's trace."""
    article = service.sandbox.add_article(amount=10)
    service.sandbox.add_to_cart(user, article, 1)
    made = service.checkout(user, traceparent=TRACEPARENT, tracestate=TRACESTATE)
    assert made.status_code == 201, made.get_data(as_text=True)
    order = made.get_json()["order"]
    headers = {"traceparent": TRACEPARENT}
    moved = service.move(order["items"][0]["id"], DELIVERED, headers=headers)
    assert moved.status_code == 200, moved.get_data(as_text=True)
    order_id: int = order["id"]
    return order_id


def pass_on(service: Service) -> None:
    """Bring the sink's status event to the approval handler, as a trigger does."""
    [event] = service.sandbox.events_of(STATUS)
    done = service.call(
        "approval_handler", "POST", "/", headers=event.attributes, data=event.body
    )
    assert done.status_code == 204


def told_analytics(service: Service) -> str:
    """Return the traceparent that analytics was told with."""
    [call] = service.sandbox.calls_to("analytics")
    return call.headers["traceparent"]


@pytest.mark.parametrize("has_spans", [False, True])
def test_siblings_sink_and_analytics_hear_of_the_callers_trace(
    service: Service, user: str, collector: Collector, *, has_spans: bool
) -> None:
    if has_spans:
        service.set(**collector.environ)
    click(service, user)
    pass_on(service)
    calls = service.sandbox.calls_to("shopcart", "product")
    heard = [call.headers["traceparent"] for call in calls]
    heard += [event.attributes["traceparent"] for event in service.sandbox.events]
    heard.append(told_analytics(service))
    assert {each.split("-")[1] for each in heard} == {TRACE}
    assert {call.headers["tracestate"] for call in calls} == {TRACESTATE}
    # Who has no spans of their own passes on the caller's.
    assert ({each.split("-")[2] for each in heard} == {CALLER_SPAN}) is not has_spans


def test_one_trace_has_all(service: Service, user: str, collector: Collector) -> None:
    service.set(**collector.environ)
    click(service, user)
    pass_on(service)
    parent = told_analytics(service).split("-")[2]
    service.close()
    spans = collector.traces.spans()
    assert {span.trace_id for span in spans} == {TRACE}
    [last] = [span for span in spans if span.span_id == parent]
    assert collector.ancestry(last) == [
        ("approval_handler", last.name),
        ("approval_handler", f"process {STATUS}"),
        ("approval_handler", "POST /"),
        ("item_status", f"publish {STATUS}"),
        ("item_status", STATUS_ROUTE),
    ]
    assert collector.root_of(last) == CALLER_SPAN
    [checkout] = collector.named(CHECKOUT_ROUTE, "create_order_from_cart")
    below = {span.name: span for span in spans if span.parent_id == checkout.span_id}
    assert {"GET shopcart", "GET product", "store.save_new"} <= below.keys()
    assert {"publish order.created", "publish order.item.created"} <= below.keys()


def test_spans_say_what_is(service: Service, user: str, collector: Collector) -> None:
    service.set(**collector.environ)
    click(service, user)
    service.close()
    [server] = collector.named(CHECKOUT_ROUTE)
    assert server.kind == "server"
    assert server.attributes["http.request.method"] == "POST"
    assert server.attributes["http.route"] == "/api/orders-from-shopcart"
    assert server.attributes["http.response.status_code"] == "201"
    [published] = collector.named("publish order.created")
    assert published.kind == "producer"
    assert published.attributes["messaging.destination.name"] == "http"
    assert published.attributes["messaging.operation.type"] == "send"
    [event] = service.sandbox.events_of("order.created")
    assert published.attributes["messaging.message.id"] == event.id
    [asked] = collector.named("GET shopcart")
    assert asked.kind == "client"
    assert asked.attributes["http.response.status_code"] == "200"
    [stored] = collector.named("store.save_new")
    assert stored.attributes["db.system.name"] == "postgresql"


def test_what_a_sweep_sends_is_of_the_trace_it_waited_with_and_linked_to_the_sweep(
    service: Service, user: str, collector: Collector
) -> None:
    service.set(**collector.environ)
    service.sandbox.fault("sink", status=503)
    article = service.sandbox.add_article()
    body = {"items": [{"product_variation": article}]}
    headers = {"traceparent": TRACEPARENT}
    service.crud("POST", "/api/orders/", user, json=body, headers=headers)
    service.sandbox.mend()
    service.rows("UPDATE outbox SET available_at = now()")
    service.set()
    service.sweep()
    service.close()
    [failed, sent] = collector.named("publish order.item.created")
    assert (failed.is_error, sent.is_error) == (True, False)
    assert (failed.trace_id, sent.trace_id) == (TRACE, TRACE)
    [sweep] = collector.named("POST /", "outbox_relay")
    assert sent.links == (sweep.trace_id,)
    assert sweep.trace_id != TRACE


def test_the_trace_goes_through_a_real_broker_and_the_worker(
    service: Service,
    user: str,
    collector: Collector,
    rabbitmq_server: Broker,
    rabbitmq_channel: BlockingChannel,
) -> None:
    assert rabbitmq_channel.is_open
    settings = {**rabbitmq_server.environ, "EVENT_BUS": "rabbitmq"}
    service.set(**settings, **collector.environ)
    with worker(service, rabbitmq_server, **settings) as process:
        eventually(ready(rabbitmq_server))
        click(service, user)
        eventually(lambda: service.sandbox.calls_to("analytics"))
        eventually(lambda: collector.named(f"process {STATUS}"))
        process.terminate()
        process.wait(30)
    parent = told_analytics(service).split("-")[2]
    service.close()
    [last] = [s for s in collector.traces.spans(TRACE) if s.span_id == parent]
    assert collector.ancestry(last)[1:] == [
        ("approval_worker", f"process {STATUS}"),
        ("item_status", f"publish {STATUS}"),
        ("item_status", STATUS_ROUTE),
    ]
    assert collector.root_of(last) == CALLER_SPAN


def start(**environ: str) -> "subprocess.CompletedProcess[str]":
    program = "import sys; from common import wiring; wiring.start();"
    program += " from common.telemetry import tracing;"
    program += " print(tracing.is_on(), 'opentelemetry' in sys.modules)"
    return subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env={"PATH": os.defpath, **environ},
    )


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "False False\n"),
        (ENDPOINT, "True True\n"),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "true"}, "False False\n"),
    ],
)
def test_opentelemetry_is_loaded_if_asked(environ: dict[str, str], said: str) -> None:
    assert start(**environ).stdout == said


def test_a_missing_extra_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry.py").touch()  # in its place, and none of it
    done = start(PYTHONPATH=str(tmp_path), **ENDPOINT)
    assert done.returncode == 1
    assert done.stderr == (
        "configuration error: OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is"
        " not installed: install the extra otel, or set OTEL_SDK_DISABLED=true\n"
    )


def test_collector_that_is_away_holds_up_requests_briefly(service: Service) -> None:
    service.set(K_SERVICE="orders-crud", IDENTITY_SOURCE="header", **ENDPOINT)
    service.client("orders_crud")
    began = time.monotonic()
    for _ in range(20):  # the first waits half a second, the others not at all
        assert service.call("orders_crud", "GET", "/health/live").status_code == 200
    assert time.monotonic() - began < 6


@pytest.mark.parametrize("process", ["function", "worker"])
@pytest.mark.parametrize("collector", ["silent", "refusing"])
def test_a_collector_that_is_away_holds_up_no_end(
    service: Service, tmp_path: Path, *, collector: str, process: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if collector == "refusing":
            listener.close()
        telemetry = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        if process == "worker":
            with relay_worker(service, tmp_path / "log", **telemetry) as running:
                eventually(lambda: "backlog" in running.messages())
                began = time.monotonic()
                running.end()
        else:
            environ = environment(**service.environ | telemetry)
            with served("outbox_relay", environ) as url:
                assert send("POST", url).status_code == 200
                began = time.monotonic()
    assert time.monotonic() - began < 7  # the platform kills after 10 seconds


def test_spans_survive_a_process_s_end(service: Service, collector: Collector) -> None:
    slowly = {"OTEL_BSP_SCHEDULE_DELAY": "3600000"}
    environ = environment(**service.environ | collector.environ | slowly)
    with served("orders_crud", environ) as url:
        send("GET", f"{url}/api/orders/", headers={"X-User-ID": new_user()})
    assert collector.named("GET /api/orders")


def test_where_a_process_halts_between_requests_spans_are_there_with_the_answer(
    service: Service, collector: Collector
) -> None:
    service.set(
        **collector.environ | {"OTEL_BSP_SCHEDULE_DELAY": "3600000"},
        K_SERVICE="orders-crud",
        IDENTITY_SOURCE="header",
    )
    service.call("orders_crud", "GET", "/health/live")
    assert [span.name for span in collector.traces.spans()] == ["GET /health/live"]
