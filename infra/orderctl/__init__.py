"""`orderctl`: operators' commands in a terminal.

It reads the functions' environment, so it acts on the database and broker named there;
where that names no database, on the one of `make run` in this folder.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from common import startup, wiring
from common.config.endpoints import CloudSql
from common.config.environment import ConfigError
from common.database import sqlstates
from common.database.sqlstates import Meaning
from common.errors import BusyError, DatabaseUnavailableError, ServiceError
from common.operations.audit import LaterSchemaError
from common.telemetry.printable import printable
from infra.orderctl import (
    auditing,
    dead_letters,
    doctor,
    event_commands,
    maintenance,
    order_commands,
    restoring,
    user_commands,
)
from infra.orderctl.output import Printed, UsageError, show

LOCAL_RUN = Path(".local/postgres/url")
NAMED = ("DATABASE_URL", "POSTGRES_", "CLOUD_SQL_", "RUNNING_ON_CLOUDRUN")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0 done, 1 failed, 2 wrong usage.

    A command that looks for problems also returns 1 if it finds any.
    """
    arguments = _parser().parse_args(argv)
    _find_local_run()
    try:
        result: Printed = arguments.run(arguments)
        show(result, as_json=arguments.json)
    except BrokenPipeError:  # the reader stops early, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _fail("interrupted", 1)
    except Exception as error:
        if (message := _explain(error)) is None:
            raise
        is_usage = isinstance(error, ConfigError | UsageError | LaterSchemaError)
        return _fail(message, 2 if is_usage else 1)
    finally:
        wiring.close()
    return int(result.is_failure)


def _find_local_run() -> None:
    """Name the database of `make run` in the environment, if that names none."""
    if any(name.startswith(NAMED) for name, value in os.environ.items() if value):
        return
    with suppress(OSError):
        os.environ["DATABASE_URL"] = LOCAL_RUN.read_text()
        if sys.stderr.isatty():  # nobody should take it for another one
            print(f"orderctl: the database of make run, {LOCAL_RUN}", file=sys.stderr)


def _explain(error: Exception) -> str | None:
    """Return the error in one line for an operator, or None if it is a defect."""
    match error:
        case ConfigError() | UsageError() | LaterSchemaError():
            return str(error)
        case DatabaseUnavailableError():
            return _unavailable(error)
        case BusyError():
            return "the database is busy: try again"
        case ServiceError():
            return error.detail
    return None


def _fail(message: str, status: int) -> int:
    print(printable(f"orderctl: {message}"), file=sys.stderr)
    return status


def _unavailable(error: DatabaseUnavailableError) -> str:
    if sqlstates.meaning(error.__cause__ or error) is Meaning.NOT_SET_UP:
        reason = sqlstates.reason(error)
        return f"the database is not set up ({reason}): run {sqlstates.remedy(error)}"
    database = startup.settings().database
    assert database is not None, "every command needs it"
    if isinstance(database, CloudSql):
        return f"the database {database.where} is unreachable: {error.__cause__}"
    return (
        f"the database {database.where} is unreachable or refuses {database.user}:"
        " check DATABASE_URL or POSTGRES_*, and that it runs"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="orderctl",
        description="Operate the order service: its schema, events and consistency.",
        epilog="Exit status: 0 done or well, 1 failed or not well, 2 wrong usage."
        " Example: orderctl doctor --fix",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (
        maintenance,
        restoring,
        auditing,
        doctor,
        event_commands,
        dead_letters,
        order_commands,
        user_commands,
    ):
        module.add_to(commands)
    return parser
