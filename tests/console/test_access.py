"""Who comes in: signed assertions, roles; and whose forms are believed."""

import base64
import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from common.config.environment import ConfigError
from common.config.settings import load
from tests.support.console import OPERATOR, Console, Json, read
from tests.support.iap import AUDIENCE, Iap, running_iap
from tests.support.observed import nothing_written
from tests.support.service import Service
from tests.support.worker import eventually

HEADER = "X-Goog-IAP-JWT-Assertion"


@pytest.fixture(scope="module")
def iap() -> Iterator[Iap]:
    with running_iap() as running:
        yield running


def behind(iap: Iap, service: Service, path: str = "") -> Console:
    """Return a console behind identity-aware access, whose keys are at this path."""
    keys_url = iap.url + path
    service.set(
        OPS_IDENTITY="iap", OPS_IAP_AUDIENCE=AUDIENCE, OPS_IAP_KEYS_URL=keys_url
    )
    return Console(service, email=None)


@pytest.fixture
def guarded(service: Service, iap: Iap) -> Console:
    return behind(iap, service)


def test_signed_assertion_lets_an_operator_in(guarded: Console, iap: Iap) -> None:
    response = guarded.get("", **{HEADER: iap.assertion("Olga@Example.com")})
    assert response.status_code == 200
    assert OPERATOR in read(response).text


def test_keys_are_fetched_once(guarded: Console, iap: Iap) -> None:
    asked = iap.asked
    for kid in ("key-1", "key-1", "made-up", "made-up-too"):
        guarded.get("", **{HEADER: iap.assertion(OPERATOR, kid=kid)})
    assert iap.asked - asked <= 1


