"""`make graph`: draw the imports in `common/`, a line for each package, top down.

A package stands above all that it imports; the exit status is 1 if packages import each
other in a circle.
"""

import argparse
import graphlib
import json
import sys
from collections.abc import Sequence

import grimp

ROOT = "common"

Graph = dict[str, set[str]]


def imports() -> Graph:
    """Return, for each package and module directly in `common`, what it imports."""
    graph = grimp.build_graph(ROOT)
    found: Graph = {_package(child): set() for child in graph.find_children(ROOT)}
    for module in graph.modules - {ROOT}:
        for imported in graph.find_modules_directly_imported_by(module):
            if imported != ROOT and _package(imported) != _package(module):
                found[_package(module)].add(_package(imported))
    return found


def _package(module: str) -> str:
    return module.split(".")[1]


def levels(graph: Graph) -> list[list[str]]:
    """Return the packages by level, top down; raise `graphlib.CycleError`.

    A package imports only from levels below its own.
    """
    sorter = graphlib.TopologicalSorter(graph)
    sorter.prepare()
    found: list[list[str]] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        found.insert(0, ready)
        sorter.done(*ready)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print the graph; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="make graph", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    arguments = parser.parse_args(argv)
    graph = imports()
    try:
        ordered = levels(graph)
    except graphlib.CycleError as error:
        print(f"graph: a circle: {' -> '.join(error.args[1])}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({"levels": ordered, "imports": _sorted(graph)}))
        return 0
    for level in ordered:
        for name in level:
            print(f"{name:<12} -> {', '.join(sorted(graph[name])) or '(nothing)'}")
        print()
    return 0


def _sorted(graph: Graph) -> dict[str, list[str]]:
    return {name: sorted(found) for name, found in sorted(graph.items())}


if __name__ == "__main__":
    raise SystemExit(main())
