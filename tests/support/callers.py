"""Callers of the functions, honest and forged, for each way of authentication."""

import base64
import json
import uuid
from dataclasses import dataclass, field

import jwt

from tests.support.tokens import SECRET, bearer, userinfo

Headers = tuple[tuple[str, str], ...]

# How a deployment knows its callers: the settings of each way.
WAYS: dict[str, dict[str, str]] = {
    "header": {"IDENTITY_SOURCE": "header"},
    "header and secret": {"IDENTITY_SOURCE": "header", "GATEWAY_JWT_SECRET": SECRET},
    "header, secret, claim demanded": {
        "IDENTITY_SOURCE": "header",
        "GATEWAY_JWT_SECRET": SECRET,
        "STATUS_REQUIRE_SHOP_CLAIM": "true",
    },
    "apigateway": {"IDENTITY_SOURCE": "apigateway"},
    "apigateway, claim demanded": {
        "IDENTITY_SOURCE": "apigateway",
        "STATUS_REQUIRE_SHOP_CLAIM": "true",
    },
}


def _new() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True)
class People:
    """Somebody with an order, others without, and the shops of the two shopkeepers."""

    owner: str = field(default_factory=_new)
    user: str = field(default_factory=_new)
    shopkeeper: str = field(default_factory=_new)
    rival: str = field(default_factory=_new)
    shop: str = field(default_factory=_new)
    rivals_shop: str = field(default_factory=_new)


@dataclass(frozen=True)
class Knock:
    """One caller at the door: who it says it is, and whose answer it deserves.

    `column` is the column of the tables that holds the answer, `caller` the user that
    an accepted request belongs to.
    """

    name: str
    column: str
    headers: Headers
    caller: str | None

    @property
    def is_honest(self) -> bool:
        """Return whether it is who it says."""
        return self.name == self.column


def honest(way: str, people: People) -> list[Knock]:
    """Return everybody who comes as the platform has them come."""
    nobody: list[Knock] = [Knock("nobody", "nobody", (), None)]
    internal = (("X-User-ID", people.shopkeeper),)
    return [
        *nobody,
        Knock("internal", "internal", internal, people.shopkeeper),
        *(
            Knock(column, column, through_gateway(way, user, shop), user)
            for column, user, shop in (
                ("owner", people.owner, None),
                ("user", people.user, None),
                ("shop", people.shopkeeper, people.shop),
                ("rival", people.rival, people.rivals_shop),
            )
        ),
    ]


def through_gateway(way: str, user: str, shop: str | None = None) -> Headers:
    """Return the headers of a user's request once the gateway has passed it on."""
    if way.startswith("apigateway"):
        claims = {"sub": user} | ({"shop_uuid": shop} if shop else {})
        # Google's own, for the function's address; the user's is kept beside it.
        own = ("Authorization", "Bearer " + jwt.encode({"sub": "1"}, "k" * 32, "HS256"))
        kept = ("X-Forwarded-Authorization", bearer(user)["Authorization"])
        return (own, kept, *userinfo(**claims).items())
    given = (("X-User-ID", user), *bearer(user, shop_uuid=shop).items())
    return (*given, ("X-Shop-ID", shop)) if shop else given


def forged(way: str, people: People) -> list[Knock]:
    """Return everybody who claims to be more, by whatever header they can think of."""
    found = [
        Knock(f"a user with {name}", "user", (*own, (name, value)), people.user)
        for own in [through_gateway(way, people.user)]
        for name, value in _meaningless(way, people)
    ]
    found.append(
        Knock(
            "nobody with all of these",
            "nobody",
            tuple(_meaningless(way, people)),
            None,
        )
    )
    if way.startswith("apigateway"):
        return found + _forged_claims(people)
    found += _forged_users(people)
    return found + (_forged_tokens(people) if "secret" in way else [])


def _meaningless(way: str, people: People) -> list[tuple[str, str]]:
    """Return headers that name the owner or the shop, and prove nothing."""
    owners = userinfo(sub=people.owner, shop_uuid=people.shop)
    [claims] = owners.values()
    token = bearer(people.owner, shop_uuid=people.shop)["Authorization"]
    found = [
        ("X-Shop-ID", people.shop),
        ("X-Endpoint-Api-Userinfo", claims),
        ("X-Jwt-Payload", claims),
        ("X-Forwarded-Authorization", token),
        ("X-Serverless-Authorization", token),
        ("X-Original-Authorization", token),
        ("Proxy-Authorization", token),
        ("X-Forwarded-User", people.owner),
        ("Remote-User", people.owner),
        ("X-Remote-User", people.owner),
        ("X-Goog-Authenticated-User-Id", f"accounts.google.com:{people.owner}"),
        ("X-User-Uuid", people.owner),
        ("X-UserID", people.owner),
        ("Cookie", f"X-User-ID={people.owner}; sub={people.owner}"),
        ("Forwarded", "for=127.0.0.1;host=localhost"),
    ]
    if way.startswith("apigateway"):
        # It passes on what a client says in the other way's words.
        return [*found, ("X-User-ID", people.owner)]
    return [*found, ("X-Apigateway-Api-Userinfo", claims)]