def test_slow_key_server_holds_up_nobody_whose_key_is_known(
    service: Service, iap: Iap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.console.access.KEYS_SECONDS", -1.0)
    guarded = behind(iap, service, "/old")
    signed = {HEADER: iap.assertion(OPERATOR)}
    assert guarded.get("", **signed).status_code == 200
    asked = iap.asked
    iap.may_answer.clear()
    try:
        started = time.monotonic()
        for _ in range(3):
            assert guarded.get("", **signed).status_code == 200
        assert time.monotonic() - started < 2
        eventually(lambda: iap.asked - asked == 1)
    finally:
        iap.may_answer.set()


def test_keys_that_cannot_be_had_let_nobody_in_and_are_not_waited_for_each_time(
    service: Service, iap: Iap
) -> None:
    guarded = behind(iap, service, "/slow")
    iap.may_answer.clear()
    asked = iap.asked
    try:
        with ThreadPoolExecutor(4) as pool:
            signed = {HEADER: iap.assertion(OPERATOR)}
            started = time.monotonic()
            replies = list(pool.map(lambda _: guarded.get("", **signed), range(4)))
    finally:
        iap.may_answer.set()
    assert time.monotonic() - started < 9
    assert [reply.status_code for reply in replies] == [401] * 4
    assert iap.asked - asked == 1


def unsigned(email: str) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {"email": email, "aud": AUDIENCE, "exp": time.time() + 600}
    return f"{part({'alg': 'none', 'kid': 'key-1'})}.{part(claims)}."


def forged(iap: Iap) -> dict[str, dict[str, str]]:
    """Return headers that vouch for nobody, by what is wrong."""
    other = ec.generate_private_key(ec.SECP256R1())
    past = int(time.time()) - 3600
    cases: dict[str, Json] = {
        "another service's audience": {"aud": AUDIENCE + "x"},
        "no audience": {"aud": None},
        "expired": {"exp": past},
        "no end": {"exp": None},
        "issued in the future": {"iat": int(time.time()) + 3600},
        "another issuer": {"iss": "https://accounts.google.com"},
        "no address": {"email": None},
        "another's key": {"key": other},
        "a key nobody told of": {"kid": "key-2"},
        "a key without an id": {"kid": ""},
    }
    signed = {
        name: {HEADER: iap.assertion(**({"email": OPERATOR} | case))}
        for name, case in cases.items()
    }
    hmac = jwt.encode(
        {"email": OPERATOR, "aud": AUDIENCE, "exp": past + 7200},
        "x" * 32,
        algorithm="HS256",
        headers={"kid": "key-1"},
    )
    rsa_key = rsa.generate_private_key(65537, 2048)
    rsa_signed = jwt.encode(
        {"email": OPERATOR, "aud": AUDIENCE, "exp": past + 7200},
        rsa_key,
        algorithm="RS256",
        headers={"kid": "key-1"},
    )
    return signed | {
        "another kind of key": {HEADER: rsa_signed},
        "nothing": {},
        "no signature": {HEADER: unsigned(OPERATOR)},
        "a secret's signature": {HEADER: hmac},
        "no token": {HEADER: "x"},
        "the local run's header": {"X-Ops-Operator": OPERATOR},
        "the unsigned header": {
            "X-Goog-Authenticated-User-Email": f"accounts.google.com:{OPERATOR}"
        },
    }


def test_whoever_nobody_vouches_for_is_kept_out(guarded: Console, iap: Iap) -> None:
    for name, headers in forged(iap).items():
        for path in ("", "orders/", "charts/orders-hours.svg", "do/approve/?order=1"):
            response = guarded.get(path, **headers)
            assert response.status_code == 401, (name, path)
            assert OPERATOR not in response.get_data(as_text=True)


FROM_THIS_MACHINE: dict[str, tuple[str, dict[str, str]]] = {
    "IPv4": ("127.0.0.1", {}),
    "another address of the loopback": ("127.0.0.2", {"Host": "127.0.0.1:8080"}),
    "IPv6": ("::1", {"Host": "[::1]:8080"}),
    "IPv4 on a socket for both": ("::ffff:127.0.0.1", {"Host": "LocalHost"}),
    "a prefix, which says nothing of the caller": (
        "127.0.0.1",
        {"X-Forwarded-Prefix": "/order"},
    ),
}
FROM_ELSEWHERE: dict[str, tuple[str, dict[str, str]]] = {
    "another machine": ("10.0.0.7", {}),
    "another machine, by IPv6": ("2001:db8::7", {}),
    "nobody knows where": ("", {}),
    "a proxy on this machine": ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}),
    "a proxy that tells the host": ("127.0.0.1", {"X-Forwarded-Host": "localhost"}),
    "a proxy that tells the scheme": ("127.0.0.1", {"X-Forwarded-Proto": "https"}),
    "a proxy by the standard": ("127.0.0.1", {"Forwarded": "for=127.0.0.1"}),
    "nginx": ("127.0.0.1", {"X-Real-IP": "127.0.0.1"}),
    "an intermediary": ("127.0.0.1", {"Via": "1.1 proxy"}),
    "a name that leads here": ("127.0.0.1", {"Host": "evil.example:8080"}),
    "a name that starts as ours": ("127.0.0.1", {"Host": "127.0.0.1.nip.io"}),
    "no name": ("127.0.0.1", {"Host": ""}),
}


@pytest.mark.parametrize("case", FROM_THIS_MACHINE)
def test_unsigned_header_is_believed_on_this_machine(
    console: Console, case: str
) -> None:
    peer, headers = FROM_THIS_MACHINE[case]
    response = console.client.get(
        "/ops/",
        headers=console.headers | headers,
        environ_overrides={"REMOTE_ADDR": peer},
    )
    assert response.status_code == 200


@pytest.mark.parametrize("path", ["", "orders/", "do/approve/?order=1&version=1"])
@pytest.mark.parametrize("case", FROM_ELSEWHERE)
def test_unsigned_header_from_elsewhere_lets_nobody_in(
    console: Console, case: str, path: str
) -> None:
    peer, headers = FROM_ELSEWHERE[case]
    response = console.client.get(
        f"/ops/{path}",
        headers=console.headers | headers,
        environ_overrides={"REMOTE_ADDR": peer},
    )
    assert response.status_code == 403
    assert "this machine" in read(response).text


def test_style_and_health_need_nobody(guarded: Console) -> None:
    assert guarded.get("console.css").status_code == 200
    assert guarded.client.get("/health/ready").status_code == 200


