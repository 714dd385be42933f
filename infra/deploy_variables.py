"""Write the Terraform variables of a deployment: its packages and image.

It is a separate command because the packages of functions that stay as they are can
only be read from Terraform's outputs.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# The output of infra/terraform that is read.
FUNCTION_IMAGES = "function_images"


class KeptError(Exception):
    """Terraform's outputs do not say what is deployed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file; return the exit status."""
    arguments = _arguments(argv)
    packages = dict(arguments.package)
    variables: dict[str, object] = {}
    try:
        if arguments.keep:
            packages = deployed_packages(_read(arguments.keep)) | packages
        if arguments.image_in:
            variables["image"] = _image(arguments.image_in)
    except KeptError as error:
        print(f"deploy: {error}", file=sys.stderr)
        return 1
    variables["packages"] = packages
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(variables, indent=2, sort_keys=True)
    arguments.out.write_text(f"{text}\n", encoding="utf-8")
    return 0


def deployed_packages(outputs: Mapping[str, Any]) -> dict[str, str]:
    """Return the package of each deployed function, as Terraform's variable has it.

    Raise KeptError where nothing is deployed: a single function cannot be the first.
    """
    images = outputs.get(FUNCTION_IMAGES, {}).get("value")
    if not images:
        raise KeptError("nothing is deployed yet: deploy all functions first")
    found = {}
    for name, image in images.items():
        tag = re.search(r":([0-9a-f]{64}(?:-\d{4}-\d\d-\d\d)?)$", image)
        if tag is None:
            raise KeptError(f"{name}'s image {image} is not named by its package")
        found[name] = f"{name}/{tag[1]}.zip"
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise KeptError(f"{path} holds no outputs of Terraform") from error


def _image(path: Path) -> str:
    text = path.read_text(encoding="utf-8").strip()
    if not re.fullmatch(r"[a-z0-9.-]+/\S+@sha256:[0-9a-f]{64}", text):
        raise KeptError(f"{path} names no image by its digest: {text[:200]!r}")
    return text


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m infra.deploy_variables",
        description=__doc__.splitlines()[0],
        epilog="example: python -m infra.deploy_variables --out dist/some.tfvars.json"
        " --keep dist/some.outputs.json --package item_status=item_status/SHA256.zip",
    )
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument(
        "--package",
        type=_pair,
        action="append",
        default=[],
        metavar="FUNCTION=OBJECT",
        help="a function's package in the bucket",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FILE",
        help="`terraform output -json`: other functions keep their packages",
    )
    parser.add_argument(
        "--image-in",
        type=Path,
        metavar="FILE",
        help="holds the image of workers and migrations, by its digest",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