def _forged_users(people: People) -> list[Knock]:
    both = (("X-User-ID", people.user), ("X-User-ID", people.owner))
    spelled = {
        "two users": both,
        "the same user twice": (("X-User-ID", people.owner),) * 2,
        "two users in one": (("X-User-ID", f"{people.owner},{people.user}"),),
        "a user in braces": (("X-User-ID", f"{{{people.owner}}}"),),
        "a user and more": (("X-User-ID", f"{people.owner}0"),),
        "a user as a URN": (("X-User-ID", f"urn:uuid:{people.owner}"),),
        "no letters of a user": (("X-User-ID", "\xe9" * 36),),
        "any user": (("X-User-ID", "*"),),
        "a short user": (("X-User-ID", people.owner[:-1]),),
        "an empty user": (("X-User-ID", ""),),
        "a huge user": (("X-User-ID", people.owner * 200),),
    }
    return [Knock(name, "nobody", what, None) for name, what in spelled.items()]


def _forged_tokens(people: People) -> list[Knock]:
    """Return requests in the owner's name whose token does not hold."""
    valid = bearer(people.owner)["Authorization"]
    head, _, signature = valid.split(".")
    foreign = bearer(people.user)["Authorization"].split(".")[1]
    shop = {"shop_uuid": people.shop}
    tokens = {
        "a token of somebody else": bearer(people.user, **shop)["Authorization"],
        "a token signed by another": bearer(people.owner, secret="x" * 40, **shop)[
            "Authorization"
        ],
        "an unsigned token": "Bearer "
        + jwt.encode({"sub": people.owner, "exp": 2**40} | shop, "", "none"),
        "another algorithm": bearer(
            people.owner, secret=SECRET * 2, algorithm="HS512", **shop
        )["Authorization"],
        "an expired token": bearer(people.owner, exp=1, **shop)["Authorization"],
        "a token for ever": bearer(people.owner, exp=None, **shop)["Authorization"],
        "a token of nobody": bearer(people.owner, sub=None, **shop)["Authorization"],
        "a token without signature": valid.rpartition(".")[0] + ".",
        "a token with another's claims": f"{head}.{foreign}.{signature}",
        "basic credentials": valid.replace("Bearer", "Basic"),
        "a token twice": f"{valid}, {valid}",
        "no token in it": "Bearer",
        "nothing in it": "",
    }
    lying = bearer(people.user, shop_id=people.shop, shop_uuid=[people.shop])
    return [
        *(
            Knock(
                name,
                "nobody",
                (("X-User-ID", people.owner), ("Authorization", what)),
                None,
            )
            for name, what in tokens.items()
        ),
        Knock(
            "a shop under other names",
            "user",
            (("X-User-ID", people.user), *lying.items()),
            people.user,
        ),
        Knock(
            "the owner in capitals",
            "owner",
            (
                ("x-user-id", people.owner.upper()),
                ("AUTHORIZATION", valid.replace("Bearer", "bearer")),
            ),
            people.owner,
        ),
    ]


def _forged_claims(people: People) -> list[Knock]:
    """Return requests whose claims name nobody, or not in the gateway's own form."""
    [whole] = userinfo(sub=people.owner, shop_uuid=people.shop).values()
    contents: dict[str, str] = {
        "claims that are no base64": "%%%",
        "claims with a comma": f"{whole},{whole}",
        "claims with a space": whole[:12] + " " + whole[12:],
        "claims as JSON": json.dumps({"sub": people.owner}),
        "a token for claims": bearer(people.owner)["Authorization"].split(" ")[1],
        "a user for claims": people.owner,
        "empty claims": "",
    }
    for name, claims in {
        "no sub": {"user_id": people.owner},
        "a sub that is no user": {"sub": "root"},
        "a sub in a list": {"sub": [people.owner]},
        "a sub that is a number": {"sub": 7},
        "a sub with more": {"sub": people.owner + " "},
        "no sub at all": None,
        "a list": [{"sub": people.owner}],
    }.items():
        content = json.dumps(claims).encode()
        contents[name] = base64.urlsafe_b64encode(content).decode().rstrip("=")
    lying = userinfo(sub=people.user, shop_id=people.shop, shop_uuid=[people.shop])
    header = "X-Apigateway-Api-Userinfo"
    found = [
        Knock(name, "nobody", ((header, what), ("X-User-ID", people.owner)), None)
        for name, what in contents.items()
    ]
    twice = (*userinfo(sub=people.user).items(), (header, whole))
    capitals = userinfo(sub=people.owner.upper())[header]
    return [
        *found,
        Knock("claims twice", "nobody", twice, None),
        Knock(
            "a token and no claims",
            "nobody",
            through_gateway("header", people.owner, people.shop),
            None,
        ),
        Knock("a shop under other names", "user", tuple(lying.items()), people.user),
        Knock(
            "the owner in capitals",
            "owner",
            ((header.upper(), capitals),),
            people.owner,
        ),
    ]