def test_only_listed_operators_act_viewers_look(service: Service, user: str) -> None:
    service.set(OPS_OPERATORS=OPERATOR, OPS_VIEWERS="vera@example.com")
    order = service.ordered(user, 1)
    path = f"orders/{order['id']}/"
    asked = f"do/delete-order/?order={order['id']}&version=1"
    operator = Console(service)
    viewer = Console(service, "vera@example.com")
    stranger = Console(service, "stranger@example.com")
    assert "Delete the order…" in operator.text(path)
    assert "Delete the order…" not in viewer.text(path)
    assert viewer.get(asked).status_code == 403
    assert stranger.get(path).status_code == 403
    fields = operator.form("delete-order", order=order["id"], version=1)
    assert viewer.send("delete-order", fields).status_code == 403


@pytest.fixture
def order(service: Service, user: str) -> Json:
    return service.ordered(user, 1)


def fields_of(console: Console, order: Json) -> dict[str, str]:
    item = order["items"][0]["id"]
    values = {"order": order["id"], "version": 1, "item": item, "status": 2}
    return console.form("move-item", **values)


def test_forged_form(service: Service, console: Console, order: Json) -> None:
    fields = fields_of(console, order)
    token = fields["token"]
    nonce, end, signature = token.split(".")
    with nothing_written(service):
        wrong = {
            "no token": {k: v for k, v in fields.items() if k != "token"},
            "made up": fields | {"token": f"{uuid.uuid4()}.{end}.{signature}"},
            "prolonged": fields | {"token": f"{nonce}.b{end[1:]}.{signature}"},
            "other values": fields | {"status": "4"},
            "no text": fields | {"token": "é" * 30},
        }
        for name, sent in wrong.items():
            response = console.send("move-item", sent)
            assert response.status_code == 403, name
            assert "open it again" in read(response).text
    assert not [a for a in console.actions() if a["order_id"] == order["id"]]


def test_form_of_another_browser_or_operator_does_nothing(
    service: Service, console: Console, order: Json
) -> None:
    fields = fields_of(console, order)
    other_browser = Console(service)
    assert other_browser.send("move-item", fields).status_code == 403
    fields_of(other_browser, order)  # with a cookie of its own
    assert other_browser.send("move-item", fields).status_code == 403
    console.headers = {"X-Ops-Operator": "other@example.com"}
    assert console.send("move-item", fields).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://localhost:8081"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
    ids=str,
)
def test_form_from_another_place_does_nothing(
    service: Service, console: Console, order: Json, headers: dict[str, str]
) -> None:
    fields = fields_of(console, order)
    with nothing_written(service):
        response = console.send("move-item", fields, **headers)
        assert response.status_code == 403


def test_old_form_does_nothing(
    console: Console, order: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.console.access.FORM_SECONDS", -1)
    response = console.send("move-item", fields_of(console, order))
    assert response.status_code == 403
    assert "too old" in read(response).text


def test_cookie_is_for_this_site_only_and_for_no_script(
    guarded: Console, iap: Iap, order: Json
) -> None:
    asked = f"do/delete-order/?order={order['id']}&version=1"
    signed = {HEADER: iap.assertion(OPERATOR)}
    cookie = guarded.get(asked, **signed).headers["Set-Cookie"]
    assert cookie.startswith("__Host-ops=")
    for trait in ("Secure", "HttpOnly", "SameSite=Strict", "Path=/"):
        assert trait in cookie


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "OPS_IDENTITY is not set"),
        ({"OPS_OPERATORS": OPERATOR}, "OPS_IDENTITY is not set"),
        ({"K_SERVICE": "ops-console"}, "OPS_IDENTITY is not set"),
        ({"RUNNING_ON_CLOUDRUN": "true"}, "OPS_IDENTITY is not set"),
        ({"K_SERVICE": "x", "OPS_IDENTITY": "header"}, "OPS_IDENTITY must be iap"),
        ({"OPS_IDENTITY": "iap"}, "OPS_IAP_AUDIENCE is missing"),
        ({"OPS_IDENTITY": "none"}, "OPS_IDENTITY must be one of"),
        (
            {"OPS_IDENTITY": "header", "OPS_OPERATORS": "olga"},
            "OPS_OPERATORS must be e-mail",
        ),
    ],
    ids=str,
)
def test_console_does_not_start_open(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(environ, needs=["OPS_IDENTITY"])
