"""The library's import graph, drawn from its sources: what imports what, at whatever place in a file it does so."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

from tools import environment

LIBRARY = "m3adapter"
MAX_LAYERS = 10
MAX_PARTS = 28  # packages and modules directly below the library

Graph = Mapping[str, set[str]]


def module_graph(root: Path, package: str = LIBRARY) -> dict[str, set[str]]:
    """Return, for each module of a package, the modules of that package that it imports.

    Imports below ``TYPE_CHECKING`` and inside functions count like all others.
    """
    paths = {dotted_name(path.relative_to(root)): path for path in root.joinpath(package).rglob("*.py")}
    return {name: imported(name, path, paths) - {name} for name, path in paths.items()}


def dotted_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(name: str, path: Path, modules: Mapping[str, Path]) -> set[str]:
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    targets: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                target = f"{source}.{alias.name}"
                targets.add(target if target in modules else source)
        elif isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names} - {"nodes"}  # the name of a module of ComfyUI's
    return targets & modules.keys()


def part(module: str) -> str:
    """Return the package or module directly below the library that a module belongs to."""
    return ".".join(module.split(".")[:2])


def part_graph(modules: Graph) -> dict[str, set[str]]:
    """Return the same graph between the parts directly below the library."""
    parts: dict[str, set[str]] = {part(module): set() for module in modules}
    for module, targets in modules.items():
        parts[part(module)] |= {part(target) for target in targets} - {part(module)}
    return parts


def layers(graph: Graph) -> dict[str, int]:
    """Return the layer of each node, 1 being those that import nothing; ValueError names a cycle."""
    found: dict[str, int] = {}

    def layer(node: str, path: tuple[str, ...]) -> int:
        if node in path:
            raise ValueError(" -> ".join([*path[path.index(node) :], node]))
        if node not in found:
            found[node] = 1 + max((layer(target, (*path, node)) for target in sorted(graph[node])), default=0)
        return found[node]

    for node in sorted(graph):
        layer(node, ())
    return found


@pytest.mark.parametrize("package", [LIBRARY, "nodes", "tools"])
def test_no_module_imports_itself_by_way_of_others(package: str) -> None:
    graph = module_graph(environment.REPO, package)
    assert sum(map(len, graph.values())) > 10
    layers(graph)


def test_the_parts_of_the_library_stand_in_at_most_ten_layers() -> None:
    graph = part_graph(module_graph(environment.REPO))
    assert max(layers(graph).values()) <= MAX_LAYERS
    assert len(graph) - 1 <= MAX_PARTS  # not the library itself


def test_the_method_knows_nothing_of_its_interface() -> None:
    for path in environment.REPO.joinpath(LIBRARY).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {name.split(".")[0] for name in names} & {"nodes", "comfy", "comfy_api", "server"}, path


def test_a_cycle_is_found_and_named(tmp_path: Path) -> None:
    sources = {
        "m3adapter/__init__.py": "",
        "m3adapter/low.py": "",
        "m3adapter/pack/__init__.py": "",
        "m3adapter/pack/one.py": "from ..low import x\ndef later():\n    from . import two\n",
        "m3adapter/pack/two.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .one import y\n",
    }
    for name, source in sources.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, "utf-8")
    graph = module_graph(tmp_path)
    assert graph["m3adapter.pack.one"] == {"m3adapter.low", "m3adapter.pack.two"}
    assert layers(part_graph(graph))["m3adapter.pack"] == 2
    with pytest.raises(ValueError, match="^m3adapter.pack.one -> m3adapter.pack.two -> m3adapter.pack.one$"):
        layers(graph)
