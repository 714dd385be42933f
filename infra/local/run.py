"""`python -m infra.local.run`: the whole platform on this machine, until Ctrl-C.

SIGTERM is treated like Ctrl-C, so that the embedded database stops cleanly.
"""

import argparse
import errno
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from common.config.environment import ConfigError
from infra.local import plain_log
from infra.local.front_page import ready_made_request
from infra.local.postgres_binaries import EmbeddedPostgresError
from infra.local.system import CHECKOUT, ELSEWHERE, StartError, running_system

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DESCRIPTION = """\
Start the order service with everything around it on one loopback port: its functions,
PostgreSQL, an event sink, and sandbox versions of shopcart, product, shop, analytics.
"""
EPILOG = """\
Variables that are set replace the embedded parts one by one:
  DATABASE_URL, or POSTGRES_HOST and its kin, or CLOUD_SQL_CONNECTION_NAME
                                                    the database
  EVENT_BUS=rabbitmq with RABBITMQ_URL              the event sink
  SHOPCART_SERVICE, PRODUCT_SERVICE, ANALYTIC_SERVICE   the siblings
LOG_LEVEL=INFO shows a line for each request.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal stops it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.local.run",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--port",
        default=os.environ.get("PORT") or "8080",
        help="default: PORT, else 8080; 0 takes a free one",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=CHECKOUT / ".local",
        help="where data is kept; default: .local of the checkout",
    )
    parser.add_argument(
        "--temporary", action="store_true", help="start without data, and keep none"
    )
    options = parser.parse_args(arguments)
    if not options.port.isascii() or not options.port.isdigit():
        parser.error("PORT must be a whole number")
    if int(options.port) > 65535:  # noqa: PLR2004
        parser.error("PORT must be at most 65535")
    plain_log.configure()
    try:
        if options.temporary:
            with tempfile.TemporaryDirectory(prefix="order-service-") as folder:
                _serve(int(options.port), Path(folder), durable=False)
        else:
            _serve(int(options.port), options.folder, durable=True)
    except KeyboardInterrupt:
        say("Stopped.")
    except (ConfigError, EmbeddedPostgresError, StartError) as error:
        return _fail(str(error))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return _fail(f"port {options.port} is taken: try PORT={int(options.port) + 1}")
    return 0


def say(line: str) -> None:
    """Print at once, also where the output is a pipe."""
    print(line, flush=True)


def _serve(port: int, folder: Path, *, durable: bool) -> None:
    # Also where a shell has started us in the background, with SIGINT ignored.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    is_ours = not {"DATABASE_URL", *ELSEWHERE} & os.environ.keys()
    with running_system(port, folder, say, durable=durable) as url:
        # A configured address may hold a password.
        database = os.environ["DATABASE_URL"] if is_ours else "the one that you named"
        say(
            f"\nThe order service is at {url}/ (with buttons to try it)\n\n"
            f"  console        {url}/ops/\n"
            f"  documentation  {url}/api/schema/swagger-ui/\n"
            f"  traces         {url}/traces/\n"
            f"  sandbox        {url}/sandbox/ (makes siblings late, absent or rude)\n"
            f"  database       {database}\n\n"
            "To fill a cart and check out, paste:\n\n"
            f"{ready_made_request(url)}\n\n"
            "`make demo` tells the whole story. Ctrl-C stops everything"
            + ("; data is kept until `make reset`." if durable else ".")
        )
        try:
            threading.Event().wait()
        finally:
            # From here on a second signal must not interrupt the shutdown.
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            say("\nStopping …")


def _fail(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
