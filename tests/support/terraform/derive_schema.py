"""Derive the schema of the Google provider's types from its generated bindings.

PyPI's `cdktn-provider-google` does not say which attributes are sensitive, nor limits
beyond none, one and at least one; write-only ones are known by name.
"""

import argparse
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

SCHEMA = Path(__file__).with_name("google_schema.json")
CONFIGURATION = Path(__file__).parents[3] / "infra" / "terraform"
PACKAGE = "cdktn-provider-google"
VERSION = "21.1.0"

Json: TypeAlias = dict[str, Any]
# A type as Terraform writes it: "string", ["list", "string"], ["object", {...}].
Type: TypeAlias = str | list[Any]

_BLOCK = re.compile(r'^\s*(resource|data)\s+"(google_\w+)"', re.MULTILINE)
_CLASS = re.compile(
    r"^class (\w+) extends cdktn\.\w+ \{\n(.*?)^\}\n", re.MULTILINE | re.DOTALL
)
_MEMBER = re.compile(
    r"// (\w+) - computed: (\w+), optional: (\w+), required: (\w+)\n(.*?)"
    r"(?=^ *// (?:\w+ - computed|=====)|\Z)",
    re.MULTILINE | re.DOTALL,
)
_SETTING = re.compile(
    r'^ +"?(\w+)"?: \{\n +value: (.*),\n +isBlock: (\w+),\n +type: "(\w+)",\n'
    r' +storageClassType: "(\w+)",\n',
    re.MULTILINE,
)
_SCALARS = {"string": "string", "number": "number", "boolean": "bool"}
_COLLECTIONS = {
    "stringList": "string",
    "numberList": "number",
    "booleanList": "bool",
    "stringMap": "string",
    "numberMap": "number",
    "booleanMap": "bool",
}
# How a computed attribute is read, and of which type that makes it.
_READS: dict[str, Type] = {
    "this.getStringAttribute": "string",
    "this.getNumberAttribute": "number",
    "this.getBooleanAttribute": "bool",
    "this.getListAttribute": ["list", "string"],
    "this.getNumberListAttribute": ["list", "number"],
    "cdktn.Fn.tolist": ["set", "string"],
    "cdktn.StringMap": ["map", "string"],
    "cdktn.NumberMap": ["map", "number"],
    "cdktn.BooleanMap": ["map", "bool"],
    "cdktn.StringMapList": ["list", ["map", "string"]],
}


class DeriveError(Exception):
    """The bindings hold something that this program cannot read."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the schema; answer the exit status."""
    arguments = _arguments(argv)
    wanted = types_in(CONFIGURATION)
    wanted |= {("resource", name) for name in arguments.resource}
    wanted |= {("data", name) for name in arguments.data}
    try:
        with tempfile.TemporaryDirectory(prefix="order-service-schema-") as folder:
            wheel = arguments.wheel or _download(Path(folder))
            schema = derive(wheel, wanted)
    except (DeriveError, OSError, subprocess.CalledProcessError) as error:
        print(f"derive_schema: {error}", file=sys.stderr)
        return 1
    arguments.out.write_text(formatted(schema) + "\n", encoding="utf-8")
    print(f"{arguments.out}: {len(wanted)} types")
    return 0


def types_in(folder: Path) -> set[tuple[str, str]]:
    """Answer ("resource" or "data", type) of every block below `folder`."""
    return {
        (kind, name)
        for path in folder.rglob("*.tf")
        for kind, name in _BLOCK.findall(path.read_text(encoding="utf-8"))
    }


