"""The pages at /traces/ of a local run: what was done, from the click to analytics."""

import re

import pytest
import requests

from tests.support.service import Service
from tests.support.traced import TRACE, TRACEPARENT, Collector


@pytest.fixture
def clicked(service: Service, user: str, collector: Collector) -> Collector:
    """A collector that has seen a checkout, a health check and a sweep."""
    service.set(**collector.environ)
    service.sandbox.add_to_cart(user, service.sandbox.add_article(amount=10), 1)
    service.checkout(user, traceparent=TRACEPARENT)
    service.call("orders_crud", "GET", "/health/live")
    service.sweep()
    service.close()
    return collector


def page(collector: Collector, path: str) -> requests.Response:
    return requests.get(f"{collector.url}{path}", timeout=30)


def test_the_list_names_what_somebody_did_and_nothing_else(clicked: Collector) -> None:
    found = page(clicked, "/traces/")
    assert found.status_code == 200
    assert re.findall(r'href="(/traces/[^"]+)"', found.text) == [f"/traces/{TRACE}/"]
    assert "POST /api/orders-from-shopcart" in found.text
    assert "/health/live" not in found.text


def test_a_trace_is_a_waterfall_of_its_spans(clicked: Collector) -> None:
    text = page(clicked, f"/traces/{TRACE}/").text
    order = [
        text.index(f"<summary>{name}")
        for name in (
            "POST /api/orders-from-shopcart",
            "GET shopcart",
            "GET product",
            "store.save_new",
            "publish order.created",
        )
    ]
    assert order == sorted(order)
    assert text.count("<rect") == len(clicked.traces.spans(TRACE))


def test_the_pages_load_nothing_and_run_nothing(clicked: Collector) -> None:
    for path in ("/traces/", f"/traces/{TRACE}/"):
        found = page(clicked, path)
        assert "default-src 'none'" in found.headers["Content-Security-Policy"]
        assert not re.search(r"<script|<link|<img|https?://|url\(", found.text)


def test_spans_are_no_html(service: Service, user: str, collector: Collector) -> None:
    service.set(**collector.environ, OTEL_SERVICE_NAME="<b>bold</b>")
    service.crud("GET", "/api/orders/", user, headers={"traceparent": TRACEPARENT})
    service.close()
    text = page(collector, f"/traces/{TRACE}/").text
    assert "&lt;b&gt;bold" in text
    assert "<b>" not in text


@pytest.mark.parametrize("path", ["/traces/0af7/", f"/traces/{'0' * 32}/", "/traces/x"])
def test_a_trace_that_is_not_known_is_a_404(collector: Collector, path: str) -> None:
    assert page(collector, path).status_code == 404
    assert "None yet" in page(collector, "/traces/").text


def test_what_is_sent_after_the_response_stands_apart(
    service: Service, user: str, collector: Collector
) -> None:
    service.set(**collector.environ, EVENT_SINK_URL="http://sink.invalid")
    service.sandbox.add_to_cart(user, service.sandbox.add_article(amount=10), 1)
    service.checkout(user, traceparent=TRACEPARENT)
    service.rows("UPDATE outbox SET available_at = now()")
    service.set(EVENT_SINK_URL=f"{service.sandbox.url}/events")
    service.sweep()
    service.close()
    text = page(collector, f"/traces/{TRACE}/").text
    request, later = text.split("<h2>")[1:]
    assert "<summary>POST /api/orders-from-shopcart" in request
    assert "<summary>publish order.created" in later
    assert "<summary>POST" not in later
    assert text.count("<rect") == len(collector.traces.spans(TRACE))
    [took] = re.findall(r"<dt>Took<dd>([0-9.]+) ms", text)
    [of_request] = re.findall(
        r"<summary>POST /api/orders.*?>([0-9.]+) ms<", request, re.DOTALL
    )
    assert took == of_request
