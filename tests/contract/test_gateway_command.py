"""`make gateway`: arguments, what is wrong with them, and the file that it writes."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.gateway.__main__ import main
from infra.gateway.document import Token, functions, gateway_document

ADDRESSES = {name: f"https://{name[:5]}.a.run.app" for name in functions()}
GIVEN = [part for each in ADDRESSES.items() for part in ("--address", "=".join(each))]
JWKS = "https://id.example.com/keys?v=1"
SIGNER = ["--issuer", "https://id.example.com", "--jwks", JWKS, "--audience", "shop"]


def output(**addresses: str) -> dict[str, Any]:
    value = addresses or ADDRESSES
    return {"topic": {"value": "t"}, "service_urls": {"value": value}}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    return line.removeprefix("gateway: ")


def test_the_file_is_the_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "gateway.json"
    assert main([*GIVEN, *SIGNER, "--audience", "app", "--out", str(file)]) == 0
    token = Token(
        issuer="https://id.example.com", jwks_uri=JWKS, audiences=("shop", "app")
    )
    expected = json.loads(json.dumps(gateway_document(ADDRESSES, token)))
    assert json.loads(file.read_text("utf-8")) == expected
    # It takes a file for YAML, too, and then counts aliases.
    assert yaml.safe_load(file.read_text("utf-8")) == expected
    shown = capsys.readouterr().out
    assert all(address in shown for address in ADDRESSES.values())


def test_addresses_come_from_terraform_and_one_that_is_given_wins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "gateway.json"
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(output())))
    other = "https://other.example.com"
    own = ["--terraform-output", "-", "--address", f"api_docs={other}/", "--json"]
    assert main([*own, *SIGNER, "--deadline-seconds", "30", "--out", str(file)]) == 0
    made = json.loads(file.read_text("utf-8"))
    backends = made["x-google-api-management"]["backends"]
    assert {name: backend["address"] for name, backend in backends.items()} == (
        ADDRESSES | {"api_docs": other}
    )
    assert {backend["deadline"] for backend in backends.values()} == {30}
    told = json.loads(capsys.readouterr().out)
    assert told["operations"].keys() == ADDRESSES.keys()
    assert sum(told["operations"].values()) == sum(map(len, made["paths"].values()))


WRONG_ADDRESS = "the address of orders_crud must be https://host, without a path"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        *(
            ([f"--address=orders_crud={address}"], WRONG_ADDRESS)
            for address in (
                *("http://orders", "orders.a.run.app", "https://", "https://[::1", ""),
                *("https://orders/api", "https://orders?x=1", "https://or ders"),
                "https://u:s3cret@orders",
            )
        ),
        *(
            ([f"--address={given}"], f"--address {given}: FUNCTION=https://host, FUNC")
            for given in ("orders_crud", "item_status=https://x", "=", "")
        ),
        *(
            ([f"--{name}={value}"], f"--{name}")
            for name, value in (
                ("issuer", "my issuer"),
                ("issuer", ""),
                ("jwks", "http://id.example.com/keys"),
                ("jwks", "https://id.example.com/keys#1"),
                ("jwks", ""),
                ("audience", "shop,app"),
                ("audience", "shop app"),
                ("audience", ""),
                ("deadline-seconds", "0"),
                ("deadline-seconds", "3601"),
                ("deadline-seconds", "nan"),
                ("out", "/"),
            )
        ),
    ],
    ids=str,
)
def test_an_argument_that_is_malformed_is_named(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, *GIVEN, *SIGNER, *arguments).startswith(said)


@pytest.mark.parametrize("name", functions())
def test_an_address_that_is_missing_is_named(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"--address={k}={v}" for k, v in ADDRESSES.items() if k != name]
    said = refused(capsys, *given, *SIGNER)
    assert said.startswith(f"the address of {name} is missing: --address {name}=")


@pytest.mark.parametrize("name", ["issuer", "jwks", "audience"])
def test_what_tokens_are_verified_by_is_never_guessed(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = SIGNER.index(f"--{name}")
    without = SIGNER[:place] + SIGNER[place + 2 :]
    assert refused(capsys, *GIVEN, *without).startswith(f"--{name} is missing")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "No such file"),
        ("no json", "no JSON"),
        ("[]", "no output service_urls"),
        ("{}", "no output service_urls"),
        ('{"service_urls": {"value": {"api_docs": 5}}}', "no output service_urls"),
    ],
)
def test_an_output_of_terraform_that_cannot_be_used_is_named(
    content: str | None,
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "output.json"
    if content is not None:
        file.write_text(content)
    said = refused(capsys, "--terraform-output", str(file), *SIGNER)
    assert said.startswith(f"--terraform-output {file}: ")
    assert expected in said