def derive(wheel: Path, wanted: set[tuple[str, str]]) -> Json:
    """Answer the schema of all `wanted` types and of the provider itself.

    Raises DeriveError where the bindings lack one of them.
    """
    folders = {_folder(kind, name): (kind, name) for kind, name in wanted}
    folders["provider"] = ("provider", "google")
    sources, provider = _sources(wheel, set(folders))
    if missing := folders.keys() - sources.keys():
        names = ", ".join(sorted(" ".join(folders[each]) for each in missing))
        raise DeriveError(f"{wheel.name} does not know {names}")
    found: dict[str, Json] = {"provider": {}, "resource": {}, "data": {}}
    for folder, (kind, name) in sorted(folders.items(), key=lambda each: each[1]):
        found[kind][name] = _Bindings(sources[folder]).whole()
    return {
        "derived_by": "python -m tests.support.terraform.derive_schema",
        "derived_from": wheel.name,
        "provider_version": provider,
        "provider": found["provider"]["google"],
        "resource_schemas": found["resource"],
        "data_source_schemas": found["data"],
    }


def formatted(value: object, indent: str = "") -> str:
    """Answer JSON with a line for each attribute."""
    is_one = isinstance(value, dict) and not isinstance(value.get("type", {}), dict)
    if is_one or not value or not isinstance(value, dict):
        return json.dumps(value)
    deeper = indent + " "
    lines = (f"{json.dumps(k)}: {formatted(v, deeper)}" for k, v in value.items())
    return "{\n" + ",\n".join(deeper + line for line in lines) + f"\n{indent}}}"


class _Bindings:
    """The JavaScript of one type: its classes, and the functions that make HCL."""

    def __init__(self, source: str) -> None:
        self.classes = dict(_CLASS.findall(source))
        self.source = source

    def whole(self) -> Json:
        """Answer the schema of the type that they are about."""
        for body in self.classes.values():
            if "synthesizeHclAttributes()" in body:
                settings = body.split("synthesizeHclAttributes()", 1)[1]
                return self._block(body, settings)
        raise DeriveError("bindings without a resource in them")

    def _block(self, body: str, settings: str) -> Json:
        """Answer the schema of a block: what `body` declares, `settings` may set."""
        set_by = {each[0]: each for each in _SETTING.findall(settings)}
        attributes, blocks = {}, {}
        for name, computed, optional, required, code in _MEMBER.findall(body):
            if _is_left_out(name):
                continue
            flags = {
                flag: True
                for flag, said in (
                    ("required", required),
                    ("optional", optional),
                    ("computed", computed),
                )
                if said == "true"
            }
            if name not in set_by:
                attributes[name] = {"type": self._read(name, code), **flags}
                continue
            _, value, is_block, kind, storage = set_by[name]
            if is_block == "false":
                attributes[name] = {"type": _plain(name, kind, storage), **flags}
            elif "computed" in flags or value.endswith(", false)"):
                object_type = self._object(f"{_struct(value)}OutputReference")
                attributes[name] = {"type": [kind, object_type], **flags}
            else:
                blocks[name] = self._nested(
                    value, kind, is_required="required" in flags
                )
            if name.endswith("_wo"):
                attributes[name]["write_only"] = True
        lost = set_by.keys() - attributes.keys() - blocks.keys()
        if lost := {name for name in lost if not _is_left_out(name)}:
            raise DeriveError(f"nothing is declared of {', '.join(sorted(lost))}")
        answer: Json = {"attributes": dict(sorted(attributes.items()))}
        if blocks:
            answer["blocks"] = dict(sorted(blocks.items()))
        return answer

    def _nested(self, value: str, kind: str, *, is_required: bool) -> Json:
        """Answer the schema of a nested block, and how often it may stand."""
        struct = _struct(value)
        head = f"function {struct[0].lower()}{struct[1:]}ToHclTerraform("
        settings = self.source.split(head, 1)[1].split("\n}\n", 1)[0]
        limits: Json = {"nesting": "single" if kind == "struct" else kind}
        if is_required:
            limits["min_items"] = 1
        if kind != "struct" and "MapperHcl(" not in value:
            limits["max_items"] = 1
        body = self.classes.get(f"{struct}OutputReference")
        if body is None:  # the provider's own: nothing is said but their names
            names = (each[0] for each in _SETTING.findall(settings))
            body = "".join(
                f"// {name} - computed: false, optional: true, required: false\n"
                for name in names
            )
        return {**limits, **self._block(body, settings)}

    def _read(self, name: str, code: str) -> Type:
        """Answer the type of a computed attribute from how it is read."""
        found = re.search(r"(?:return|= new) ([\w.]+)\((.*)\);", code)
        if found and found[1] in _READS:
            return _READS[found[1]]
        if found and found[1].endswith("List"):
            kind = "set" if found[2].endswith("true") else "list"
            return [kind, self._object(f"{found[1][:-4]}OutputReference")]
        raise DeriveError(f"{name} is read in an unknown way")

    def _object(self, class_name: str) -> Type:
        """Answer the type of an object whose members are all attributes."""
        body = self.classes[class_name]
        head = class_name.removesuffix("OutputReference")
        head = f"function {head[0].lower()}{head[1:]}ToHclTerraform("
        settings = self.source.split(head, 1)[1].split("\n}\n", 1)[0]
        block = self._block(body, settings)
        members = {name: each["type"] for name, each in block["attributes"].items()}
        for name, each in block.get("blocks", {}).items():
            struct = "".join(part.capitalize() for part in name.split("_"))
            reference = f"{class_name.removesuffix('OutputReference')}{struct}"
            members[name] = [
                each["nesting"],
                self._object(f"{reference}OutputReference"),
            ]
        return ["object", dict(sorted(members.items()))]


