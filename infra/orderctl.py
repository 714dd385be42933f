"""`orderctl`: what operators do from a terminal.

Lives here: commands, their output for people and (`--json`) for machines. Not here: the
work, which is in `common/`. Surprise: it reads the same environment as the functions,
so it acts on whatever database and broker those variables name.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from common import approval, config, wiring
from common.db import ping
from common.errors import ServiceError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; answer its exit status: 0 done, 1 failed, 2 wrong usage."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        result = arguments.run(arguments)
    except config.ConfigError as error:
        print(f"orderctl: {error}", file=sys.stderr)
        return 2
    except ServiceError as error:
        print(f"orderctl: {error.detail}", file=sys.stderr)
        return 1
    finally:
        wiring.close()
    _print(result, as_json=arguments.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="orderctl", description="Operate orders.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    migrate = commands.add_parser(
        "migrate", help="bring the database's schema to this release's"
    )
    migrate.set_defaults(run=_migrate)
    relay = commands.add_parser(
        "relay", help="approve what was forgotten and send the events that are owed"
    )
    relay.add_argument("--once", action="store_true", required=True, help="one sweep")
    relay.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        help="at most this long (default: %(default)s)",
    )
    relay.set_defaults(run=_relay)
    for command in (migrate, relay):
        command.add_argument("--json", action="store_true", help="for machines")
    return parser


def _migrate(_arguments: argparse.Namespace) -> dict[str, Any]:
    from common import migrations  # noqa: PLC0415 alembic is only for this command

    wiring.use("DATABASE")
    ping(wiring.engine())  # an unreachable one is told in a line
    before, after = migrations.upgrade(wiring.engine())
    return {"before": before, "after": after}


def _relay(arguments: argparse.Namespace) -> dict[str, Any]:
    wiring.use("DATABASE", "EVENT_BUS")
    approved = approval.sweep(wiring.engine(), wiring.settings().bus)
    sent = wiring.relay().sweep(arguments.seconds)
    return {"approved": len(approved), **sent}


def _print(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
        return
    width = max(map(len, result), default=0)
    for name, value in result.items():
        print(f"{name:<{width}}  {value}")


if __name__ == "__main__":
    sys.exit(main())
