"""Find the modules and packages that a function's sources import, without importing.

Imports for type checking do not count; `find_spec("x")` does.
"""

import ast
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

OURS = "common"
# Distributions whose name differs from their module's. Many share the package `google`,
# so an unlisted module below it is named in full.
_DISTRIBUTIONS = {
    "google.api_core": "google-api-core",
    "google.auth": "google-auth",
    "google.cloud.pubsub_v1": "google-cloud-pubsub",
    "google.cloud.sql": "cloud-sql-python-connector",
    "grpc": "grpcio",
    "jwt": "pyjwt",
    "yaml": "pyyaml",
    "opentelemetry.context": "opentelemetry-api",
    "opentelemetry.exporter": "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry.metrics": "opentelemetry-api",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "opentelemetry.trace": "opentelemetry-api",
}


@dataclass(frozen=True)
class Reached:
    """Our files, in order, and names of distributions."""

    modules: tuple[Path, ...]
    packages: frozenset[str]


def reach(
    checkout: Path, entries: Iterable[Path], left_out: Collection[str]
) -> Reached:
    """Return everything that `entries` import, directly or not, except for `left_out`.

    Each of these is a module of ours, left out with all that is below it.
    """
    modules: set[Path] = set()
    packages: set[str] = set()
    pending = list(entries)
    while pending:
        for name in _imports(ast.parse(pending.pop().read_bytes())):
            top = name.partition(".")[0]
            if top != OURS:
                if top not in sys.stdlib_module_names:
                    packages.add(_distribution(name))
                continue
            parts = name.split(".")
            for length in range(1, len(parts) + 1):
                module = ".".join(parts[:length])
                if module in left_out:
                    break
                found = _source(checkout, module)
                if found is not None and found not in modules:
                    modules.add(found)
                    pending.append(found)
    return Reached(tuple(sorted(modules)), frozenset(packages))


def _distribution(module: str) -> str:
    """Return the name of the distribution that a module is from."""
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        if found := _DISTRIBUTIONS.get(".".join(parts[:length])):
            return found
    own = parts if parts[0] == "google" else parts[:1]
    return "-".join(own).replace("_", "-")


def _source(checkout: Path, module: str) -> Path | None:
    """Return a module's file; None for the name of something inside a module."""
    path = checkout.joinpath(*module.split("."))
    found = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return found if found.exists() else None


def _imports(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            for each in node.orelse:
                yield from _imports(each)
            return
        case ast.Import():
            yield from (alias.name for alias in node.names)
        case ast.ImportFrom(module=str(module)):
            yield from (f"{module}.{alias.name}" for alias in node.names)
        case ast.Call(
            func=ast.Name(id="find_spec"), args=[ast.Constant(value=str(name))]
        ):
            yield name
    for child in ast.iter_child_nodes(node):
        yield from _imports(child)
