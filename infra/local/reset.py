"""`python -m infra.local.reset`: forget the data of `make run`."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from infra.local.postgres import claim
from infra.local.postgres_binaries import EmbeddedPostgresError, remove_elsewhere

CHECKOUT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Remove the folder that holds the data, unless it is in use; return the status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.local.reset", description=__doc__
    )
    parser.add_argument("--folder", type=Path, default=CHECKOUT / ".local")
    folder: Path = parser.parse_args(arguments).folder
    postgres = folder / "postgres"
    if not folder.exists():
        print("There is no data.")
        return 0
    postgres.mkdir(exist_ok=True)
    try:
        with claim(postgres):
            remove_elsewhere(postgres)
            shutil.rmtree(folder)
    except EmbeddedPostgresError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("All orders and the sandbox's data are gone; `make run` starts anew.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