def _plain(name: str, kind: str, storage: str) -> Type:
    if kind == "simple" and storage in _SCALARS:
        return _SCALARS[storage]
    if kind in {"list", "set", "map"} and storage in _COLLECTIONS:
        return [kind, _COLLECTIONS[storage]]
    raise DeriveError(f"{name} is a {kind} of {storage}, which is not known here")


def _is_left_out(name: str) -> bool:
    """Tell of Terraform's own `alias`, and of the provider's hundreds of endpoints."""
    return name == "alias" or name.endswith("_custom_endpoint")


def _struct(value: str) -> str:
    """Answer the name of the structure that `value` turns into HCL."""
    found = re.search(r"(\w+)ToHclTerraform\b", value)
    if not found:
        raise DeriveError(f"no structure in {value}")
    return found[1][0].upper() + found[1][1:]


def _folder(kind: str, name: str) -> str:
    folder = name if kind == "data" else name.removeprefix("google_")
    return ("data-" if kind == "data" else "") + folder.replace("_", "-")


def _sources(wheel: Path, folders: set[str]) -> tuple[dict[str, str], str]:
    """Answer the JavaScript of each folder, and the provider's version."""
    sources: dict[str, str] = {}
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        about = next(name for name in names if name.endswith(".dist-info/METADATA"))
        said = archive.read(about).decode()
        inner = next(name for name in names if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(archive.read(inner))) as package:
            for folder, text in _scripts(package):
                if folder in folders:
                    sources[folder] = sources.get(folder, "") + text
    version = re.search(r"provider version (\d[\w.]*\w)", said)
    if not version:
        raise DeriveError(f"{wheel.name} does not say of which version it is")
    return sources, version[1]


def _scripts(package: tarfile.TarFile) -> Iterator[tuple[str, str]]:
    for member in package:
        found = re.fullmatch(r"package/lib/([\w-]+)/\w+\.js", member.name)
        content = package.extractfile(member) if found else None
        if found and content:
            yield found[1], content.read().decode().split("//# sourceMapping")[0]


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.terraform.derive_schema",
        description=__doc__.splitlines()[0],
        epilog="All types that infra/terraform uses are derived, and those named."
        " example: python -m tests.support.terraform.derive_schema --wheel ~/google.whl"
        " --resource google_compute_address",
    )
    for kind in ("resource", "data"):
        parser.add_argument(
            f"--{kind}", action="append", default=[], metavar="TYPE", help="one more"
        )
    parser.add_argument(
        "--wheel",
        type=Path,
        help=f"a wheel of {PACKAGE} (default: {VERSION} is downloaded, 64 MB)",
    )
    parser.add_argument("--out", type=Path, default=SCHEMA, help="the schema's file")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
