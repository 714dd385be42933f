"""Who calls: the gateway's headers, its token, and what is never believed."""

import base64
import json
import time
from typing import Any

import jwt
import pytest
from werkzeug.datastructures import Headers

from common.config import settings as config
from common.config.environment import ConfigError
from common.config.settings import Settings
from common.errors import UnauthenticatedError
from common.web.identity import Caller, identify
from tests.support.bodies import SHOP, USER
from tests.support.factories import OWNER, STRANGER
from tests.support.factories import SHOP as SHOP_ID

SECRET = "gateway-secret-of-at-least-64-bytes-so-that-any-hmac-takes-it-gladly"
USERINFO = "X-Apigateway-Api-Userinfo"


def settings(**environ: str) -> Settings:
    return config.load(environ, needs=())


VERIFYING = settings(GATEWAY_JWT_SECRET=SECRET)
API_GATEWAY = settings(IDENTITY_SOURCE="apigateway")
UNSETTLED = settings(RUNNING_ON_CLOUDRUN="true")


def token(secret: str | None = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """Return a token of the owner's for the next minute; None removes a claim."""
    payload = {"sub": USER, "exp": int(time.time()) + 60} | claims
    payload = {name: claim for name, claim in payload.items() if claim is not None}
    return jwt.encode(payload, secret, algorithm=algorithm)


def signed(claims: dict[str, Any]) -> str:
    """Return a token with exactly these claims, whatever they are."""
    return jwt.PyJWS().encode(json.dumps(claims).encode(), SECRET, algorithm="HS256")


def bearing(authorization: str, user: str = USER, **more: str) -> Headers:
    more = {name.replace("_", "-"): value for name, value in more.items()}
    return Headers({"X-User-ID": user, "Authorization": authorization, **more})


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_good_token_names_the_caller(scheme: str) -> None:
    caller = identify(bearing(f"{scheme} {token()}"), VERIFYING)
    assert caller == Caller(OWNER, shop_id=None, has_token=True)


ODD: list[object] = [0, 4_000_000_000, -1.5, "", "x", True, [], [None], {"a": {}}]


@pytest.mark.parametrize("claim", ["aud", "iat", "iss", "jti", "kid", "name", "typ"])
def test_what_the_gateway_adds_for_others_is_not_judged(claim: str) -> None:
    for value in ODD:
        # Encoded by hand, because the library refuses to write some of them.
        odd = signed({"sub": USER, "exp": int(time.time()) + 60, claim: value})
        assert identify(bearing(f"Bearer {odd}"), VERIFYING).has_token, value


@pytest.mark.parametrize(("claim", "seconds"), [("exp", 0), ("nbf", 8), ("nbf", -60)])
def test_clocks_may_be_ten_seconds_apart(claim: str, seconds: int) -> None:
    near = token(**{claim: int(time.time()) + seconds})
    assert identify(bearing(f"Bearer {near}"), VERIFYING).has_token


@pytest.mark.parametrize("seconds", [0.5, 59.75, 1e12])
def test_a_time_may_have_a_fraction(seconds: float) -> None:
    exact = signed({"sub": USER, "exp": time.time() + seconds, "nbf": -0.5})
    assert identify(bearing(f"Bearer {exact}"), VERIFYING).has_token


@pytest.mark.parametrize(("claim", "seconds"), [("exp", -11), ("nbf", 120)])
def test_clocks_may_not_be_further_apart(claim: str, seconds: int) -> None:
    far = token(**{claim: int(time.time()) + seconds})
    with pytest.raises(UnauthenticatedError):
        identify(bearing(f"Bearer {far}"), VERIFYING)


@pytest.mark.parametrize("claim", ["exp", "nbf"])
@pytest.mark.parametrize(
    "value",
    [
        *(None, "soon", [], {}, float("inf"), float("nan"), True, False, ""),
        # Texts that only resemble a number: the right time for `exp`, and for `nbf`.
        *("9999999999", "9_999_999_999", "\u0669" * 10, " 1", "1", "-1", "1e10"),
    ],
)
def test_a_time_that_is_none_is_refused(claim: str, value: object) -> None:
    claims = {"sub": USER, "exp": int(time.time()) + 60} | {claim: value}
    with pytest.raises(UnauthenticatedError):
        identify(bearing(f"Bearer {signed(claims)}"), VERIFYING)


@pytest.mark.parametrize("shop", [5, "", "x", [SHOP], {"id": SHOP}])
def test_a_claim_that_is_no_uuid_names_no_shop(shop: object) -> None:
    caller = identify(bearing(f"Bearer {token(shop_uuid=shop)}"), VERIFYING)
    assert caller.shop_id is None


def forged(**changes: str) -> str:
    """Return a token whose header or claims were changed without the secret."""
    *parts, signature = token(sub=str(STRANGER)).split(".")
    decoded = [json.loads(base64.urlsafe_b64decode(f"{part}==")) for part in parts]
    for name, value in changes.items():
        decoded[name != "alg"][name] = value
    texts = [base64.urlsafe_b64encode(json.dumps(each).encode()) for each in decoded]
    return ".".join([*(text.decode().rstrip("=") for text in texts), signature])


DEEP = base64.urlsafe_b64encode(b"[" * 6000).decode()
# Others: tests/support/callers.py, by way of the table of access.
BAD_TOKENS = {
    "alg None, signed": forged(alg="None", sub=USER),
    "forged": forged(sub=USER),
    "expired": token(exp=int(time.time()) - 60),
    "exp is no number": token(exp="tomorrow"),
    "sub is no string": token(sub=5),
    "sub is no uuid": token(sub="me"),
    "not yet": token(nbf=int(time.time()) + 3600),
    "two parts": token().rpartition(".")[0],
    "garbage": "garbage",
    "dots": "..",
    "not ascii": "é.é.é",
    "nested deeply": f"{DEEP}.{DEEP}.{DEEP}",
}


@pytest.mark.parametrize("bad", BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
@pytest.mark.parametrize("accepts_internal", [False, True])
def test_a_bad_token_is_refused(bad: str, *, accepts_internal: bool) -> None:
    headers = bearing(f"Bearer {bad}")
    with pytest.raises(UnauthenticatedError):
        identify(headers, VERIFYING, accepts_internal=accepts_internal)


@pytest.mark.parametrize("form", ["{}", "Basic {}", "Token {}", "Bearer,{}", " {}"])
def test_a_good_token_that_is_not_a_bearers_is_refused(form: str) -> None:
    with pytest.raises(UnauthenticatedError):
        identify(bearing(form.format(token())), VERIFYING)


def userinfo(claims: object) -> Headers:
    raw = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return Headers({USERINFO: base64.urlsafe_b64encode(raw).decode()})


@pytest.mark.parametrize("padding", ["", "=", "=="])
def test_api_gateways_claims_are_read_with_and_without_padding(padding: str) -> None:
    claims = json.dumps({"sub": USER, "shop_uuid": SHOP, "name": "ÿ?"}).encode()
    encoded = base64.urlsafe_b64encode(claims + b" " * len(padding)).decode()
    caller = identify(Headers({USERINFO: encoded.rstrip("=")}), API_GATEWAY)
    assert caller == Caller(OWNER, SHOP_ID, has_token=True)
    assert identify(Headers({USERINFO: encoded}), API_GATEWAY) == caller


@pytest.mark.parametrize(
    "claims",
    [{}, {"sub": 5}, {"sub": "me"}, [], "x", b"\xff", b"{", b'{"sub": ' + b"[" * 6000],
)
def test_malformed_claims_of_the_api_gateway_are_refused(claims: object) -> None:
    with pytest.raises(UnauthenticatedError, match="claims"):
        identify(userinfo(claims), API_GATEWAY, accepts_internal=True)


def encoded(**claims: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()


# Python's decoder skips letters that are none of base64's.
@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "!",
        "a",
        "é",
        "=",
        encoded(sub=USER) + "===",
        encoded(sub=USER) + " ",
        " " + encoded(sub=USER),
        encoded(sub=USER)[:10] + "," + encoded(sub=USER)[10:],
        encoded(sub=USER, name="?" * 9).replace("_", "/"),
        f"{encoded(sub=USER).rstrip('=')},{encoded(sub=USER)}",
    ],
)
def test_claims_that_are_no_base64_are_refused(encoded: str) -> None:
    with pytest.raises(UnauthenticatedError, match="malformed"):
        identify(Headers({USERINFO: encoded}), API_GATEWAY)


def test_where_nobody_said_whom_to_believe_nobody_is() -> None:
    headers = userinfo({"sub": USER})
    headers["X-User-ID"] = USER
    for accepts_internal in (False, True):
        with pytest.raises(UnauthenticatedError, match="IDENTITY_SOURCE"):
            identify(headers, UNSETTLED, accepts_internal=accepts_internal)


# Whom a deployment believes.

ON_CLOUD_RUN = [
    {"RUNNING_ON_CLOUDRUN": "true"},
    {"RUNNING_ON_CLOUDRUN": "TRUE", "IDENTITY_SOURCE": " "},
    {"K_SERVICE": "orders-crud"},
    {"K_SERVICE": "orders-crud", "RUNNING_ON_CLOUDRUN": "false"},
]


def refusal(*needs: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as raised:
        config.load(environ, needs=needs)
    return str(raised.value)


@pytest.mark.parametrize("environ", ON_CLOUD_RUN, ids=str)
def test_on_cloud_run_a_source_of_users_is_required(environ: dict[str, str]) -> None:
    message = refusal("IDENTITY", **environ)
    assert message == (
        "IDENTITY_SOURCE is not set: on Cloud Run it must be header or apigateway"
    )


@pytest.mark.parametrize("secret", ["", "  "])
def test_an_empty_secret_does_not_open_the_door(secret: str) -> None:
    message = refusal(GATEWAY_JWT_SECRET=secret)
    assert message.startswith("GATEWAY_JWT_SECRET is empty")


def test_a_secret_that_nothing_is_verified_with_is_a_mistake() -> None:
    message = refusal(IDENTITY_SOURCE="apigateway", GATEWAY_JWT_SECRET="s3cret")
    assert message.startswith("GATEWAY_JWT_SECRET is set, but IDENTITY_SOURCE is")
    assert "s3cret" not in message


def test_a_claim_is_demanded_only_where_it_can_be_verified() -> None:
    environ = {"IDENTITY_SOURCE": "header", "STATUS_REQUIRE_SHOP_CLAIM": "true"}
    assert refusal(**environ).startswith("GATEWAY_JWT_SECRET is not set")
    config.load(environ | {"GATEWAY_JWT_SECRET": "s3cret"}, needs=())
    config.load(environ | {"IDENTITY_SOURCE": "apigateway"}, needs=())
