"""Import all modules of ours, so that what they register is there."""

import importlib
import pkgutil
from collections.abc import Collection

import common


def import_all(left_out: Collection[str] = ()) -> None:
    """Import every module of `common`, but for migrations and what is left out."""
    for module in pkgutil.walk_packages(common.__path__, "common."):
        is_migration = module.name.startswith("common.database.migrations.")
        if not is_migration and module.name not in left_out:
            importlib.import_module(module.name)
