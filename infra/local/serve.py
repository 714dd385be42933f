"""`python -m infra.local.serve`: the gateway or the sandbox as a process.

They serve loopback by default, since the gateway accepts every `X-User-ID`.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.config import settings
from common.config.environment import ConfigError
from infra.local import plain_log
from infra.local.broker import SiblingsConsumer
from infra.local.forward import forward_to
from infra.local.gateway import FUNCTIONS, Gateway
from infra.local.guard import guarded
from infra.local.http_server import LOOPBACK, HttpServer
from infra.local.sandbox.running import Sandbox


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal stops it; return the exit status."""
    arguments = _arguments(argv)
    plain_log.configure()
    try:
        with arguments.run(arguments) as server:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.default_int_handler)
            server.start()
            print(f"{arguments.part} on {arguments.host}:{server.port}", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        return 0
    except (ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _gateway(arguments: argparse.Namespace) -> Iterator[HttpServer]:
    gateway = Gateway()
    where = dict(arguments.function)
    gateway.functions = {name: forward_to(url) for name, url in where.items()}
    # It serves its own host names only, as the gateway does.
    gateway.sandbox = forward_to(arguments.sandbox, keeps_host=False)
    app = guarded(gateway, is_shared=True)
    server = HttpServer(app, arguments.port, arguments.host)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def _sandbox(arguments: argparse.Namespace) -> Iterator[HttpServer]:
    broker = settings.load(needs=["RABBITMQ"]).rabbitmq
    assert broker is not None, "config.load has checked it"
    sandbox = Sandbox(
        path=arguments.data / "sandbox.sqlite3",
        order_service_url=arguments.order_service,
        is_fed_by_broker=True,
        is_lifelike=True,
    )
    server = HttpServer(
        guarded(sandbox, names=arguments.name), arguments.port, arguments.host
    )
    siblings = SiblingsConsumer(broker, sandbox.sink)
    sandbox.sink.start()
    siblings.start()
    try:
        yield server
    finally:
        server.stop()
        siblings.stop()
        sandbox.close()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m infra.local.serve", description=__doc__.splitlines()[0]
    )
    parts = parser.add_subparsers(required=True, dest="part", metavar="PART")
    gateway = _part(
        parts.add_parser,
        "gateway",
        "pass each path on to the function that it belongs to",
        "example: python -m infra.local.serve gateway --sandbox http://sandbox:8080"
        " --function item_status=http://item-status:8080 …",
    )
    gateway.set_defaults(run=_gateway)
    gateway.add_argument(
        "--function",
        action="append",
        default=[],
        type=_named_address,
        metavar="NAME=URL",
        help="where a function is; each has to be named once",
    )
    gateway.add_argument(
        "--sandbox", required=True, metavar="URL", help="where the sandbox is"
    )
    sandbox = _part(
        parts.add_parser,
        "sandbox",
        "stand in for shopcart, product, shop and analytics",
        "RABBITMQ_URL or RABBITMQ_HOST and its kin name the broker whose queues it"
        " consumes. example: python -m infra.local.serve sandbox --data .local",
    )
    sandbox.set_defaults(run=_sandbox)
    sandbox.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help="where data is kept"
    )
    sandbox.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="a host name to serve besides this machine's, such as a container's",
    )
    sandbox.add_argument(
        "--order-service",
        default="",
        metavar="URL",
        help="what the shop calls when it moves an item",
    )
    arguments = parser.parse_args(argv)
    if arguments.part == "gateway":
        named = [name for name, _ in arguments.function]
        if sorted(named) != sorted(FUNCTIONS):
            gateway.error(f"--function: once each of {', '.join(FUNCTIONS)}")
    return arguments


def _part(
    add: Callable[..., argparse.ArgumentParser], name: str, purpose: str, epilog: str
) -> argparse.ArgumentParser:
    description = f"{purpose.capitalize()}."
    parser = add(name, help=purpose, description=description, epilog=epilog)
    parser.add_argument("--host", default=LOOPBACK, help="default: %(default)s")
    parser.add_argument(
        "--port", type=int, default=8080, help="default: %(default)s; 0: a free one"
    )
    return parser


def _named_address(text: str) -> tuple[str, str]:
    name, _, url = text.partition("=")
    if name not in FUNCTIONS or not url.startswith("http"):
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=URL of a function")
    return name, url.rstrip("/")


if __name__ == "__main__":
    sys.exit(main())
