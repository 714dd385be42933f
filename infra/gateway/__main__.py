"""`make gateway`: write the document that configures Google API Gateway.

It is JSON, which API Gateway accepts like YAML.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from infra.gateway.document import (
    DEADLINE_SECONDS,
    Token,
    functions,
    gateway_document,
)

CHECKOUT = Path(__file__).parents[2]
LONGEST_DEADLINE_SECONDS = 3600.0
TERRAFORM_OUTPUT = "service_urls"


class GatewayError(Exception):
    """An argument is missing or malformed; the message names it and what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the document and print a summary; return the exit status."""
    arguments = _arguments(argv)
    try:
        addresses = _addresses(arguments)
        token, deadline = _token(arguments), _deadline(arguments)
        document = gateway_document(addresses, token, deadline)
        _write(arguments.out, document)
    except GatewayError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    counts = _counts(document)
    if arguments.json:
        print(json.dumps({"path": str(arguments.out), "operations": counts}))
        return 0
    print(f"{'function':<26}{'operations':>10}  address")
    for name, count in counts.items():
        print(f"{name:<26}{count:>10}  {addresses[name]}")
    print(
        f"\nWritten to {arguments.out}. Next: docs/gateway.md, from api-configs create"
    )
    return 0


def _addresses(arguments: argparse.Namespace) -> dict[str, str]:
    """Return each function's address; --address wins over Terraform's output."""
    found: dict[str, str] = {}
    if arguments.terraform_output is not None:
        found = _terraform(arguments.terraform_output)
    for argument in arguments.address:
        name, equals, address = argument.partition("=")
        if not equals or name not in functions():
            names = ", ".join(functions())
            raise GatewayError(
                f"--address {argument}: FUNCTION=https://host, FUNCTION one of {names}"
            )
        found[name] = address
    addresses = {}
    for name in functions():
        if name not in found:
            raise GatewayError(
                f"the address of {name} is missing: --address {name}=https://host, or"
                " --terraform-output FILE"
            )
        addresses[name] = _https(f"the address of {name}", found[name], has_path=False)
    return addresses


def _terraform(file: Path) -> dict[str, str]:
    """Return the addresses in the output of `terraform output -json`."""
    where = f"--terraform-output {file}"
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
        outputs = json.loads(text)
    except OSError as error:
        raise GatewayError(f"{where}: {error.strerror}") from error
    except ValueError as error:
        raise GatewayError(f"{where}: no JSON; `terraform output -json`") from error
    output = outputs.get(TERRAFORM_OUTPUT) if isinstance(outputs, dict) else None
    urls = output.get("value") if isinstance(output, dict) else None
    if not isinstance(urls, dict) or not all(isinstance(v, str) for v in urls.values()):
        raise GatewayError(f"{where}: there is no output {TERRAFORM_OUTPUT} in it")
    return {name.replace("-", "_"): url for name, url in urls.items()}


def _token(arguments: argparse.Namespace) -> Token:
    for name in ("issuer", "jwks", "audience"):
        if not getattr(arguments, name):
            raise GatewayError(f"--{name} is missing; see --help")
    if not re.fullmatch(r"[!-~]+", arguments.issuer):
        raise GatewayError("--issuer: exactly the tokens' claim iss")
    for audience in arguments.audience:
        if not re.fullmatch(r"[!-+\--~]+", audience):
            raise GatewayError("--audience: one each, without spaces and commas")
    return Token(
        issuer=arguments.issuer,
        jwks_uri=_https("--jwks", arguments.jwks, has_path=True),
        audiences=arguments.audience,
    )


def _https(what: str, url: str, *, has_path: bool) -> str:
    """Return the URL, without a last slash where it may have no path."""
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme == "https" and bool(parts.hostname)
        is_valid &= not (parts.username or parts.password or parts.fragment)
        is_valid &= has_path or not (parts.path.strip("/") or parts.query)
        is_valid &= bool(re.fullmatch(r"[!-~]+", url))
    except ValueError:
        is_valid = False
    if not is_valid:
        path = "/path" if has_path else ", without a path"
        raise GatewayError(f"{what} must be https://host{path}")
    return url if has_path else url.rstrip("/")


def _deadline(arguments: argparse.Namespace) -> float:
    seconds: float = arguments.deadline_seconds
    if not 0 < seconds <= LONGEST_DEADLINE_SECONDS:
        most = round(LONGEST_DEADLINE_SECONDS)
        raise GatewayError(f"--deadline-seconds must be over 0 and at most {most}")
    return seconds


def _write(path: Path, document: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(document, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise GatewayError(f"--out {path}: {error.strerror}") from error


def _counts(document: Mapping[str, Any]) -> dict[str, int]:
    backends = [
        operation["x-google-backend"]
        for operations in document["paths"].values()
        for operation in operations.values()
    ]
    return {name: backends.count(name) for name in functions()}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m infra.gateway",
        description=__doc__.splitlines()[0],
        epilog=(
            "example: terraform -chdir=infra/terraform output -json |"
            " python -m infra.gateway --terraform-output -"
            " --issuer https://id.example.com"
            " --jwks https://id.example.com/.well-known/jwks.json --audience shop"
        ),
    )
    add = parser.add_argument
    add(
        "--address",
        action="append",
        default=[],
        metavar="FUNCTION=URL",
        help=f"a function's address; one each for {', '.join(functions())}",
    )
    add(
        "--terraform-output",
        type=Path,
        metavar="FILE",
        help=f"of `terraform output -json` ({TERRAFORM_OUTPUT}); - is stdin",
    )
    add("--issuer", help="the claim iss of users' tokens")
    add("--jwks", metavar="URL", help="where the issuer publishes its public keys")
    add(
        "--audience",
        action="append",
        default=[],
        help="a claim aud that is accepted; may be repeated",
    )
    add(
        "--deadline-seconds",
        type=float,
        default=DEADLINE_SECONDS,
        metavar="SECONDS",
        help="how long the gateway waits for a function (%(default)s)",
    )
    add(
        "--out",
        type=Path,
        default=CHECKOUT / "dist" / "gateway.json",
        metavar="FILE",
        help="what to write (default: dist/gateway.json)",
    )
    add("--json", action="store_true", help="for machines")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
