"""Whatever a query, a form, a path or a header says: a page, and no failure of ours."""

import sys
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus, urlencode

import pytest
from werkzeug.test import TestResponse

from common.console import access, audit
from common.console.catalogue import ACTIONS
from common.console.lists import LISTS
from common.errors import DatabaseUnavailableError
from infra.local.sandbox.catalogue import MUG
from tests.support.console import OPERATOR, ORIGIN, Console, read
from tests.support.service import Service, new_user

# As they stand in an address: bytes that are no text must get there, too.
NASTY = (
    *("", "%20", "%00", "a%00b", "1%00", "%0A", "%7F", "%FF", "%ED%A0%80", "%C3%28"),
    *("0", "-1", "+1", "00", "1.0", "1e3", "0x1", "%D9%A3", "NaN", "infinity"),
    *("2147483648", "9223372036854775807", "9223372036854775808", "9" * 400),
    *("0001-01-01T00:00", "9999-12-31T23:59", "0001-01-01", "9999-12-31"),
    *("0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "2025-02-30T00:00"),
    *("0001-01-01T00:03Z", "9999-12-31T23:58Z", "-infinity", "4714-11-24T00:00"),
    *("00000000-0000-0000-0000-000000000000", "f" * 32, "true", "TRUE", "null", "{}"),
    *("%3Cscript%3E", "'%20OR%201=1--", "%25", "..%2F..", "%E2%80%AE", "x" * 5000),
)
PAGED = ("limit", "cursor")
QUERIES = {
    "": (),
    "console.css": ("v",),
    "search/": ("q",),
    "charts/orders-hours/": (),
    "charts/orders-hours.svg": (),
    "orders/": (*LISTS["orders"].filters, *PAGED),
    "events/": (*LISTS["events"].filters, *PAGED),
    "letters/": (*LISTS["letters"].filters, *PAGED),
    "actions/": (*LISTS["actions"].filters, *PAGED),
    "orders.csv": (*LISTS["orders"].filters, *PAGED, "resume"),
    "events.ndjson": (*LISTS["events"].filters, *PAGED, "resume"),
    "orders/1/": ("before", "limit", "cursor"),
    "do/approve/": (),  # its values are those of the actions, below
}
ID = "00000000-0000-0000-0000-00000000000f"
PATHS = {  # and what they would match
    "charts/{}/": "orders-hours",
    "charts/{}.svg": "orders-hours",
    "{}/": "orders",
    "{}.csv": "orders",
    "orders.{}": "csv",
    "orders/{}/": "1",
    "events/{}/" + ID: "1",
    "events/1/{}/": ID,
    "letters/{}/": "1",
    "actions/{}/": "1",
    "do/{}/": "approve",
}
VALUES = [
    (action.name, value) for action in ACTIONS.values() for value in action.values
]


@dataclass
class Target:
    """An order, an event and a dead letter that actions are about."""

    service: Service
    console: Console
    values: dict[str, str] = field(default_factory=dict)

    def good(self, action: str) -> dict[str, str]:
        """Return values with which the action would be done."""
        version = self.console.version({"id": self.values["order"]})
        current = self.values | {"version": str(version)}
        return {name: current[name] for name in ACTIONS[action].values}

    def ask(self, path: str, query: str = "") -> TestResponse:
        """Ask for a page, its query as it stands in an address."""
        return self.console.client.get(
            f"/ops/{path}?{query}", headers=self.console.headers
        )

    def send(
        self, action: str, values: dict[str, str], body: str, **headers: str
    ) -> TestResponse:
        """Send a form that is signed for `values`, its body as it is."""
        cookie = access.new_cookie()
        token = access.sign(access.Form(OPERATOR, action, values), cookie)
        self.console.client.set_cookie("ops", cookie)
        return self.console.client.post(
            f"/ops/do/{action}/",
            data=f"{body}&{urlencode({'token': token})}",
            content_type="application/x-www-form-urlencoded",
            headers=self.console.headers | {"Origin": ORIGIN} | headers,
        )


@pytest.fixture(scope="module")
def target(shared: Service) -> Target:
    order = shared.ordered(new_user(), 1)
    [row] = shared.rows(
        "SELECT event_id, destination FROM sent_events WHERE order_id = :id LIMIT 1",
        id=order["id"],
    )
    [letter] = shared.rows(
        "INSERT INTO dead_letters (source, reason, event_type, body)"
        " VALUES ('approval', 'a test', 'order.created', '') RETURNING id"
    )
    values = {
        "order": order["id"],
        "version": 1,
        "item": order["items"][0]["id"],
        "status": 2,
        "quantity": 1,
        "key": "note",
        "value": "text",
        "event": row["event_id"],
        "destination": row["destination"],
        "letter": letter["id"],
        "variation": MUG,
        "source": "approval",
        "cause": "a test",
        "up_to": letter["id"],
    }
    made = {name: str(value) for name, value in values.items()}
    return Target(shared, Console(shared), made)


def failure(response: TestResponse) -> Any:
    """Return what is wrong with a response, None if it is a page of 2xx to 4xx."""
    text = response.get_data(as_text=True)
    kinds = ("text/html", "text/css", "image/svg+xml", "text/csv")
    is_page = response.mimetype in (*kinds, "application/x-ndjson")
    if response.status_code == 303 or (response.status_code < 500 and is_page):
        return None
    return response.status_code, text[:300]


def test_every_page_is_tried(target: Target) -> None:
    assert target.console
    urls = sys.modules["main"].app.url_map
    paths = [*QUERIES, *(path.format(good) for path, good in PATHS.items())]
    adapter = urls.bind("localhost")
    tried = {adapter.match(f"/ops/{path}".rstrip("/"))[0] for path in paths} | {"act"}
    assert tried == {rule.endpoint for rule in urls.iter_rules() if "/ops" in rule.rule}


@pytest.mark.parametrize(
    ("path", "name"),
    [(path, name) for path, names in QUERIES.items() for name in names],
)
def test_no_parameter_makes_a_page_fail(target: Target, path: str, name: str) -> None:
    queries = [f"{name}={value}" for value in NASTY]
    queries += [f"{name}=1&{name}=2", f"{name}=&{name}=", f"{name}", f"{name}[]=1"]
    wrong = {query: failure(target.ask(path, query)) for query in queries}
    assert {query: found for query, found in wrong.items() if found} == {}


@pytest.mark.parametrize("path", PATHS)
def test_no_path_makes_a_page_fail(target: Target, path: str) -> None:
    wrong = {value: failure(target.ask(path.format(value))) for value in NASTY}
    assert {value: found for value, found in wrong.items() if found} == {}


@pytest.mark.parametrize(("action", "name"), VALUES)
def test_no_value_makes_the_page_of_an_action_fail(
    target: Target, action: str, name: str
) -> None:
    good = target.good(action)
    others = urlencode({key: value for key, value in good.items() if key != name})
    queries = [f"{others}&{name}={value}" for value in NASTY]
    queries += [others, f"{others}&{name}={good[name]}&{name}=2"]
    wrong = {query: failure(target.ask(f"do/{action}/", query)) for query in queries}
    assert {query: found for query, found in wrong.items() if found} == {}


def test_every_wrong_value_of_an_action_is_named(target: Target) -> None:
    response = target.ask("do/move-item/", "order=x&item=0&status=1&status=2")
    assert response.status_code == 400
    text = response.get_data(as_text=True)
    for name, rule in (
        ("order", "must be a whole number"),
        ("version", "is required"),
        ("item", "must be a whole number"),
    ):
        assert f"{name}: {rule}" in text
    assert "and 1 more" in text


def decoded(value: str) -> str:
    """Return a value of NASTY as a form's reader sees it."""
    return unquote_plus(value, errors="replace").strip()


@pytest.mark.parametrize(("action", "name"), VALUES)
def test_no_field_makes_a_form_fail(target: Target, action: str, name: str) -> None:
    """Its token is valid, as if the page before had let the value pass."""
    wrong = {}
    for value in (*NASTY, f"1&{name}=2"):
        good = target.good(action)
        others = urlencode({key: each for key, each in good.items() if key != name})
        given = good | {name: decoded(value.partition("&")[0])}
        body = f"{others}&{name}={value}&reason=because"
        wrong[value] = failure(target.send(action, given, body))
    assert {value: found for value, found in wrong.items() if found} == {}


@pytest.mark.parametrize("name", ["token", "reason"])
def test_no_token_or_reason_makes_a_form_fail(target: Target, name: str) -> None:
    good = target.good("move-item") | {"version": "999"}
    wrong = {}
    for value in NASTY:
        body = urlencode(good | {"reason": "because"}) + f"&{name}={value}"
        response = target.send("move-item", good, f"{name}={value}&{body}")
        wrong[value] = failure(response)
    assert {value: found for value, found in wrong.items() if found} == {}


ODD = ("", "[", "http://[", "http://[::1", "http://a:b:c", "http://x:99999999", "\xff")
ODD += ("//", "null", "http://", "\x7f", "x" * 9000, "http://localhost@evil.example")
HEADERS = ("Origin", "Host", "Sec-Fetch-Site", "Referer", "Cookie", "X-Request-ID")
HEADERS += ("X-Ops-Operator", "X-Forwarded-Prefix", "Traceparent", "Content-Type")
HEADERS += ("Accept", "Content-Encoding", "If-None-Match", "X-Goog-IAP-JWT-Assertion")


@pytest.mark.parametrize("header", HEADERS)
def test_no_header_makes_a_page_or_a_form_fail(target: Target, header: str) -> None:
    good = target.good("move-item") | {"version": "999"}
    body = urlencode(good | {"reason": "because"})
    wrong = {}
    for value in (*ODD, f"{ODD[0]}\x00", "ops=\x00", "é@\x00x", "é@x"):
        key = f"HTTP_{header.upper().replace('-', '_')}"
        environ = {key.replace("HTTP_CONTENT_TYPE", "CONTENT_TYPE"): value}
        for method, path in (("GET", "orders/"), ("POST", "do/move-item/")):
            response = target.console.client.open(
                f"/ops/{path}",
                method=method,
                data=body if method == "POST" else None,
                headers=target.console.headers | {"Origin": ORIGIN},
                environ_overrides=environ,
            )
            wrong[method, value] = failure(response)
    assert {value: found for value, found in wrong.items() if found} == {}


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("events/", "type=%00", 400),
        ("events/", "destination=http%00", 400),
        ("orders/", "created_after=0001-01-01T00:00", 400),
        ("orders/", "created_before=9999-12-31T23:59", 400),
        ("do/discard-letter/", "letter=0", 400),
        ("do/discard-letter/", "letter=1&letter=2", 400),
        ("do/resend-event/", f"order=0&event={ID}&destination=http", 400),
        ("do/no-such-action/", "", 404),
    ],
)
def test_what_is_wrong_with_a_query_is_told(
    target: Target, path: str, query: str, status: int
) -> None:
    response = target.ask(path, query)
    assert response.status_code == status
    assert "Nothing was done" in read(response).text


@pytest.mark.parametrize("origin", ["http://[", "http://a:b:c", "", "null"])
def test_an_odd_origin_is_another_site_s(target: Target, origin: str) -> None:
    good = target.good("move-item")
    body = urlencode(good | {"reason": "because"})
    response = target.send("move-item", good, body, Origin=origin)
    assert response.status_code == 403
    assert "Nothing was done" in read(response).text


def test_nothing_is_said_to_be_undone_that_may_have_been_done(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    perform = audit.perform

    def fails_afterwards(*arguments: Any) -> int:
        perform(*arguments)
        raise DatabaseUnavailableError

    good = target.good("set-metadata") | {"value": "a value of its own"}
    body = urlencode(good | {"reason": "because"})
    with monkeypatch.context() as patched:
        patched.setattr(audit, "perform", fails_afterwards)
        response = target.send("set-metadata", good, body)
    assert response.status_code == 503
    assert "Nothing was done" not in read(response).text
    assert "/ops/actions/" in read(response).links
    assert target.good("set-metadata")["version"] != good["version"]
