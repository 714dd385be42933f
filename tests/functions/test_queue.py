"""Requests that queue for a thread of a real server: who is still worth serving."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.admission import QUEUE_SECONDS, seconds_waited
from tests.support.service import Service
from tests.support.serving import environment, send, served

LATE_SECONDS = QUEUE_SECONDS + 1


def test_who_has_queued_too_long_is_told_to_come_back_and_health_is_answered(
    service: Service, user: str
) -> None:
    """One thread, which waits for a slow sibling while three others come."""
    article = service.sandbox.add_article(amount=5)
    service.sandbox.fault("product", delay_seconds=LATE_SECONDS, times=1)
    order = {"items": [{"product_variation": article, "quantity": 1}]}
    headers = {"X-User-ID": user}
    settings = environment(**service.environ) | {"THREADS": "1", "WORKERS": "1"}
    with served("orders_crud", settings) as url, ThreadPoolExecutor(4) as clients:
        orders = f"{url}/api/orders/"
        slow = clients.submit(send, "POST", orders, json=order, headers=headers)
        time.sleep(0.3)  # it has the thread
        queued = [
            clients.submit(send, "GET", each, headers=headers)
            for each in (orders, f"{url}/health/live", f"{url}/health/ready")
        ]
        refused, live, ready = (each.result() for each in queued)
        assert slow.result().status_code == 201
        assert send("GET", orders, headers=headers).status_code == 200
    assert refused.status_code == 503
    assert refused.json()["type"] == "/problems/busy"
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert int(refused.headers["Retry-After"]) >= 1
    assert "X-Request-ID" in refused.headers
    assert (live.status_code, ready.status_code) == (200, 200)


def test_the_wait_is_what_has_passed_since_the_last_bytes_came_in() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        client.sendall(b"first")
        time.sleep(0.5)  # nobody has accepted it so far
        link, _ = listener.accept()
        with link:
            waited = seconds_waited(link)
            assert 0.4 <= waited < 60
            link.recv(len(b"first"))
            client.sendall(b"second")
            link.recv(1, socket.MSG_PEEK)
            assert seconds_waited(link) < waited


@pytest.mark.parametrize("link", [None, "a link"])
def test_where_nobody_knows_all_may_pass(link: object) -> None:
    assert seconds_waited(link) == 0
    with socket.socket(socket.AF_UNIX) as pipe:
        assert seconds_waited(pipe) == 0
